"""The agent: one per host, makes the host what its snapshot says, and reports what it saw."""
