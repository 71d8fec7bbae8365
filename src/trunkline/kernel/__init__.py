"""The one door to the kernel and its daemons."""
