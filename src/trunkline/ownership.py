"""How things of ours are named and marked on a host. Nothing else names things.

A mark lives in the kernel itself, so that an agent with an empty memory knows what is ours:
links carry a group number from the moment of their creation (``ip link show group 29810``),
floating addresses an address protocol, routes and proxied neighbours a route protocol, rules
live in tables of our own, and a network namespace's loopback says whose it is. A name alone is
no proof: ``br100`` without the group is somebody else's and is never touched.
"""

from __future__ import annotations

import re
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network

from trunkline.model import DomainId, HostName, NetworkId, PortId

LINK_GROUP = 29810
"""Link group of our bridges and VLAN devices: set in the message that creates them, because an
alias needs a second message and a crash in between would orphan the device."""

ADDRESS_PROTOCOL = 116
"""``IFA_PROTO`` of addresses that we put on links which are not ours (kernel >= 5.18)."""

ROUTE_PROTOCOL = 116
"""``RTA_PROTOCOL`` of our routes and ``NDA_PROTOCOL`` of addresses that we answer ARP for."""

TABLE = "trunkline"
"""Name of our nftables tables; whatever is inside is ours."""

METADATA_PORT = 9697
"""Where a host's metadata proxy listens, on its gateway addresses; the rules lead there."""

ELECTION_MARKS = IPv4Network("169.254.128.0/24")
"""Addresses that keepalived has on the loopback while this host acts for a router, by its number:
link-local (RFC 3927), so never routed, and so also there for an agent with an empty memory."""

LINK_NAME_MAX = 15  # IFNAMSIZ - 1
LINK_NAME = re.compile(r"[\w.-]+", re.ASCII)


def alias(network_id: NetworkId, trunk: str = "") -> str:
    """Return the interface alias that says which network a link serves.

    Args:
        network_id: The network.
        trunk: Of a bridge that has a NIC plugged in, that NIC: it carries no mark of its own.
    """
    plugged = f"trunk={trunk} " if trunk else ""
    return f"trunkline {plugged}network={network_id}"


def plugged_trunk(bridge_alias: str) -> str:
    """Return the NIC that a bridge's alias names; the empty string if it names none."""
    words = (word.partition("=") for word in bridge_alias.split())
    return next((value for key, _, value in words if key == "trunk"), "")


def bridge_name(vlan_id: int | None, physical_network: str, namesake: int) -> str:
    """Return the bridge's name: ``br100`` as in the article, ``br-physnet1`` without a VLAN.

    What does not fit into a link's name as it is, goes by its digest.

    Args:
        vlan_id: The network's VLAN; None is a flat network.
        physical_network: Where the VLAN is.
        namesake: Which of the networks with that VLAN id it is, as each physical network may
            have one: the first is ``br100``, those after it ``br100-1`` and so on.
    """
    if vlan_id is not None:
        return f"br{vlan_id}-{namesake}" if namesake else f"br{vlan_id}"
    name = f"br-{physical_network}"
    if len(name) <= LINK_NAME_MAX and LINK_NAME.fullmatch(name):
        return name
    return f"br-{sha256(physical_network.encode()).hexdigest()[:12]}"


def vlan_name(bridge: str) -> str:
    """Return the name of a bridge's 802.1Q device, as the article has it: ``vlan100``."""
    return f"vlan{bridge.removeprefix('br')}"


TAP_ID = len("tap")  # where in an interface's name its port's id begins


def tap_name(port_id: PortId) -> str:
    """Return the name under which a hypervisor plugs a port: ``tap`` and 11 characters.

    Source: os-vif and Nova, ``NIC_NAME_LEN``; libvirt domains must name their target so.
    """
    return f"tap{port_id[:11]}"


def gateway_mac(host: HostName, network_id: NetworkId) -> str:
    """Return the MAC of a host's bridge on a network: the same at every start, one per host.

    A bridge that may choose takes its lowest port's MAC and changes it as instances come and
    go, which cuts every instance's ARP entry for its gateway. The first octet is locally
    administered, and differs from the ``fa`` of instance ports.
    """
    digest = sha256(f"{host}/{network_id}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x0A, *digest[:5]))


def anycast_mac(network_id: NetworkId) -> str:
    """Return the MAC of a network's bridges where all hosts have the same gateway.

    It is that of no host, which the API shows for the gateway's port.
    """
    return gateway_mac(HostName(""), network_id)


def segment_mac(host: HostName, network_id: NetworkId) -> str:
    """Return the MAC of a bridge that only switches: its gateway is in a space, as a port of it."""
    digest = sha256(f"{host}/{network_id}/segment".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x0A, *digest[:5]))


SPACE_PREFIX = "tl-"


def space_name(domain: DomainId, host: HostName) -> str:
    """Return the name of the network namespace that routes for a domain on a host.

    The host is part of it, since hosts of a lab share one machine's list of names.
    """
    return f"{SPACE_PREFIX}{domain[:11]}-{_host_digest(host)}"


def is_space_of(name: str, host: HostName) -> bool:
    """Return whether a namespace is called as one of this host's spaces is."""
    return name.startswith(SPACE_PREFIX) and name.endswith(f"-{_host_digest(host)}")


def _host_digest(host: HostName) -> str:
    return sha256(host.encode()).hexdigest()[:4]


def space_mark(state_dir: str) -> str:
    """Return the alias of the loopback in a space of the agent that has this state directory.

    It is set before the namespace gets its name, so none of ours is ever without it.
    """
    return f"trunkline space of {state_dir}"


def cable_name(bridge: str) -> str:
    """Return the name of the bridge port behind which a network's gateway is: ``gw100``."""
    return f"gw{bridge.removeprefix('br')}"


def transit_name(domain: DomainId) -> str:
    """Return the name of the host's end of the way between a space and the outside."""
    return f"tr{domain[:11]}"


def election_mark(number: int) -> IPv4Address:
    """Return the address that says that this host acts for the router of a number."""
    return ELECTION_MARKS[number]


def elected(address: IPv4Address) -> int | None:
    """Return the number of the router that an address says this host acts for, if it does."""
    return int(address) & 255 if address in ELECTION_MARKS else None
