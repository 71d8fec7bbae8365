"""Compose a snapshot and a host's facts into the state that the host must have.

Total: whatever the snapshot says, the result is a state and a list of problems. What cannot be
honoured is left out, so that it fails closed, and is named.
"""

from __future__ import annotations

from dataclasses import replace

from trunkline.core.anycast import compile_anycast_chains, compile_anycast_sets
from trunkline.core.dhcp import compile_dhcp
from trunkline.core.filter import (
    compile_filter_chains,
    compile_filter_sets,
    compile_group_chains,
    compile_hairpin_sets,
    compile_spoof_chains,
    compile_spoof_sets,
)
from trunkline.core.links import (
    Served,
    choose_served,
    compile_bridges,
    compile_gateways,
    compile_plugs,
    compile_sysctls,
    compile_vlans,
)
from trunkline.core.nat import (
    compile_floating,
    compile_nat_chains,
    compile_nat_sets,
    routing_source,
)
from trunkline.core.pairs import pair_combinations
from trunkline.hoststate import HostConfig, HostFacts, HostState, Problem, Table
from trunkline.ownership import TABLE
from trunkline.snapshot import HostSnapshot


def compile_host(
    snapshot: HostSnapshot, config: HostConfig, facts: HostFacts
) -> tuple[HostState, tuple[Problem, ...]]:
    """Return the desired state of a host, and what of the snapshot it cannot honour."""
    served, problems = choose_served(snapshot, config, facts)
    uplink, uplink_problems = _usable_uplink(config, facts)
    floating, floating_problems = compile_floating(snapshot.floating_ips, uplink)
    tables = (
        _inet_table(snapshot, served, uplink, facts),
        _bridge_table(snapshot, served, config.host),
    )
    state = HostState(
        bridges=compile_bridges(served, config.host),
        vlans=compile_vlans(served, facts),
        plugs=compile_plugs(served, snapshot.ports, snapshot.floating_ips),
        addresses=compile_gateways(served) | floating,
        sysctls=compile_sysctls(served, uplink.uplink),
        tables={(table.family, table.name): table for table in tables} if served else {},
        dhcp=compile_dhcp(served, snapshot.ports, snapshot.names),
    )
    return state, (*problems, *uplink_problems, *floating_problems)


def _usable_uplink(config: HostConfig, facts: HostFacts) -> tuple[HostConfig, tuple[Problem, ...]]:
    """Return the configuration without its uplink where that link is missing."""
    if config.uplink is None or config.uplink in facts.links:
        return config, ()
    text = "does not exist on this host: no instance reaches the outside; create or correct it"
    return replace(config, uplink=None, routing_source=None), (
        Problem(f"uplink {config.uplink}", text),
    )


def _inet_table(
    snapshot: HostSnapshot, served: tuple[Served, ...], config: HostConfig, facts: HostFacts
) -> Table:
    sets = [
        *compile_filter_sets(served, snapshot.ports, snapshot.tenant_prefixes, snapshot.members),
        *compile_nat_sets(snapshot.floating_ips, config),
    ]
    chains = [
        *compile_filter_chains(config.uplink, guard=config.guard_absent_prefixes),
        *compile_nat_chains(config.uplink, routing_source(config, facts)),
        *compile_group_chains(
            snapshot.groups, snapshot.ports, pair_combinations(served, snapshot.ports)
        ),
    ]
    return Table("inet", TABLE, {s.name: s for s in sets}, {c.name: c for c in chains})


def _bridge_table(snapshot: HostSnapshot, served: tuple[Served, ...], host: str) -> Table:
    sets = [
        *compile_spoof_sets(served, snapshot.ports),
        *compile_hairpin_sets(snapshot.ports, snapshot.floating_ips),
        *compile_anycast_sets(served, host),
    ]
    chains = [*compile_spoof_chains(), *compile_anycast_chains()]
    return Table("bridge", TABLE, {s.name: s for s in sets}, {c.name: c for c in chains})
