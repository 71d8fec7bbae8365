"""Reads where the running kernel has the members of its structures (BTF).

Only what it is asked for: offsets of members, and the names of an enumeration's values. Source:
Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from trunkline.errors import MissingFeature

VMLINUX = Path("/sys/kernel/btf/vmlinux")
MAGIC = 0xEB9F
INT, ARRAY, STRUCT, UNION, ENUM, FUNC_PROTO, VAR, DATASEC, DECL_TAG, ENUM64 = (
    *(1, 3, 4, 5, 6),
    *(13, 14, 15, 17, 19),
)
OTHER_NAMES = {8, 9, 10, 18}  # typedef, volatile, const, type tag
FIXED_BYTES = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}
BYTES_EACH = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}
BITFIELDS = 1 << 31  # kind_flag: a member's offset has its size in the upper eight bits

_HEAD = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=III")
_VALUE = struct.Struct("=Ii")


class Types:
    """A kernel's types."""

    def __init__(self, data: bytes) -> None:
        """Take them apart.

        Raises:
            MissingFeature: This is no BTF of a version that is known here.
        """
        try:
            magic, version, _, head, types, size, strings, _ = _HEAD.unpack_from(data)
        except struct.error as error:
            raise MissingFeature(f"BTF: {error}") from error
        if (magic, version) != (MAGIC, 1):
            raise MissingFeature(f"BTF: version {version} is not known here")
        self._data = data
        self._start, self._end = head + types, head + types + size
        self._strings = head + strings
        self._by_name: dict[tuple[int, int], int] = {}

    @cached_property
    def _places(self) -> list[int]:
        """Return where each type is, by its id; 0 is void."""
        places, at = [0], self._start
        while at < self._end:
            places.append(at)
            label, info, _ = _TYPE.unpack_from(self._data, at)
            kind, many = info >> 24 & 0x1F, info & 0xFFFF
            if kind in (STRUCT, ENUM):
                self._by_name.setdefault((kind, label), at)
            at += _TYPE.size + FIXED_BYTES.get(kind, 0) + BYTES_EACH.get(kind, 0) * many
        return places

    def offset(self, structure: str, *path: str) -> int:
        """Return the offset in bytes of a member of a structure, or of a member's member.

        Raises:
            MissingFeature: There is no such member.
        """
        place, found = self._named(structure, STRUCT), 0
        for name in path:
            member = next((m for m in self._members(place) if m[0] == name), None)
            if member is None:
                raise MissingFeature(f"BTF: struct {structure} has no member {name}")
            found += member[1]
            place = self._plain(member[2])
        return found

    def values(self, enumeration: str) -> Mapping[int, str]:
        """Return the names of an enumeration's values.

        Raises:
            MissingFeature: There is no such enumeration.
        """
        place = self._named(enumeration, ENUM)
        many = _TYPE.unpack_from(self._data, place)[1] & 0xFFFF
        places = (place + _TYPE.size + n * _VALUE.size for n in range(many))
        pairs = (_VALUE.unpack_from(self._data, at) for at in places)
        return {value: self._text(name) for name, value in pairs}

    def _plain(self, number: int) -> int:
        """Return where a type is, without its other names and qualifiers."""
        while True:
            _, info, behind = _TYPE.unpack_from(self._data, self._places[number])
            if info >> 24 & 0x1F not in OTHER_NAMES:
                return self._places[number]
            number = behind

    def _named(self, name: str, kind: int) -> int:
        at = self._data.find(b"\0" + name.encode() + b"\0", self._strings) + 1
        found = self._by_name.get((kind, at - self._strings)) if self._places else None
        if found is None:
            raise MissingFeature(f"BTF: this kernel has no {name}")
        return found

    def _members(self, place: int) -> Iterator[tuple[str, int, int]]:
        """Yield name, offset and type of members; those of nameless ones are the structure's."""
        info = _TYPE.unpack_from(self._data, place)[1]
        if info >> 24 & 0x1F not in (STRUCT, UNION):
            return
        for number in range(info & 0xFFFF):
            at = place + _TYPE.size + number * _MEMBER.size
            label, kind, bits = _MEMBER.unpack_from(self._data, at)
            offset = (bits & 0xFFFFFF if info & BITFIELDS else bits) // 8
            if label:
                yield self._text(label), offset, kind
            else:
                inner = self._members(self._places[kind])
                yield from ((name, offset + more, type_) for name, more, type_ in inner)

    def _text(self, at: int) -> str:
        start = self._strings + at
        return self._data[start : self._data.index(b"\0", start)].decode()


def running() -> Types:
    """Return the running kernel's types.

    Raises:
        MissingFeature: It was built without them (CONFIG_DEBUG_INFO_BTF).
    """
    try:
        return Types(VMLINUX.read_bytes())
    except OSError as error:
        raise MissingFeature(f"{VMLINUX}: {error.strerror}") from error
