"""PURE: one flow walked through the desired states of hosts, and why each step is as it is.

    packets      what travels, as values
    nft          the rule grammar that our two tables use, interpreted
    conntrack    one host's connection tracking, as far as a single flow shows it
    cloud        what a walk walks through: hosts, the wires between them, the Internet
    steps        the step list and the dispositions: the one result that all forms are made from
    host, nodes  what a host, an instance, a switch and the Internet do with a frame
    walk         the order in which things happen; ``trace`` and ``trace_lease``
    compare      a walk held against another one, such as one told from captures
    layers       desired state, kernel as read back, packets: the first that deviates, and where

What these modules do not know they answer with UNKNOWN and the text that they do not know; they
never take it for fine. Intent (ports, groups) is read to name what decided, never to decide.

All flows at once are counted from intent instead, which is a second way to the same answer:

    verify_cloud     all hosts' snapshots and settings, joined
    verify_services  services as rules tell them apart
    verify_flow      one flow judged, plainly: what the fast engine has to agree with
    reach            all pairs of ports, exactly; what rules allow is in reach_policy
    reach_public     the same for floating IPs and the Internet
"""
