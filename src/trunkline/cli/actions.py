"""What single kinds of objects do beyond list, show, create, set and delete."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlencode

from trunkline.cli import access
from trunkline.cli.kinds import FLOATING_IP, PORT, ROUTER, SECGROUP, Kind, ip_version
from trunkline.cli.lookup import find, find_id
from trunkline.cli.tables import as_json, details, table
from trunkline.errors import Invalid, NotFound, RequestError

if TYPE_CHECKING:
    from trunkline.client import ApiClient

Verbs: TypeAlias = "_SubParsersAction[ArgumentParser]"  # at run time the class takes no argument
RULE_COLUMNS = {
    "direction": "direction", "protocol": "protocol", "ports": "ports", "peer": "peer",
    "ethertype": "ethertype", "id": "id",
}  # fmt: skip


def of(kind: Kind) -> tuple[Callable[[Verbs], None], ...]:
    """Return what registers a kind's further verbs."""
    return {
        SECGROUP.command: (_add_rule, _remove_rule),
        ROUTER.command: (_add_interface, _remove_interface),
        FLOATING_IP.command: (_add_associate, _add_disassociate, _add_forward, _add_unforward),
    }.get(kind.command, ())


def show(record: dict[str, Any], args: Namespace) -> None:
    """Print one object in the form asked for; of a security group, the rules as a table."""
    if args.json:
        print(as_json(record))
        return
    rules = record.get("security_group_rules")
    print(details({k: v for k, v in record.items() if k != "security_group_rules"}))
    if rules:
        print("\nrules:")
        print(table([_rule(rule) for rule in rules], RULE_COLUMNS))


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule as people read it."""
    first, last = rule["port_range_min"], rule["port_range_max"]
    group = rule["remote_group_id"]
    return {
        **rule,
        "protocol": rule["protocol"] or "any",
        "ports": None if first is None else str(first) if first == last else f"{first}:{last}",
        "peer": rule["remote_ip_prefix"] or (f"group {group}" if group else "anywhere"),
    }


def with_subnet(client: ApiClient, network: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return a new network with a subnet of its own; if that is refused, it is no more."""
    wish = {"network_id": network["id"], "name": network["name"], "cidr": prefix}
    wish |= ip_version(wish)
    if network.get("project_id"):
        wish["project_id"] = network["project_id"]
    try:
        subnet = client.create("subnets", wish)
    except RequestError:
        client.delete("networks", network["id"])
        raise
    return {**network, "subnets": [subnet["id"]]}


def _parser(verbs: Verbs, verb: str, text: str, run: Callable[[Namespace], int]) -> ArgumentParser:
    parser = verbs.add_parser(verb, help=text, description=text)
    access.add(parser)
    parser.set_defaults(run=run)
    return parser


def _add_rule(verbs: Verbs) -> None:
    text = "let packets pass: `trunkline secgroup add-rule default tcp 1:65535 --from 10.1.0.0/24`"
    parser = _parser(verbs, "add-rule", text, _run_add_rule)
    parser.add_argument("group", metavar="GROUP")
    parser.add_argument("protocol", metavar="PROTOCOL", help="a name or number, or any")
    parser.add_argument(
        "ports", metavar="PORTS", nargs="?", help="80 or 1:65535; of icmp, TYPE:CODE; default: all"
    )
    peer = parser.add_mutually_exclusive_group()
    peer.add_argument(
        "--from", dest="source", metavar="PEER", help="a prefix or a group; default: anywhere"
    )
    peer.add_argument("--to", metavar="PEER", help="likewise, and outgoing: to where")
    parser.add_argument("--ipv6", action="store_true", help="of IPv6, where no prefix says so")
    parser.add_argument("--json", action="store_true", help="as data")


def _run_add_rule(args: Namespace) -> int:
    wish: dict[str, Any] = {"direction": "egress" if args.to is not None else "ingress"}
    if args.protocol != "any":
        wish["protocol"] = args.protocol
    if args.ports is not None:
        first, colon, last = args.ports.partition(":")
        wish |= {"port_range_min": first, "port_range_max": last if colon else first}
    peer = args.to if args.to is not None else args.source
    with access.connected(args) as client:
        wish["security_group_id"] = find_id(client, "security-groups", args.group)
        wish |= _peer(client, peer)
        wish["ethertype"] = "IPv6" if args.ipv6 or ":" in (peer or "") else "IPv4"
        made = client.create("security-group-rules", wish)
    show(made, args)
    return 0


def _peer(client: ApiClient, word: str | None) -> dict[str, str]:
    if word is None:
        return {}
    if "/" in word:
        return {"remote_ip_prefix": word}
    return {"remote_group_id": find_id(client, "security-groups", word)}


def _remove_rule(verbs: Verbs) -> None:
    text = "take rules away, by ids, which `secgroup show` has"
    parser = _parser(verbs, "remove-rule", text, _run_remove_rule)
    parser.add_argument("rules", nargs="+", metavar="ID")


def _run_remove_rule(args: Namespace) -> int:
    with access.connected(args) as client:
        for rule in args.rules:
            client.delete("security-group-rules", rule)
    return 0


def _add_interface(verbs: Verbs) -> None:
    text = "put a subnet on a router"
    _interface(_parser(verbs, "add-interface", text, _changes("add_router_interface")))


def _remove_interface(verbs: Verbs) -> None:
    text = "take a subnet off a router"
    _interface(_parser(verbs, "remove-interface", text, _changes("remove_router_interface")))


def _interface(parser: ArgumentParser) -> None:
    parser.add_argument("router", metavar="ROUTER")
    parser.add_argument("subnet", metavar="SUBNET", nargs="?")
    parser.add_argument("--port", help="the interface is this port")


def _changes(action: str) -> Callable[[Namespace], int]:
    def run(args: Namespace) -> int:
        if (args.subnet is None) == (args.port is None):
            raise Invalid("give either a SUBNET or --port")
        with access.connected(args) as client:
            router = find_id(client, "routers", args.router)
            if args.port is None:
                wish = {"subnet_id": find_id(client, "subnets", args.subnet)}
            else:
                wish = {"port_id": find_id(client, "ports", args.port)}
            client.request("PUT", f"/v2.0/routers/{router}/{action}", wish)
        return 0

    return run


def _add_associate(verbs: Verbs) -> None:
    parser = _parser(verbs, "associate", "lead a floating IP to a port", _run_associate)
    parser.add_argument("fip", metavar="ADDRESS")
    parser.add_argument("port", metavar="PORT")
    parser.add_argument("--fixed", metavar="ADDRESS", help="which of the port's addresses")


def _run_associate(args: Namespace) -> int:
    with access.connected(args) as client:
        wish = {"port_id": find(client, PORT, args.port)["id"]}
        if args.fixed is not None:
            wish["fixed_ip_address"] = args.fixed
        client.update("floatingips", find_id(client, "floatingips", args.fip), wish)
    return 0


def _add_disassociate(verbs: Verbs) -> None:
    parser = _parser(verbs, "disassociate", "take a floating IP off its port", _run_disassociate)
    parser.add_argument("fip", metavar="ADDRESS")


def _run_disassociate(args: Namespace) -> int:
    with access.connected(args) as client:
        fip = find_id(client, "floatingips", args.fip)
        client.update("floatingips", fip, {"port_id": None})
    return 0


def _add_forward(verbs: Verbs) -> None:
    text = "lead one port of it elsewhere: `trunkline fip forward 203.0.113.9 tcp 8080:80 vm1`"
    parser = _parser(verbs, "forward", text, _run_forward)
    _forwarded(parser, "8080:80, or 80 for the same on both sides")
    parser.add_argument("port", metavar="PORT")
    parser.add_argument("--fixed", metavar="ADDRESS", help="which of the port's addresses")
    parser.add_argument("--description", default="", help="for people")
    parser.add_argument("--json", action="store_true", help="as data")


def _forwarded(parser: ArgumentParser, numbers: str) -> None:
    parser.add_argument("fip", metavar="ADDRESS")
    parser.add_argument("protocol", metavar="PROTOCOL", help="tcp or udp")
    parser.add_argument("numbers", metavar="NUMBERS", help=numbers)


def _run_forward(args: Namespace) -> int:
    outer, _, inner = args.numbers.partition(":")
    with access.connected(args) as client:
        where = _forwardings(client, args.fip)
        port = find(client, PORT, args.port)
        fixed = [one["ip_address"] for one in port["fixed_ips"] if "." in one["ip_address"]]
        wish = {
            "protocol": args.protocol,
            "external_port": outer,
            "internal_port": inner or outer,
            "internal_port_id": port["id"],
            "internal_ip_address": args.fixed or next(iter(fixed), ""),
            "description": args.description,
        }
        made = client.request("POST", where, {"port_forwarding": wish})["port_forwarding"]
    show(made, args)
    return 0


def _add_unforward(verbs: Verbs) -> None:
    text = "let a port of a floating IP lead nowhere; its connections end"
    parser = _parser(verbs, "unforward", text, _run_unforward)
    _forwarded(parser, "the floating IP's port")


def _run_unforward(args: Namespace) -> int:
    with access.connected(args) as client:
        where = _forwardings(client, args.fip)
        service = urlencode({"protocol": args.protocol, "external_port": args.numbers})
        found = client.request("GET", f"{where}?{service}")["port_forwardings"]
        if not found:
            raise NotFound(
                f"{args.fip} does not forward {args.protocol} {args.numbers}; `trunkline fip show"
                f" {args.fip}` shows what it does"
            )
        client.request("DELETE", f"{where}/{found[0]['id']}")
    return 0


def _forwardings(client: ApiClient, fip: str) -> str:
    return f"/v2.0/floatingips/{find_id(client, 'floatingips', fip)}/port_forwardings"
