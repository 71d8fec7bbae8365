"""The two versions of IP, as rules are written for them, and what one of them has by itself.

Rules of a version are in chains and sets of their own, told apart by a suffix, so that no rule has
to say which version it is about. Decides nothing about who has which addresses.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """How rules of one version are written.

    Attributes:
        suffix: Of the names of its chains and sets.
        ip: nft's word for its header, which addresses are matched by.
        address_type: nft's type of a set of addresses.
        icmp: The number of its control protocol; ``icmp_word`` is nft's word for it.
        single: The length of a prefix that is one address.
    """

    version: int
    suffix: str
    ip: str
    address_type: str
    icmp: int
    icmp_word: str
    single: int


V4 = Family(4, "", "ip", "ipv4_addr", 1, "icmp", 32)
V6 = Family(6, "6", "ip6", "ipv6_addr", 58, "icmpv6", 128)
