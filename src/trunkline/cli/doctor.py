"""``trunkline doctor``: what this machine offers, what is chosen because of it, what is missing.

Exit codes: 0 nothing is missing, 1 something is, or the wire has a fault.
"""

from __future__ import annotations

import platform
import shutil
import socket
from argparse import ArgumentParser, Namespace, _SubParsersAction
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trunkline.cli.agent import DEFAULT_CONFIG
from trunkline.errors import RequestError, ServerUnavailable
from trunkline.hoststate import HostConfig, VlanMaking
from trunkline.ownership import METADATA_PORT

if TYPE_CHECKING:
    from trunkline.agent.config import AgentConfig, MetadataConfig
    from trunkline.hoststate import HostFacts

HTTP_PORT, ANSWER_S = 80, 3.0
LISTENING = "0A"  # net/tcp_states.h: TCP_LISTEN
NO_HOST = HostConfig("", {}, uplink=None, routing_source=None, snat_exempt=(), state_dir="")

MAKINGS = {
    VlanMaking.KERNEL: "8021q: this kernel has its own type",
    VlanMaking.BPF: "tc-bpf: this kernel has no 8021q, and tags by a program on a veth pair",
    None: "none works",
}


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the command."""
    text = "say what this kernel and machine offer"
    parser = commands.add_parser("doctor", help=text, description=text)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="%(default)s")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Say what this machine offers, what is chosen because of it, and what is missing."""
    from trunkline.agent.config import load  # noqa: PLC0415
    from trunkline.kernel import drops  # noqa: PLC0415
    from trunkline.kernel.linux import LinuxKernel  # noqa: PLC0415

    unconfigured = args.config == DEFAULT_CONFIG and not DEFAULT_CONFIG.exists()
    config = None if unconfigured else load(args.config)
    facts = LinuxKernel().facts(config.host if config else NO_HOST)
    findings = list(facts.missing)
    print(f"kernel            Linux {platform.release()}")
    print(f"VLAN devices      {MAKINGS[facts.vlan_making]}")
    filtered = "on our bridges only" if facts.bridge_netfilter else "impossible: no br_netfilter"
    print(f"bridged packets   filtered {filtered}")
    here = shutil.which("keepalived")
    print(f"keepalived        {'is there' if here else 'only for routers on several hosts: none'}")
    silent = drops.missing()
    print(f"drop reasons      {f'not told by live traces: {silent}' if silent else 'told'}")
    if config is None:
        print(f"configuration     none at {DEFAULT_CONFIG}: NICs and server are not looked at")
    else:
        findings += _show_cabling(config, facts)
    if not facts.missing:
        print("nftables          has every kind of rule that is needed")
        print("programs          nft and dnsmasq are there")
    faults = _show_wire(config) if config else []
    for finding in findings:
        print(f"missing: {finding}")
    for fault in faults:
        print(f"fault: {fault}")
    return 1 if findings or faults else 0


def _show_cabling(config: AgentConfig, facts: HostFacts) -> list[str]:
    """Print how the host is cabled; return what of it is missing."""
    findings = []
    for physical_network, nic in config.host.trunks.items():
        findings += _show_link(f"trunk {physical_network}", nic, facts.links)
        if any(link == nic for _, link in facts.foreign_prefixes):
            print(f"{'':<18}carries addresses, so it can have VLANs and no flat network")
    if config.host.uplink:
        findings += _show_link("uplink", config.host.uplink, facts.links)
        source = config.host.routing_source or facts.uplink_address
        print(f"routing source    {source or 'none: the uplink has no address'}")
        for router, address in sorted(config.host.routing_sources.items()):
            print(f"{'':<18}{address} for router {router}")
        given = (config.host.routing_source, *config.host.routing_sources.values())
        findings += [_unheld(config.host.uplink, one) for one in given if one and not _is_held(one)]
    print(f"server            {config.server}: {_server_state(config)}")
    if config.metadata:
        findings += _show_metadata(config.metadata)
    return findings


def _unheld(uplink: str, source: IPv4Address) -> str:
    return (
        f"routing source {source} is no address of this host, so nobody brings answers to it here;"
        f" run: ip addr add {source}/32 dev {uplink}"
    )


def _is_held(address: IPv4Address) -> bool:
    """Return whether this host has an address: only then can a socket be bound to it."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        try:
            sock.bind((str(address), 0))
        except OSError:
            return False
    return True


def _show_metadata(config: MetadataConfig) -> list[str]:
    """Print where instances' metadata is from; return what of the way there is missing."""
    refusal, runs = _refusal(config.service), _is_listened_at(METADATA_PORT)
    print(f"metadata          {config.service}: {refusal or 'answers'}")
    print(f"{'':<18}the proxy {'runs' if runs else 'does not run'} on this host")
    findings = [f"metadata service {config.service}: {refusal}"] if refusal else []
    return findings if runs else [*findings, "the metadata proxy; run: trunkline metadata"]


def _is_listened_at(port: int) -> bool:
    """Return whether somebody here listens on a TCP port (proc(5)): ours lets nobody ask it."""
    sockets = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(s[1].endswith(f":{port:04X}") and s[3] == LISTENING for s in sockets)


def _refusal(url: str) -> str:
    """Return why nobody accepts connections at a URL; empty if somebody does."""
    parts = urlsplit(url)
    family = socket.AF_UNIX if parts.scheme == "unix" else socket.AF_INET
    place = parts.path if parts.scheme == "unix" else (parts.hostname, parts.port or HTTP_PORT)
    with closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
        sock.settimeout(ANSWER_S)
        try:
            sock.connect(place)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _show_link(role: str, nic: str, links: frozenset[str]) -> list[str]:
    print(f"{role:<18}{nic}")
    return [] if nic in links else [f"{role} {nic} does not exist on this host"]


def _show_wire(config: AgentConfig) -> list[str]:
    """Print when the wire was last probed; return what was wrong with it then."""
    from trunkline.client import AgentClient  # noqa: PLC0415

    try:
        at, faults = AgentClient(config.server, config.token, config.host.host).wire()
    except (ServerUnavailable, RequestError):
        return []  # what the server's line says already
    print(f"wire              {f'probed at {at}' if at else 'never probed; see trunkline probe'}")
    return faults


def _server_state(config: AgentConfig) -> str:
    from trunkline.client import AgentClient  # noqa: PLC0415

    try:
        snapshot = AgentClient(config.server, config.token, config.host.host).snapshot(None, 0)
    except (ServerUnavailable, RequestError) as error:
        return str(error)
    return f"answers, revision {snapshot.revision}" if snapshot else "answers"
