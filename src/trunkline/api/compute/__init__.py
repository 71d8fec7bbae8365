"""The network commands that Nova's API once had, for clients and scripts that still send them."""
