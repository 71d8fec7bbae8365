"""Network namespaces and the simple links, addresses and routes that a lab puts in them.

Namespaces are files under /run/netns, as ``ip netns`` keeps them, so that every tool finds
them (ip-netns(8)). A namespace belongs to a thread: ``enter`` moves the calling thread only.
Everything here is by netlink and system calls; nothing knows what the namespaces are for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket as sockets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from trunkline.errors import Rejected
from trunkline.kernel import exec as programs
from trunkline.kernel import sysctl as sysctls

RUN = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # sched.h
MS_BIND, MS_REC, MS_SHARED, MNT_DETACH = 0x1000, 0x4000, 1 << 20, 2  # mount.h
SELF = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def names() -> tuple[str, ...]:
    """Return the names of all named namespaces, sorted."""
    return tuple(sorted(path.name for path in RUN.iterdir())) if RUN.is_dir() else ()


def inode(name: str) -> int:
    """Return the number that tells a namespace from all others; 0 if there is none."""
    try:
        return (RUN / name).stat().st_ino
    except OSError:
        return 0


def here() -> int:
    """Return that number of the namespace that the calling thread is in."""
    return Path(SELF).stat().st_ino


def is_dead(name: str) -> bool:
    """Return whether a name has no namespace: whoever made or deleted it was killed."""
    with suppress(OSError):
        return (RUN / name).stat().st_dev != Path(SELF).stat().st_dev
    return False


def create(name: str, furnish: Callable[[], None] = lambda: None) -> None:
    """Make a namespace with its loopback up.

    Args:
        name: Under which it is found.
        furnish: Called in there, before it has its name.

    Raises:
        Rejected: The name is taken, or this process may not (it needs root).
    """
    _share_run()
    path = RUN / name
    try:
        path.touch(exist_ok=False)
    except FileExistsError as error:
        raise Rejected(f"ip netns add {name}: exists; delete it or choose another") from error
    try:
        with _returning():
            _call("unshare", name, CLONE_NEWNET)
            furnish()
            _call("mount", name, SELF.encode(), bytes(path), b"none", MS_BIND, None)
    except BaseException:
        path.unlink()
        raise
    up(name, "lo")


def delete(name: str) -> None:
    """Forget a namespace; the kernel ends it with its last process. One that is gone is fine."""
    path = RUN / name
    if _libc.umount2(bytes(path), MNT_DETACH) < 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):  # a file left by a crash is no mount
            raise Rejected(f"ip netns del {name}: {os.strerror(number)}")
    path.unlink(missing_ok=True)


@contextmanager
def opened(name: str) -> Iterator[int]:
    """Give a descriptor of a namespace, for a link that shall be made in there.

    Raises:
        Rejected: There is no such namespace.
    """
    try:
        fd = os.open(RUN / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Rejected(f"network namespace {name}: there is none of this name") from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def enter(name: str) -> Iterator[None]:
    """Move the calling thread, and the processes it starts meanwhile, into a namespace.

    Raises:
        Rejected: There is no such namespace.
    """
    with opened(name) as fd, _returning():
        _call("setns", name, fd, CLONE_NEWNET)
        yield


@contextmanager
def throwaway() -> Iterator[None]:
    """Move the calling thread into a fresh namespace that ends with the block.

    Raises:
        Rejected: This process may not (it needs root).
    """
    with _returning():
        _call("unshare", "of a trial", CLONE_NEWNET)
        yield


def run(
    name: str, argv: Sequence[str], timeout_s: float = 10, stdin: str = ""
) -> programs.Completed:
    """Run a program to its end in a namespace; see ``exec.run``."""
    with enter(name):
        return programs.run(argv, timeout_s, stdin)


def spawn(name: str, argv: Sequence[str], stdout: str) -> programs.Process:
    """Start a program in a namespace, its output into a file; see ``exec.spawn``."""
    with enter(name):
        return programs.spawn(argv, stdout)


def socket(name: str, family: int, kind: int, protocol: int = 0) -> sockets.socket:
    """Open a socket in a namespace; it stays there wherever the thread goes."""
    with enter(name):
        return sockets.socket(family, kind, protocol)


def veth(ns_a: str, name_a: str, mac_a: str | None, ns_b: str, name_b: str) -> None:
    """Lay a cable between two namespaces; both ends are down. None lets the kernel choose."""
    link = {"ifname": name_a, "kind": "veth"} | ({"address": mac_a} if mac_a else {})
    words = f"ip link add {name_a} type veth peer {name_b} netns {ns_b}"
    with opened(ns_b) as fd, _netlink(ns_a, words) as rtnl:
        rtnl.link("add", **link, peer={"ifname": name_b, "net_ns_fd": fd})


def bridge(ns: str, name: str, ports: Sequence[str] = ()) -> None:
    """Make a bridge that forwards at once, with these links plugged in, all of them up."""
    with _netlink(ns, f"ip link add {name} type bridge") as rtnl:
        rtnl.link(
            "add", ifname=name, kind="bridge", br_forward_delay=0, br_mcast_snooping=0, state="up"
        )
        master = _index(rtnl, name)
        for port in ports:
            rtnl.link("set", index=_index(rtnl, port), master=master, state="up")


def plug(ns: str, link: str, bridge: str) -> None:
    """Plug a link into a bridge, and bring it up."""
    with _netlink(ns, f"ip link set {link} master {bridge} up") as rtnl:
        master = _index(rtnl, bridge)
        rtnl.link("set", index=_index(rtnl, link), master=master, state="up")


def up(ns: str, link: str) -> None:
    """Bring a link up."""
    with _netlink(ns, f"ip link set {link} up") as rtnl:
        rtnl.link("set", index=_index(rtnl, link), state="up")


def down(ns: str, link: str) -> None:
    """Bring a link down."""
    with _netlink(ns, f"ip link set {link} down") as rtnl:
        rtnl.link("set", index=_index(rtnl, link), state="down")


def delete_link(ns: str, link: str) -> None:
    """Delete a link; a veth's other end goes with it."""
    with _netlink(ns, f"ip link del {link}") as rtnl:
        rtnl.link("del", index=_index(rtnl, link))


def address(ns: str, link: str, interface: IPv4Interface | IPv6Interface) -> None:
    """Put an address on a link."""
    with _netlink(ns, f"ip addr add {interface} dev {link}") as rtnl:
        rtnl.addr(
            "add",
            index=_index(rtnl, link),
            address=str(interface.ip),
            prefixlen=interface.network.prefixlen,
        )


def route(
    ns: str,
    destination: IPv4Network,
    via: IPv4Address | None = None,
    link: str | None = None,
) -> None:
    """Add a route by a next hop, by a link, or by both."""
    words = f"ip route add {destination} via {via} dev {link}"
    with _netlink(ns, words) as rtnl:
        target: dict[str, object] = {"gateway": str(via)} if via else {}
        if link:
            target["oif"] = _index(rtnl, link)
        if not via:
            target["scope"] = "link"
        rtnl.route("add", dst=str(destination), **target)


def sysctl(ns: str, key: str, value: str) -> None:
    """Write a sysctl in a namespace.

    Raises:
        Rejected: The kernel has no such sysctl or refuses the value.
    """
    with enter(ns):
        try:
            sysctls.write(key, value)
        except OSError as error:
            raise Rejected(f"sysctl -w {key}={value} in {ns}: {error.strerror}") from error


@contextmanager
def _netlink(ns: str, command: str) -> Iterator[IPRoute]:
    """Give a netlink socket in a namespace; refusals carry the equivalent command."""
    with enter(ns):
        rtnl = IPRoute()
    try:
        yield rtnl
    except NetlinkError as error:
        raise Rejected(f"{command} in {ns}: {error.args[1]}") from error
    finally:
        rtnl.close()


def _index(rtnl: IPRoute, link: str) -> int:
    found = rtnl.link_lookup(ifname=link)
    if not found:
        raise Rejected(f"link {link}: there is none of this name")
    return int(found[0])


@contextmanager
def _returning() -> Iterator[None]:
    """Bring the calling thread back to the namespace it is in now."""
    home = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _call("setns", "home", home, CLONE_NEWNET)
        os.close(home)


def _share_run() -> None:
    """Make /run/netns a shared mount, so that namespaces show in every mount namespace."""
    RUN.mkdir(mode=0o755, exist_ok=True)
    run_dir = bytes(RUN)
    with suppress(Rejected):
        _call("mount", "shared", None, run_dir, b"none", MS_SHARED | MS_REC, None)
        return
    _call("mount", "/run/netns", run_dir, run_dir, b"none", MS_BIND | MS_REC, None)
    _call("mount", "shared", None, run_dir, b"none", MS_SHARED | MS_REC, None)


def _call(function: str, subject: str, *args: object) -> None:
    """Call the C library; a failure is Rejected with the errno's words."""
    if getattr(_libc, function)(*args) < 0:
        words = os.strerror(ctypes.get_errno())
        raise Rejected(f"{function}, network namespace {subject}: {words}; are you root?")
