"""Our nftables tables: read and changed as text, by the ``nft`` program.

nft's text is its documented interface (nft(8)); the messages underneath are not. Reading back
is spared where the kernel's generation number proves that nobody but us committed anything.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import suppress

from trunkline.errors import Interrupted, MissingFeature, Rejected
from trunkline.hoststate import Table
from trunkline.kernel import exec as programs
from trunkline.kernel import netlink
from trunkline.kernel.nft_text import TableKey, parse_tables
from trunkline.operations import RunNft
from trunkline.ownership import TABLE

GETGEN = 10 << 8 | 16  # nfnetlink.h: NFNL_SUBSYS_NFTABLES, nf_tables.h: NFT_MSG_GETGEN
NFTA_GEN_ID = 1
CHANGES = 7  # nfnetlink.h: NFNLGRP_NFTABLES
READ_ATTEMPTS = 5
TIMEOUT_S = 60.0  # a first transaction for thousands of ports takes seconds on a slow machine
LIST = ("nft", "-s", "-y", "-p")  # stateless, priorities and protocols as numbers


class Nft:
    """Memory of our tables, valid for one generation of the namespace's ruleset."""

    def __init__(self) -> None:
        self._generation: int | None = None
        self._foreseen = False
        self._tables: Mapping[TableKey, Table] = {}
        self._events = netlink.listen_to_group(netlink.NETFILTER, CHANGES)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when somebody commits a change."""
        return self._events.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._events.close()

    def forget(self) -> None:
        """Make the next ``read`` list the tables, unless they were at this very generation."""
        if self._foreseen:
            self._generation = None

    def read(self) -> Mapping[TableKey, Table]:
        """Return our tables; the same object as before while nothing was committed.

        Raises:
            Interrupted: Somebody kept changing rules during several readings. Retryable.
            MissingFeature: There is no nft, or no nftables in this kernel.
        """
        self._take_notifications()
        for _ in range(READ_ATTEMPTS):
            generation = _current_generation()
            if generation == self._generation:
                return self._tables
            tables = _list_tables()
            if _current_generation() == generation:
                self._generation, self._tables = generation, tables
                self._foreseen = False
                return tables
        raise Interrupted(f"nft list: rules changed during {READ_ATTEMPTS} readings; try again")

    def _take_notifications(self) -> None:
        """Drop what has arrived: that something did is all that matters, and lost is as good."""
        with suppress(OSError):
            for _ in netlink.notifications(self._events):
                pass

    def run(self, operation: RunNft) -> None:
        """Commit a script.

        Raises:
            Rejected: nft refused a line; nothing was changed. nft's words show the line.
        """
        before = _current_generation()
        script = "\n".join(operation.script) + "\n"
        done = programs.run(("nft", "-f", "-"), TIMEOUT_S, script)
        if done.returncode != 0:
            raise Rejected(f"nft -f -: {done.stderr.strip()}")
        alone = before == self._generation and _current_generation() == before + 1
        if alone and operation.makes is not None:
            self._tables, self._foreseen, self._generation = operation.makes, True, before + 1


def _current_generation() -> int:
    try:
        body = netlink.ask(netlink.NETFILTER, GETGEN, bytes(4))
    except OSError as error:
        message = f"nftables: {error.strerror}; load module nf_tables, run as root"
        raise MissingFeature(message) from error
    return int(struct.unpack(">I", netlink.attributes(body, 4)[NFTA_GEN_ID])[0])


def _list_tables() -> dict[TableKey, Table]:
    listed = programs.run(("nft", "list", "tables"))
    tables: dict[TableKey, Table] = {}
    for _, family, name in map(str.split, listed.stdout.splitlines()):
        if name == TABLE:
            # One at a time: nft 1.0.6 finds only the last of several tables of one command.
            done = programs.run((*LIST, "list", "table", family, name), TIMEOUT_S)
            # A table that went meanwhile has moved the generation, and all is read again.
            tables |= parse_tables(done.stdout)
    return tables
