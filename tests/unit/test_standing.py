"""The running count against counting anew, after each of many changes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from random import Random

import clouds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_clouds import SEEDS, Maker

from trunkline.model import Direction, GroupId, HostName, NetworkId, ProjectId, Rule, RuleId
from trunkline.snapshot import GroupView, HostSnapshot
from trunkline.trace import reach_standing
from trunkline.trace.reach import reach
from trunkline.trace.reach_policy import LARGE
from trunkline.trace.verify_cloud import Cloud, HostSettings, gather
from trunkline.trace.verify_data import Told
from trunkline.trace.verify_watch import Watch


class Life:
    """A cloud that changes: ports, rules, routers, hosts, and what hosts serve."""

    def __init__(self, random: Random) -> None:
        self.maker, self.random = Maker(random), random
        self.ports = dict(enumerate(self.maker.ports()))
        self.groups = {g: self._group(g) for g in self.maker.groups}
        self.served = {(h, n) for h in self.maker.hosts for n in self.maker.subnets if self._odd()}
        self.settings = {h: self.maker.settings() for h in self.maker.hosts}
        self.views = {
            (h, n): self.maker.network(n, i)
            for i, h in enumerate(self.maker.hosts)
            for n in self.maker.subnets
        }

    def _group(self, group_id: GroupId) -> GroupView:
        """Return a group; half of them are one that lets out, and in from another group."""
        if self.random.random() < 0.5:
            return self.maker.group(group_id)
        out = [Rule(RuleId(f"o{v}"), Direction.EGRESS, v) for v in (4, 6)]
        peer = self.random.choice(self.maker.groups)
        into = [Rule(RuleId(f"i{v}"), Direction.INGRESS, v, remote_group_id=peer) for v in (4, 6)]
        return GroupView(group_id, ProjectId("p0"), group_id, (*out, *into))

    def _odd(self) -> bool:
        return self.random.random() < 0.15

    def cloud(self) -> Cloud:
        """Return the cloud as it is now."""
        return gather(map(self._snapshot, self.maker.hosts), self.settings)

    def told(self) -> dict[HostName, Told]:
        """Return the same as the server tells it."""
        return {h: (self._snapshot(h), self.settings[h]) for h in self.maker.hosts}

    def _snapshot(self, host: HostName) -> HostSnapshot:
        ports = tuple(p for h, p in self.ports.values() if h == host)
        present = {p.network_id for p in ports} | {n for h, n in self.served if h == host}
        networks = tuple(
            replace(self.maker.told(self.views[host, n]), router_id=self.maker.on[n])
            for n in sorted(present)
        )
        routers = sorted({n.router_id for n in networks if n.router_id})
        groups = sorted({g for p in ports for g in p.group_ids})
        return HostSnapshot(
            host,
            1,
            networks=networks,
            routers=tuple(self.maker.routers[r] for r in routers),
            ports=ports,
            groups=tuple(self.groups[g] for g in groups),
        )

    def change(self) -> None:
        """Change one thing."""
        ports = (self.plug, self.unplug, self.move, self.groups_of)
        ways = (self.serve, self.serve, self.router, self.host, self.gateway)
        self.random.choice((self.rules, self.rules, *ports, *ways))()

    def rules(self) -> None:
        """Add a rule to a group, or take one away."""
        group = self.random.choice(list(self.groups.values()))
        rules = list(group.rules)
        if rules and self.random.random() < 0.5:
            rules.remove(self.random.choice(rules))
        else:
            rules.append(self._rule())
        self.groups[group.id] = replace(group, rules=tuple(rules))

    def _rule(self) -> Rule:
        """Return a rule, most often about a group or about a few addresses of one subnet."""
        rule = self.maker.rule()
        kind, ends = self.random.random(), self.cloud().ends
        if kind < 0.4:
            return replace(
                rule, remote_prefix=None, remote_group_id=self.random.choice(list(self.groups))
            )
        if kind < 0.7 and ends:
            address = self.random.choice(ends).address
            spare = self.random.randint(0, 3)
            prefix = ip_network((address, address.max_prefixlen - spare), strict=False)
            version = address.version
            return replace(rule, ethertype=version, remote_prefix=prefix, remote_group_id=None)
        return rule

    def plug(self) -> None:
        """Plug in a port that has been unplugged, or another like it."""
        missing = [n for n in range(9) if n not in self.ports]
        others = dict(enumerate(Maker(self.random).ports()))
        for number in missing[:1]:
            if number in others and others[number][1].network_id in self.maker.subnets:
                host, port = others[number]
                fits = set(port.group_ids) <= set(self.groups) and host in self.maker.hosts
                known = {s for s, _ in self.maker.subnets[port.network_id]}
                if fits and {f.subnet_id for f in port.fixed_ips} <= known:
                    self.ports[number] = host, port

    def unplug(self) -> None:
        """Take a port away."""
        if self.ports:
            del self.ports[self.random.choice(list(self.ports))]

    def move(self) -> None:
        """Bind a port to another host."""
        if self.ports:
            number = self.random.choice(list(self.ports))
            self.ports[number] = self.random.choice(self.maker.hosts), self.ports[number][1]

    def groups_of(self) -> None:
        """Give a port other groups, or none."""
        if self.ports:
            number = self.random.choice(list(self.ports))
            host, port = self.ports[number]
            chosen = self.maker._some_groups()
            secure = self.random.random() < 0.8
            self.ports[number] = host, replace(port, group_ids=chosen, port_security=secure)

    def serve(self) -> None:
        """Have a host serve a network that it need not, or no longer."""
        pair = self.random.choice(self.maker.hosts), self.random.choice(list(self.maker.subnets))
        self.served ^= {pair}

    def gateway(self) -> None:
        """Let a subnet have a router, or no longer."""
        self.maker.unrouted ^= {self.random.choice(self.maker.subnets4())}

    def router(self) -> None:
        """Put a network on another router, or turn a router off or on."""
        if self.random.random() < 0.5:
            network: NetworkId = self.random.choice(list(self.maker.subnets))
            self.maker.on[network] = self.random.choice([*self.maker.routers, None])
        else:
            router = self.random.choice(list(self.maker.routers.values()))
            self.maker.routers[router.id] = replace(router, admin_up=not router.admin_up)

    def host(self) -> None:
        """Have a host no longer able to serve some network, or able again."""
        host = self.random.choice(self.maker.hosts)
        network = self.random.choice(list(self.maker.subnets))
        unserved = self.settings[host].unserved ^ {network}
        self.settings[host] = HostSettings(unserved=unserved)


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.sampled_from([0, 3, LARGE]))
def test_a_running_count_is_what_counting_anew_gives(seed: int, large: int) -> None:
    """After each change, however peers are weighed, every tally and every service is the same."""
    life = Life(Random(seed))
    told = life.told()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reach_standing, "LARGE", large)
        watch = Watch(told.values())
    for _ in range(12):
        life.change()
        before, told = told, life.told()
        watch.update([one for host, one in told.items() if one != before[host]])
        cloud = life.cloud()
        for count in watch.counts:
            anew = reach(cloud, count.version)
            assert count.services == anew.services
            assert count.tallies() == anew.tallies


def test_a_host_that_is_gone_and_comes_back() -> None:
    """Its ports are counted no longer while it is away, and like before when it is back."""
    life = Life(Random(6))
    told = life.told()
    watch = Watch(told.values())
    before = [count.tallies() for count in watch.counts]
    host, snapshot = next((h, one[0]) for h, one in told.items() if one[0].ports)
    assert watch.update([], [host])
    rest = [one for one in told if one != host]
    left = gather([told[h][0] for h in rest], {h: told[h][1] for h in rest})
    assert [count.tallies() for count in watch.counts] == [
        reach(left, count.version).tallies for count in watch.counts
    ]
    watch.update([(snapshot, told[host][1])])
    assert [count.tallies() for count in watch.counts] == before


def test_a_shift_is_told_for_the_service_that_changed() -> None:
    """A rule for one port cuts a service in two: the port is named, the rest is left out."""
    left = replace(clouds.CLOSED, ports=(clouds.VM1, clouds.VM2), floating_ips=())
    watch = Watch([(left, HostSettings())])
    group, *others = left.groups
    rule = clouds.allow("new", 17, "10.0.0.0/24", port_min=53, port_max=53)
    more = replace(left, groups=(replace(group, rules=(*group.rules, rule)), *others))
    (shift,) = watch.update([(more, HostSettings())])
    assert (shift.version, str(shift.service)) == (4, "udp 53")
    assert str(shift).endswith("delivered 0 -> 2, answered 0 -> 2")
    (back,) = watch.update([(left, HostSettings())])
    assert (back.before, back.after) == (shift.after, shift.before)
    assert str(back.service) == "udp 53"
