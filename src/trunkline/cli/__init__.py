"""The command line: a thin shell over the server, the agent, the lab and the client."""
