"""From JSON and query text to values. Each converter returns a value or raises ValueError.

The error's text is the end of a sentence that begins with the field's name; the offending value
is quoted, shortened, so that no message grows with what was sent.
"""

# ruff: noqa: TRY004  to whoever sent it, a wrong type is a malformed value like any other

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from json import dumps
from typing import Any

from trunkline.core.allocate import BITS
from trunkline.db.engine import format_time
from trunkline.model import VLAN_ID_MAX, VLAN_ID_MIN, IpAddress, IpNetwork
from trunkline.service.security_groups import PROTOCOLS

Converter = Callable[[Any], Any]
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Typed:
    """A converter that can say what it takes and what becomes of it, as JSON Schema.

    Attributes:
        convert: The converter.
        taken: What it takes; what else it refuses, its error says.
        shown: What the API shows of its values.
    """

    convert: Converter
    taken: Schema
    shown: Schema

    def __call__(self, value: Any) -> Any:
        """Convert a value."""
        return self.convert(value)


def typed(taken: Schema, shown: Schema | None = None) -> Callable[[Converter], Typed]:
    """Return what gives a converter its schemas; it shows what it takes if nothing else is said."""
    return lambda convert: Typed(convert, taken, taken if shown is None else shown)


def _schemas(convert: Converter) -> tuple[Schema, Schema]:
    """Return what a converter takes and shows: anything, if it does not say."""
    return (convert.taken, convert.shown) if isinstance(convert, Typed) else ({}, {})


STRING = {"type": "string"}
SPELLED = {"type": ["string", "integer"]}  # clients send numbers as text, too

TRUE, FALSE = {"true", "1", "yes", "on", "t", "y"}, {"false", "0", "no", "off", "f", "n"}
MULTICAST_BIT = 1
PROTOCOL_MAX = 255
LIST_MAX = 64
DHCP_OPTION_END = 255  # RFC 2132
DHCP_OPTIONS = (
    *("netmask", "time-offset", "router", "dns-server", "log-server", "lpr-server", "hostname"),
    *("boot-file-size", "domain-name", "swap-server", "root-path", "extension-path"),
    *("ip-forward-enable", "policy-filter", "max-datagram-reassembly", "default-ttl", "mtu"),
    *("router-discovery", "static-route", "arp-timeout", "tcp-ttl", "tcp-keepalive"),
    *("nis-domain", "nis-server", "ntp-server", "netbios-ns", "netbios-dd", "netbios-nodetype"),
    *("x-windows-fs", "x-windows-dm", "requested-address", "vendor-class", "nis+-domain"),
    *("nis+-server", "tftp-server", "bootfile-name", "mobile-ip-home", "smtp-server"),
    *("pop3-server", "nntp-server", "irc-server", "user-class", "posix-timezone"),
    *("tzdb-timezone", "domain-search", "sip-server", "classless-static-route"),
    *("server-ip-address",),
)
"""The names that dnsmasq has for options (``dnsmasq --help dhcp``)."""
PAIRS_MAX = 10  # as in Neutron (max_allowed_address_pair)
TAG_MAX = 255  # as in Neutron
IPV6_UNICAST = (IPv6Network("2000::/3"), IPv6Network("fc00::/7"))  # RFC 4291, RFC 4193
PROFILE_MAX = 4095  # as in Neutron, where it is a column's width

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*\.?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def quoted(value: Any) -> str:
    """Return a value for a message, shortened."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004  a line on a screen


def text(longest: int) -> Converter:
    """Return the converter of a text without control characters."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{quoted(value)} is not a string")
        if len(value) > longest:
            raise ValueError(f"{quoted(value)} exceeds maximum length of {longest}")
        found = _CONTROL.search(value)
        if found:
            raise ValueError(f"{quoted(value)} holds the character {found.group()!a}")
        return value

    return Typed(convert, {**STRING, "maxLength": longest}, STRING)


name = text(255)


def text_of_some(longest: int) -> Converter:
    """Return a converter to texts that are not blank."""
    inner = text(longest)

    def convert(value: Any) -> str:
        found: str = inner(value)
        if not found.strip():
            raise ValueError(f"{quoted(value)}: it must not be blank")
        return found

    return typed(STRING)(convert)


def text_or_null(longest: int) -> Converter:
    """Return the converter of a text for which null means the empty one."""
    convert = text(longest)
    taken = {"type": ["string", "null"], "maxLength": longest}
    return Typed(lambda value: "" if value is None else convert(value), taken, STRING)


def filter_text(value: Any) -> str:
    """Return a filter's value as it is."""
    return str(value)


def filter_time(value: Any) -> str:
    """Return a moment in the form that the tables hold; one without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{quoted(value)} is no time such as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return format_time(moment.astimezone(UTC))
    except OverflowError:
        raise ValueError(f"{quoted(value)} is out of any calendar") from None


@typed({"type": ["boolean", "string", "integer"]}, {"type": "boolean"})
def boolean(value: Any) -> bool:
    """Return a truth value from JSON, or from any spelling that clients use."""
    if isinstance(value, bool):
        return value
    spelled = str(value).lower() if isinstance(value, str | int) else ""
    if spelled in TRUE:
        return True
    if spelled in FALSE:
        return False
    raise ValueError(f"{quoted(value)} is not a boolean")


def number(value: Any) -> int:
    """Return an integer; clients send them as text, too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    raise ValueError(f"{quoted(value)} is not an integer")


def tag(value: Any) -> str:
    """Return one tag."""
    found: str = text(TAG_MAX)(value)
    if not found or "," in found:
        raise ValueError(f"{quoted(value)} is empty or holds a comma, which separates tags")
    return found


@typed({"type": "array", "items": STRING})
def tags(value: Any) -> list[str]:
    """Return an object's tags, sorted."""
    if not isinstance(value, list):
        raise ValueError(f"{quoted(value)} is not a list")
    found = [tag(item) for item in value]
    if len(set(found)) < len(found):
        raise ValueError(f"{quoted(value)} has a tag twice")
    return sorted(found)


def filter_tags(value: Any) -> list[str]:
    """Return the tags that a filter has between commas."""
    return [tag(item) for item in str(value).split(",")]


def filter_number(value: Any) -> int:
    """Return a filter's integer, of a size that every database takes."""
    found = number(value)
    if abs(found) >= 2**31:
        raise ValueError(f"{quoted(value)} is too large")
    return found


def integer(lowest: int, highest: int) -> Converter:
    """Return the converter of an integer within bounds."""

    def convert(value: Any) -> int:
        found = number(value)
        if not lowest <= found <= highest:
            raise ValueError(f"{quoted(value)} is not in {lowest} to {highest}")
        return found

    shown = {"type": "integer", "minimum": lowest, "maximum": highest}
    return Typed(convert, {**SPELLED, "minimum": lowest, "maximum": highest}, shown)


def one_of(*choices: str) -> Converter:
    """Return the converter of one of a few words, in any case."""
    by_lower = {choice.lower(): choice for choice in choices}

    def convert(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in by_lower:
            raise ValueError(f"{quoted(value)} is not one of {', '.join(choices)}")
        return by_lower[value.lower()]

    return Typed(convert, STRING, {"enum": [str(choice) for choice in choices]})


def or_null(convert: Converter) -> Converter:
    """Return the converter that lets null pass."""
    taken, shown = (
        {"anyOf": [schema, {"type": "null"}]} if schema else {} for schema in _schemas(convert)
    )
    return Typed(lambda value: None if value is None else convert(value), taken, shown)


def list_of(convert: Converter) -> Converter:
    """Return the converter of a list that is not long."""

    def convert_all(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"{quoted(value)} is not a list")
        if len(value) > LIST_MAX:
            raise ValueError(f"it has {len(value)} entries, at most {LIST_MAX} are allowed")
        return [convert(item) for item in value]

    taken, shown = ({"type": "array", "items": schema} for schema in _schemas(convert))
    return Typed(convert_all, {**taken, "maxItems": LIST_MAX}, shown)


def unique(convert: Converter) -> Converter:
    """Return a converter to lists in which nothing is there twice."""
    many = list_of(convert)

    def convert_all(value: Any) -> list[Any]:
        found: list[Any] = many(value)
        twice = next((one for i, one in enumerate(found) if one in found[:i]), None)
        if twice is not None:
            raise ValueError(f"{quoted(twice)} is in the list twice")
        return found

    return typed(*_schemas(many))(convert_all)


def or_empty(whole: Converter) -> Converter:
    """Return a converter of lists that are empty where clients send null."""
    taken, shown = _schemas(whole)
    return Typed(
        lambda value: [] if value is None else whole(value),
        {**taken, "type": ["array", "null"]},
        shown,
    )


@typed(STRING)
def uuid(value: Any) -> str:
    """Return an id in the canonical form."""
    if not isinstance(value, str) or not _UUID.fullmatch(value.lower()):
        raise ValueError(f"{quoted(value)} is not a valid UUID")
    return value.lower()


@typed(STRING)
def project_id(value: Any) -> str:
    """Return a project's id, which other services choose."""
    found: str = name(value)
    if not found:
        raise ValueError("it must not be empty")
    return found


@typed(SPELLED, {"enum": [4, 6]})
def ip_version(value: Any) -> int:
    """Return an IP version."""
    found = number(value)
    if found not in BITS:
        raise ValueError(f"{quoted(value)} is no IP version; use 4 or 6")
    return found


@typed(STRING)
def address(value: Any) -> IpAddress:
    """Return an address of either IP version."""
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not an IP address, which is a string")
    try:
        found = ip_address(value)
    except ValueError:
        raise ValueError(f"{quoted(value)} is not a valid IP address") from None
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            raise ValueError(f"{quoted(value)} is not a valid IP address: leave the link out")
        _require_own(IPv6Network(found))
    return found


def _require_own(found: IPv6Network) -> None:
    """Raise ValueError for what is IPv4 in other clothes (RFC 4291, 2.5.5), or nothing."""
    for foreign in (IPv6Network("::/96"), IPv6Network("::ffff:0:0/96")):
        if found.subnet_of(foreign):
            raise ValueError(f"{found} is of {foreign}, which no interface on a network has")


@typed(STRING)
def address_text(value: Any) -> str:
    """Return an address in its usual spelling."""
    return str(address(value))


@typed(STRING)
def ipv4_text(value: Any) -> str:
    """Return an IPv4 address, where nothing else makes sense, in its usual spelling."""
    found = address(value)
    if found.version != 4:  # noqa: PLR2004  it is what the sentence says
        raise ValueError(f"{found} is IPv6; here only IPv4 is offered")
    return str(found)


@typed(STRING)
def prefix(value: Any) -> IpNetwork:
    """Return a prefix of either IP version, without host bits."""
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not a valid CIDR, which is a string")
    try:
        found = ip_network(value, strict=False)
        start, _, length = value.partition("/")
        spelled = f"{ip_address(start)}/{length}"
    except ValueError:
        raise ValueError(f"{quoted(value)} is not a valid IP subnet") from None
    if str(found) != spelled:
        raise ValueError(f"{quoted(value)} is not a recognized IP subnet cidr, use {found}")
    if isinstance(found, IPv6Network):
        _require_own(found)
    return found


@typed(STRING)
def prefix_text(value: Any) -> str:
    """Return a prefix in its usual spelling."""
    return str(prefix(value))


@typed(STRING)
def ipv4_prefix_text(value: Any) -> str:
    """Return an IPv4 prefix, where nothing else makes sense, in its usual spelling."""
    found = prefix(value)
    if found.version != 4:  # noqa: PLR2004  it is what the sentence says
        raise ValueError(f"{found} is IPv6; here only IPv4 is offered")
    return str(found)


@typed(STRING)
def tenant_prefix(value: Any) -> IpNetwork:
    """Return a prefix that interfaces may have addresses of; host bits of IPv6 are left out."""
    found: IpNetwork = prefix(_without_host_bits(value))
    if isinstance(found, IPv6Network):
        if not any(found.subnet_of(unicast) for unicast in IPV6_UNICAST):
            raise ValueError(
                f"{found} is in neither {IPV6_UNICAST[0]}, which is global, nor"
                f" {IPV6_UNICAST[1]}, which is local to a site"
            )
        return found
    first = IPv4Network("0.0.0.0/8")
    for unusable in (
        found.is_loopback,
        found.is_multicast,
        found.is_link_local,
        found.is_reserved,
        found.overlaps(first),
    ):
        if unusable:
            raise ValueError(f"{found} holds addresses that no interface may have")
    return found


def _without_host_bits(value: Any) -> Any:
    """Return an IPv6 prefix as Neutron takes it, which is strict with IPv4 only."""
    try:
        return str(IPv6Network(value, strict=False)) if "/" in value else value
    except (TypeError, ValueError):
        return value


@typed(STRING)
def ipv4_tenant_prefix(value: Any) -> IPv4Network:
    """Return an IPv4 prefix that interfaces may have addresses of."""
    found = tenant_prefix(value)
    if not isinstance(found, IPv4Network):
        raise ValueError(f"{found} is IPv6; here only IPv4 is offered")
    return found


@typed(STRING)
def any_prefix(value: Any) -> str:
    """Return a prefix of either IP version in its usual spelling, without host bits."""
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not a valid CIDR, which is a string")
    try:
        found = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{quoted(value)} is not a valid IP prefix") from None
    text: str = prefix_text(str(found))
    return text


@typed(STRING)
def mac(value: Any) -> str:
    """Return a MAC that an interface may have, in lower case."""
    found = value.lower().replace("-", ":") if isinstance(value, str) else ""
    if not _MAC.fullmatch(found):
        raise ValueError(f"{quoted(value)} is not a valid MAC address")
    if int(found[:2], 16) & MULTICAST_BIT or found == "00:00:00:00:00:00":
        raise ValueError(f"{quoted(value)} is not the MAC address of one interface")
    return found


def dns_label(value: Any) -> str:
    """Return a DNS label in lower case (RFC 1123), or the empty string."""
    found = value.lower() if isinstance(value, str) else "?"
    if found and not _LABEL.fullmatch(found):
        raise ValueError(f"{quoted(value)} is not a DNS label of letters, digits and hyphens")
    return found


@typed({"type": ["string", "null"]}, STRING)
def host(value: Any) -> str:
    """Return a host's name; null and empty mean none."""
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError(f"{quoted(value)} is not a host name")
    return value


def bound_host(value: Any) -> str:
    """Return the name of a host that something is bound to."""
    found: str = host(value)
    if not found:
        raise ValueError("a host must be named")
    return found


@typed({"type": ["string", "integer", "null"]}, {"type": ["string", "null"]})
def protocol(value: Any) -> str | None:
    """Return an IP protocol by name or number as text; None is any."""
    if value is None or (isinstance(value, str) and value.lower() in ("", "any", "-1")):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{quoted(value)} is not a protocol")
    found = str(value).lower()
    if found in PROTOCOLS:
        return found
    if not re.fullmatch(r"[0-9]{1,3}", found) or int(found) > PROTOCOL_MAX:
        raise ValueError(
            f"{quoted(value)} is no protocol; give a number 0 to {PROTOCOL_MAX}, or one of"
            f" {', '.join(PROTOCOLS)}"
        )
    return str(int(found))


@typed({"type": ["object", "null"]}, {"type": "object"})
def profile(value: Any) -> dict[str, Any]:
    """Return the free-form part of a binding."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{quoted(value)} is not an object")
    if len(dumps(value)) > PROFILE_MAX:
        raise ValueError(f"it exceeds maximum length of {PROFILE_MAX}")
    return value


def nothing(value: Any) -> list[Any]:
    """Return the empty list, all that some attributes may be in this version."""
    if value not in (None, []):
        raise ValueError("only an empty list is supported by this version")
    return []


@typed(STRING)
def service_type(value: Any) -> str:
    """Return a kind of ports that a subnet is for: a ``device_owner``."""
    found: str = name(value)
    if not found.startswith(("network:", "compute:")):
        raise ValueError(f"{quoted(value)} does not correspond to a valid device owner")
    return found


def _object(value: Any, known: Container[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{quoted(value)} is not an object")
    for key in value:
        if key not in known:
            raise ValueError(f"{quoted(key)} is unknown in {quoted(value)}")
    return value


@typed({"type": "object"})
def pool(value: Any) -> tuple[IpAddress, IpAddress]:
    """Return an allocation pool as its first and last address."""
    found = _object(value, ("start", "end"))
    if len(found) != 2:  # noqa: PLR2004  a start and an end
        raise ValueError(f"{quoted(value)} needs start and end")
    return address(found["start"]), address(found["end"])


@typed({"type": "object"})
def host_route(value: Any) -> dict[str, str]:
    """Return a route of IPv4, which DHCP can hand out."""
    found = _object(value, ("destination", "nexthop"))
    if len(found) != 2:  # noqa: PLR2004  a destination and a nexthop
        raise ValueError(f"{quoted(value)} needs destination and nexthop")
    return {
        "destination": ipv4_prefix_text(found["destination"]),
        "nexthop": ipv4_text(found["nexthop"]),
    }


SEGMENT: dict[str, Converter] = {
    "network_type": or_null(one_of("vlan", "flat")),
    "physical_network": or_null(host),
    "segmentation_id": or_null(integer(VLAN_ID_MIN, VLAN_ID_MAX)),
}


@typed({"type": "object"})
def segment(value: Any) -> dict[str, Any]:
    """Return a network's segment, with ``provider:`` taken off its keys."""
    prefix = "provider:"
    found = _object(value, {prefix + key for key in SEGMENT})
    return {
        key: convert(found[prefix + key])
        for key, convert in SEGMENT.items()
        if found.get(prefix + key) not in (None, "")
    }


@typed(SPELLED, {"type": "integer"})
def scope_version(value: Any) -> int:
    """Return an address scope's IP version."""
    found = number(value)
    if found not in (4, 6):
        raise ValueError(f"{found} is neither 4 nor 6")
    return found


@typed({"type": ["boolean", "string", "integer"]}, {"const": True})
def stateful(value: Any) -> bool:
    """Return true: all that a group may be."""
    if not boolean(value):
        raise ValueError(
            "hosts track every connection, which is how answers come in; a group without that is"
            " not to be had"
        )
    return True


@typed({"type": ["object", "null"]})
def gateway_info(value: Any) -> dict[str, Any]:
    """Return where a router leads outside; empty for nowhere."""
    if value is None or value == {}:
        return {}
    found = _object(value, ("network_id", "enable_snat", "external_fixed_ips"))
    if found.get("external_fixed_ips"):
        raise ValueError(
            "external_fixed_ips: a router has no address of its own outside, each host translates"
            " to its routing source address; leave it out"
        )
    if "network_id" not in found:
        raise ValueError(f"{quoted(value)} needs network_id")
    info: dict[str, Any] = {"network_id": uuid(found["network_id"])}
    if "enable_snat" in found:
        info["enable_snat"] = boolean(found["enable_snat"])
    return info


@typed({"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True})
def hosts(value: Any) -> list[str]:
    """Return the hosts that a router is placed on; none is every host."""
    found: list[str] = list_of(bound_host)(value)
    twice = [name for number, name in enumerate(found) if name in found[:number]]
    if twice:
        raise ValueError(f"host {quoted(twice[0])} is there twice")
    return found


@typed({"type": ["boolean", "string", "integer", "null"]}, {"const": False})
def never(value: Any) -> bool:
    """Return false, all that some attributes may be: trunkline:hosts says where a router is."""
    if value is not None and boolean(value):
        raise ValueError("which hosts a router is on says trunkline:hosts, so it is always false")
    return False


def interface(value: Any) -> dict[str, str]:
    """Return which interface of a router a request means: a subnet, a port, or both."""
    found = _object(value, ("subnet_id", "port_id"))
    return {key: uuid(wish) for key, wish in found.items() if wish is not None}


@typed({"type": "object"})
def fixed_ip(value: Any) -> dict[str, str]:
    """Return a wish for an address: a subnet, an address, or both."""
    found = {
        key: wish
        for key, wish in _object(value, ("subnet_id", "ip_address")).items()
        if wish is not None
    }
    if not found:
        raise ValueError(f"{quoted(value)} needs subnet_id or ip_address")
    if "subnet_id" in found:
        found["subnet_id"] = uuid(found["subnet_id"])
    if "ip_address" in found:
        found["ip_address"] = address_text(found["ip_address"])
    return found


_FIXED_IPS = list_of(fixed_ip)


@typed(*_schemas(_FIXED_IPS))
def fixed_ips(value: Any) -> list[dict[str, str]]:
    """Return a port's wishes for addresses, in which none is there twice."""
    found: list[dict[str, str]] = _FIXED_IPS(value)
    given = [wish["ip_address"] for wish in found if "ip_address" in wish]
    twice = next((one for one in given if given.count(one) > 1), None)
    if twice is not None:
        raise ValueError(f"Duplicate IP address {quoted(twice)}")
    return found


def address_pair(value: Any) -> dict[str, str]:
    """Return an address or prefix that a port may use, and the MAC if it is not the port's."""
    found = _object(value, ("ip_address", "mac_address"))
    if "ip_address" not in found:
        raise ValueError(f"{quoted(value)} needs ip_address")
    given = found["ip_address"]
    wide = isinstance(given, str) and "/" in given
    pair = {"ip_address": _paired(ip_network(prefix(given) if wide else address(given)))}
    if found.get("mac_address") is not None:
        pair["mac_address"] = mac(found["mac_address"])
    return pair


def _paired(found: IpNetwork) -> str:
    if isinstance(found, IPv6Network) and (found.is_multicast or found.is_link_local):
        raise ValueError(f"{found} holds no addresses that others reach")
    return str(found[0] if found.num_addresses == 1 else found)


def address_pairs(value: Any) -> list[dict[str, str]]:
    """Return a port's address pairs; null is none."""
    found: list[dict[str, str]] = list_of(address_pair)([] if value is None else value)
    if len(found) > PAIRS_MAX:
        raise ValueError(f"it has {len(found)} entries, at most {PAIRS_MAX} are allowed")
    return found


def dns_domain(value: Any) -> str:
    """Return a domain name in lower case, or the empty string."""
    found: str = name(value).lower()
    if found and not _DOMAIN.fullmatch(found):
        raise ValueError(f"{quoted(value)} is not a domain name such as corp.example")
    return found


def no_text(value: Any) -> str:
    """Return the empty string, all that some attributes may be in this version."""
    if value not in (None, ""):
        raise ValueError(f"{quoted(value)} is not supported by this version; leave it empty")
    return ""


def dhcp_option(value: Any) -> dict[str, Any]:
    """Return a DHCP option of a port: an ``opt_name`` of dnsmasq's, or a number."""
    found = _object(value, ("opt_name", "opt_value", "ip_version"))
    option, content = (text(255)(found.get(key)) for key in ("opt_name", "opt_value"))
    is_number = option.isdecimal() and 0 < int(option) < DHCP_OPTION_END
    if not is_number and option not in DHCP_OPTIONS:
        raise ValueError(
            f"opt_name {quoted(option)} is no DHCP option; give a number 1 to"
            f" {DHCP_OPTION_END - 1}, or one of {', '.join(DHCP_OPTIONS)}"
        )
    if not content:
        raise ValueError(f"opt_value of {option} is empty")
    if ip_version(found.get("ip_version", 4)) != 4:  # noqa: PLR2004  it is what the sentence says
        raise ValueError(f"{option}: only options of DHCP for IPv4 are offered (ip_version)")
    return {"opt_name": option, "opt_value": content, "ip_version": 4}


def dhcp_options(value: Any) -> list[dict[str, Any]]:
    """Return a port's DHCP options; null is none, and one without a value is taken away."""
    given = [] if value is None else value
    if isinstance(given, list):
        given = [o for o in given if not (isinstance(o, dict) and o.get("opt_value", "") is None)]
    found: list[dict[str, Any]] = list_of(dhcp_option)(given)
    names = [option["opt_name"] for option in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"opt_name {twice} is there twice")
    return found
