"""What every kernel door does: reads back what was done, and refuses what Linux refuses."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

import pytest
from worlds import HOST, UPLINK_ADDRESS, World, read

from trunkline.errors import Rejected
from trunkline.hoststate import (
    Address,
    Bridge,
    Connection,
    DhcpServer,
    HostState,
    Plug,
    Vlan,
    VlanMaking,
)
from trunkline.kernel import netns
from trunkline.operations import (
    AddAddress,
    AnnounceAddress,
    AnnouncePort,
    ChangeDhcpFiles,
    ChangeLink,
    CreateBridge,
    CreateVlan,
    CutConnections,
    DeleteLink,
    Operation,
    PlugTrunk,
    RemoveAddress,
    RunNft,
    SetSysctl,
    StartDhcp,
    StopDhcp,
)

BR100 = Bridge("br100", "0a:00:00:00:00:01", 1500, "trunkline network=one")
TAP = "tap00000001-aa"
GATEWAY = Address("br100", IPv4Interface("10.0.0.1/24"))
GATEWAY6 = Address("br100", IPv6Interface("2001:db8::1/64"))
FLOATING = Address("eth1", IPv4Interface("91.208.23.11/32"))
FORWARDING = "net.ipv4.conf.br100.forwarding"


def vlan100(making: VlanMaking) -> Vlan:
    """Return a VLAN device in br100."""
    return Vlan("vlan100", "eth0", 100, 1500, "br100", "trunkline network=one", making)


def run(world: World, *operations: Operation) -> None:
    """Run operations in order."""
    for operation in operations:
        world.kernel.run(world.config, operation)


def test_an_untouched_host_has_nothing_of_ours(world: World) -> None:
    """A fresh host reads as empty, and its facts name its own links and addresses."""
    facts = world.kernel.facts(world.config)

    assert read(world) == HostState()
    assert {"lo", "eth0", "eth1"} <= facts.links
    assert facts.uplink_address == UPLINK_ADDRESS.ip


def test_a_bridge_reads_back_as_it_was_made(world: World) -> None:
    """Everything that was asked of a bridge is there; a second one of the name is refused."""
    run(world, CreateBridge(BR100))

    assert read(world).bridges == {"br100": BR100}
    with pytest.raises(Rejected, match="br100"):
        run(world, CreateBridge(BR100))


def test_a_vlan_device_reads_back_as_it_was_made(world: World, making: VlanMaking) -> None:
    """Trunk, tag, master and MTU are there; a second one of the name is refused."""
    run(world, CreateBridge(BR100), CreateVlan(vlan100(making)))

    assert read(world).vlans == {"vlan100": vlan100(making)}
    with pytest.raises(Rejected, match="vlan100"):
        run(world, CreateVlan(vlan100(making)))
    run(world, DeleteLink("vlan100"))
    assert read(world).vlans == {}


def test_a_vlan_device_needs_its_trunk_and_its_bridge(world: World, making: VlanMaking) -> None:
    """Without one of them it is refused and nothing is left of it."""
    with pytest.raises(Rejected):
        run(world, CreateVlan(vlan100(making)))
    run(world, CreateBridge(BR100))
    with pytest.raises(Rejected):
        run(world, CreateVlan(replace(vlan100(making), trunk="eth7")))

    assert read(world).vlans == {}


def test_many_vlan_devices_come_and_go_one_by_one(world: World, making: VlanMaking) -> None:
    """Each is its own; taking one away leaves the others as they are."""
    bridges = [
        replace(BR100, name=f"br{n}", mac=f"0a:00:00:00:00:{n - 99:02x}") for n in range(100, 106)
    ]
    vlans = [
        replace(vlan100(making), name=f"vlan{n}", vlan_id=n, bridge=f"br{n}")
        for n in range(100, 106)
    ]
    run(world, *map(CreateBridge, bridges), *map(CreateVlan, vlans))

    run(world, DeleteLink("vlan102"))

    left = [v for v in vlans if v.name != "vlan102"]
    assert read(world).vlans == {v.name: v for v in left}


def test_one_vlan_id_on_two_trunks(world: World, making: VlanMaking) -> None:
    """The second is called otherwise, and is read back, and goes, as the first."""
    second = replace(vlan100(making), name="vlan100-1", trunk="eth1", bridge="br100-1")
    bridges = (BR100, replace(BR100, name="br100-1", mac="0a:00:00:00:00:02"))
    run(world, *map(CreateBridge, bridges), CreateVlan(vlan100(making)), CreateVlan(second))
    assert read(world).vlans == {"vlan100": vlan100(making), "vlan100-1": second}

    run(world, DeleteLink("vlan100-1"), DeleteLink("br100-1"))

    assert read(world).vlans == {"vlan100": vlan100(making)}
    assert read(world).bridges == {"br100": BR100}


BRIDGE_CHANGES = [
    ("mtu", "1400", {"mtu": 1400}),
    ("alias", "another", {"alias": "another"}),
    ("address", "0a:00:00:00:00:99", {"mac": "0a:00:00:00:00:99"}),
    ("state", "down", {"up": False}),
    ("nf_call_iptables", "0", {"nf_call_iptables": False}),
]


@pytest.mark.parametrize(("key", "value", "changed"), BRIDGE_CHANGES)
def test_a_bridge_changes(world: World, key: str, value: str, changed: dict[str, object]) -> None:
    """Each property can be changed in place, and reads back."""
    run(world, CreateBridge(BR100), ChangeLink("br100", ((key, value),)))

    assert read(world).bridges == {"br100": replace(BR100, **changed)}  # type: ignore[arg-type]


VLAN_CHANGES = [
    ("mtu", "1400", {"mtu": 1400}),
    ("alias", "another", {"alias": "another"}),
    ("master", "", {"bridge": None}),
    ("state", "down", {"up": False}),
]


@pytest.mark.parametrize(("key", "value", "changed"), VLAN_CHANGES)
def test_a_vlan_device_changes(
    world: World, making: VlanMaking, key: str, value: str, changed: dict[str, object]
) -> None:
    """Each property can be changed in place and back, and reads back."""
    run(world, CreateBridge(BR100), CreateVlan(vlan100(making)))
    run(world, ChangeLink("vlan100", ((key, value),)))

    expected = replace(vlan100(making), **changed)  # type: ignore[arg-type]
    assert read(world).vlans == {"vlan100": expected}


def test_an_instance_is_plugged_in_and_out(world: World) -> None:
    """An interface is seen when it appears, and can be plugged in, changed and unplugged."""
    world.plug_in(TAP)
    assert read(world).plugs == {TAP: Plug(TAP, None, 1500, up=False)}

    run(world, CreateBridge(BR100), ChangeLink(TAP, (("master", "br100"), ("state", "up"))))
    assert read(world).plugs == {TAP: Plug(TAP, "br100", 1500)}

    run(world, ChangeLink(TAP, (("mtu", "1400"), ("hairpin", "on"))))
    assert read(world).plugs == {TAP: Plug(TAP, "br100", 1400, hairpin=True)}

    run(world, ChangeLink(TAP, (("master", ""),)))
    assert read(world).plugs == {TAP: Plug(TAP, None, 1400)}

    world.plug_out(TAP)
    assert read(world).plugs == {}


def test_plugging_into_a_bridge_that_is_not_there_is_refused(world: World) -> None:
    """Neither a missing bridge nor a missing interface can be plugged."""
    world.plug_in(TAP)
    with pytest.raises(Rejected, match="br100"):
        run(world, ChangeLink(TAP, (("master", "br100"),)))
    run(world, CreateBridge(BR100))
    with pytest.raises(Rejected, match="tap-not-there"):
        run(world, ChangeLink("tap-not-there", (("master", "br100"),)))


def test_a_deleted_bridge_lets_go(world: World, making: VlanMaking) -> None:
    """Its ports stay, unplugged; its address and its sysctls go with it."""
    world.plug_in(TAP)
    run(
        world,
        CreateBridge(BR100),
        CreateVlan(vlan100(making)),
        AddAddress(GATEWAY),
        ChangeLink(TAP, (("master", "br100"), ("state", "up"))),
        DeleteLink("br100"),
    )

    found = read(world, FORWARDING)
    assert found.bridges == {}
    assert found.vlans["vlan100"].bridge is None
    assert found.plugs[TAP].bridge is None
    assert found.addresses == frozenset()
    assert found.sysctls == {}
    with pytest.raises(Rejected, match="br100"):
        run(world, DeleteLink("br100"))


def test_a_trunk_is_plugged_in_and_out(world: World) -> None:
    """The NIC goes into a bridge of ours and out; VLAN devices on it stay; it survives both."""
    making = world.kernel.facts(world.config).vlan_making
    assert making is not None
    flat = replace(BR100, name="br-physnet1", mac="0a:00:00:00:00:02", alias="trunkline trunk=eth0")
    run(world, CreateBridge(BR100), CreateVlan(vlan100(making)), CreateBridge(flat))

    run(world, PlugTrunk("eth0", "br-physnet1"))
    assert read(world).untagged == {"eth0": "br-physnet1"}
    assert read(world).vlans == {"vlan100": vlan100(making)}
    run(world, DeleteLink("vlan100"), CreateVlan(vlan100(making)), PlugTrunk("eth0", "br100"))
    assert read(world).untagged == {"eth0": "br100"}
    run(world, PlugTrunk("eth0", None))
    assert read(world).untagged == {}
    run(world, PlugTrunk("eth0", "br-physnet1"), DeleteLink("br-physnet1"))
    assert read(world).untagged == {}
    assert "eth0" in world.kernel.facts(world.config).links


@pytest.mark.parametrize(
    ("trunk", "bridge"), [("eth7", "br100"), ("eth0", "br7"), ("eth0", "eth1")]
)
def test_a_trunk_needs_its_bridge(world: World, trunk: str, bridge: str) -> None:
    """A NIC that is not there, and a bridge that is not ours, are refused."""
    run(world, CreateBridge(BR100))

    with pytest.raises(Rejected):
        run(world, PlugTrunk(trunk, bridge))
    assert read(world).untagged == {}


def test_addresses_of_ours_and_no_others(world: World) -> None:
    """A gateway on a bridge and a floating IP on the uplink are ours; the uplink's own is not."""
    run(world, CreateBridge(BR100), AddAddress(GATEWAY), AddAddress(FLOATING))
    assert read(world).addresses == {GATEWAY, FLOATING}
    with pytest.raises(Rejected, match=r"91\.208\.23\.11"):
        run(world, AddAddress(FLOATING))

    run(world, AnnounceAddress(FLOATING), RemoveAddress(FLOATING))
    assert read(world).addresses == {GATEWAY}
    with pytest.raises(Rejected, match=r"91\.208\.23\.11"):
        run(world, RemoveAddress(FLOATING))
    with pytest.raises(Rejected):
        run(world, AnnounceAddress(Address("eth9", FLOATING.address)))
    with pytest.raises(Rejected):
        run(world, AnnouncePort("tap0000000a-aa", "fa:16:3e:00:00:0a", "vlan100"))


def test_a_bridge_speaks_ipv6_only_where_its_network_has_it(world: World) -> None:
    """An address of IPv6 needs it switched on, reads back, and goes with its being filtered."""
    key = "net.ipv6.conf.br100.disable_ipv6"
    run(world, CreateBridge(replace(BR100, nf_call_ip6tables=True)))
    with pytest.raises(Rejected):
        run(world, AddAddress(GATEWAY6))

    run(world, SetSysctl(key, "0"), AddAddress(GATEWAY), AddAddress(GATEWAY6))
    found = read(world, key)
    assert found.bridges["br100"].nf_call_ip6tables
    assert found.addresses == {GATEWAY, GATEWAY6}
    assert found.sysctls == {key: "0"}

    run(world, ChangeLink("br100", (("nf_call_ip6tables", "0"),)))
    found = read(world, key)
    assert found.bridges == {"br100": BR100}
    assert found.addresses == {GATEWAY}
    assert found.sysctls == {key: "1"}


def test_a_floating_ip_does_not_become_the_uplinks_own_address(world: World) -> None:
    """The routing source stays the address that the administrator gave."""
    run(world, AddAddress(FLOATING))

    assert world.kernel.facts(world.config).uplink_address == UPLINK_ADDRESS.ip


def test_sysctls(world: World) -> None:
    """A link's sysctl is set and read; one of a link that is gone is left out and refused."""
    with pytest.raises(Rejected, match=FORWARDING):
        run(world, SetSysctl(FORWARDING, "1"))
    run(world, CreateBridge(BR100))
    assert read(world, FORWARDING).sysctls == {FORWARDING: "0"}

    run(world, SetSysctl(FORWARDING, "1"))
    assert read(world, FORWARDING).sysctls == {FORWARDING: "1"}

    run(world, DeleteLink("br100"), CreateBridge(BR100))
    assert read(world, FORWARDING).sysctls == {FORWARDING: "0"}


def test_a_link_with_our_name_is_not_ours(world: World, making: VlanMaking) -> None:
    """Ownership is the mark, not the name: somebody else's br100 is only a fact."""
    world.add_foreign_link("br100")

    assert read(world).bridges == {}
    assert "br100" in world.kernel.facts(world.config).links
    world.plug_in(TAP)
    for operation in (
        CreateBridge(BR100),
        ChangeLink("br100", (("mtu", "1400"),)),
        ChangeLink(TAP, (("master", "br100"),)),
        CreateVlan(vlan100(making)),
        DeleteLink("br100"),
    ):
        with pytest.raises(Rejected, match="br100"):
            run(world, operation)
    assert "br100" in world.kernel.facts(world.config).links
    assert read(world) == HostState(plugs={TAP: Plug(TAP, None, 1500, up=False)})


SCRIPT = (
    "add table inet trunkline",
    "add set inet trunkline bridges { type ifname; }",
    "add map inet trunkline ingress { typeof oifname . ip daddr : verdict; }",
    "add chain inet trunkline inner",
    "add chain inet trunkline outer { type filter hook forward priority 0; policy accept; }",
    "add rule inet trunkline inner drop",
    "add rule inet trunkline outer oifname . ip daddr vmap @ingress",
    'add element inet trunkline bridges { "br100" }',
    'add element inet trunkline ingress { "br100" . 10.0.0.3 : goto inner }',
)
INET = ("inet", "trunkline")


def test_rules_are_changed_in_one_transaction(world: World) -> None:
    """A script that fails in its last line changes nothing."""
    run(world, RunNft(SCRIPT))
    before = read(world).tables
    assert before[INET].sets["ingress"].elements == {'"br100" . 10.0.0.3': "goto inner"}

    with pytest.raises(Rejected):
        run(
            world,
            RunNft(
                (
                    'delete element inet trunkline bridges { "br100" }',
                    "add rule inet trunkline outer jump nowhere",
                )
            ),
        )

    assert read(world).tables == before


@pytest.mark.parametrize(
    "line",
    [
        "delete chain inet trunkline inner",
        "delete map inet trunkline ingress",
        'add element inet trunkline nothing { "br100" }',
        'delete element inet trunkline bridges { "br7" }',
        'add element inet trunkline ingress { "br100" . 10.0.0.3 : goto outer }',
        "flush chain inet trunkline nothing",
        "flush set inet trunkline ingress",
        "delete table inet nothing",
        "add rule inet trunkline outer iifname @nothing drop",
    ],
)
def test_rules_refuse_what_breaks_a_reference(world: World, line: str) -> None:
    """What is referred to stays, and what is not there is not referred to."""
    run(world, RunNft(SCRIPT))
    before = read(world).tables

    with pytest.raises(Rejected):
        run(world, RunNft((line,)))

    assert read(world).tables == before


def test_rules_go_with_their_table(world: World) -> None:
    """An element's value changes by leaving and coming back; a table goes as a whole."""
    run(world, RunNft(SCRIPT))
    run(
        world,
        RunNft(
            (
                "add chain inet trunkline other",
                'delete element inet trunkline ingress { "br100" . 10.0.0.3 }',
                'add element inet trunkline ingress { "br100" . 10.0.0.3 : goto other }',
                "flush chain inet trunkline inner",
                "delete chain inet trunkline inner",
            )
        ),
    )
    table = read(world).tables[INET]
    assert table.sets["ingress"].elements == {'"br100" . 10.0.0.3': "goto other"}
    assert set(table.chains) == {"outer", "other"}

    run(world, RunNft(("delete table inet trunkline",)))
    assert read(world).tables == {}


DHCP = DhcpServer(
    "br100",
    "interface=br100\nbind-interfaces\nexcept-interface=lo\nlisten-address=10.0.0.1\nport=0\n"
    "dhcp-range=10.0.0.0,static,255.255.255.0,86400s\ndhcp-ignore=tag:!known\n",
    {"hosts/one": "fa:16:3e:00:00:01,10.0.0.3,host-one"},
)


def test_a_dhcp_server_starts_changes_and_stops(world: World) -> None:
    """What it serves reads back; its entries change without its restart; it leaves no file."""
    with pytest.raises(Rejected):
        run(world, StartDhcp(DHCP))
    run(world, CreateBridge(BR100), AddAddress(GATEWAY), StartDhcp(DHCP))
    assert read(world).dhcp == {"br100": DHCP}

    two = ("hosts/two", "fa:16:3e:00:00:02,10.0.0.4,host-two")
    run(world, ChangeDhcpFiles("br100", write=(two,), remove=("hosts/one",), reload=True))
    assert read(world).dhcp == {"br100": replace(DHCP, files=dict([two]))}

    named = [two, ("names/two", "10.0.0.4 two\n10.0.0.5 two"), ("options/two", "tag:x,26,1400")]
    run(world, ChangeDhcpFiles("br100", write=tuple(named[1:]), remove=(), reload=False))
    assert read(world).dhcp == {"br100": replace(DHCP, files=dict(named))}

    changed = replace(DHCP, config=DHCP.config + "dhcp-option=option:mtu,1400\n")
    run(world, StartDhcp(changed))
    assert read(world).dhcp == {"br100": changed}

    run(world, StopDhcp("br100"))
    assert read(world).dhcp == {}
    with pytest.raises(Rejected):
        run(world, StopDhcp("br100"))
    with pytest.raises(Rejected):
        run(world, ChangeDhcpFiles("br100", (two,), (), reload=False))


def test_cutting_a_connection_that_has_ended_is_fine(world: World) -> None:
    """An entry may end by itself between reading and cutting."""
    a, b = IPv4Address("10.0.0.3"), IPv4Address("10.0.0.4")
    gone = Connection(6, a, b, 40000, 80, b, a, 80, 40000)

    run(world, CutConnections((gone,)))

    assert gone not in world.kernel.connections()[""]


def test_waiting_ends_when_a_link_appears(world: World) -> None:
    """The wait ends long before its time when an interface appears."""
    read(world)
    timer = threading.Timer(0.05, world.plug_in, [TAP])
    timer.start()
    for _ in range(100):  # other notifications may end a wait too
        world.kernel.wait(5)
        if TAP in world.kernel.read(world.config, ()).plugs:
            break
    timer.join()

    assert TAP in world.kernel.read(world.config, ()).plugs


def test_waiting_ends_when_somebody_changes_our_rules(linux: World) -> None:
    """A rule that a hand took away is no secret for a minute: the wait ends at once."""
    run(linux, RunNft(SCRIPT))
    while not quiet(linux):
        pass
    flush = ["nft", "flush", "chain", "inet", "trunkline", "outer"]
    timer = threading.Timer(0.05, netns.run, [HOST, flush])
    timer.start()
    started = time.monotonic()
    linux.kernel.wait(30)
    timer.join()

    assert time.monotonic() - started < 20
    assert linux.kernel.read(linux.config, ()).tables[INET].chains["outer"].rules == ()


def quiet(world: World) -> bool:
    """Take in what waits; return whether nothing new came meanwhile."""
    world.kernel.read(world.config, ())
    started = time.monotonic()
    world.kernel.wait(0.1)
    return time.monotonic() - started >= 0.1
