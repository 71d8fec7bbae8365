"""Trunkline: VLAN tenant networking for Linux hypervisors."""

__version__ = "0.1.0"
