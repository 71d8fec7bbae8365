"""A trace drawn: Mermaid's sequence diagram, and a self-contained SVG, both directions in one.

Nodes stand side by side, packets go from one to the next, time runs down. ARP is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

from trunkline.trace.steps import Step, Trace

COLUMN, ROW, TOP, MARGIN = 190, 46, 96, 100  # pixels
COLOURS = {"request": "#1f5fa8", "confirm": "#1f5fa8", "reply": "#2b7a3d", "error": "#b3261e"}
OTHER_COLOUR = "#666666"


@dataclass(frozen=True, slots=True)
class Arrow:
    """A packet from one node to the next; a node without a next has it to itself.

    Attributes:
        label: What it carries on the wire between: addresses and tag.
        note: What the node that it leaves has done to it.
    """

    part: str
    start: str
    end: str
    label: str
    note: str


def arrows(trace: Trace) -> list[Arrow]:
    """Return the hops of a trace, in order."""
    steps = [step for step in trace.steps if step.part != "arp"]
    found = []
    for here, there in zip(steps, [*steps[1:], None], strict=True):
        goes_on = there is not None and there.packet == here.packet
        end = there.node if there is not None and goes_on else here.node
        if goes_on or not _ends_well(here):
            found.append(Arrow(here.part, here.node, end, _label(here), _note(here)))
    return found


def _ends_well(step: Step) -> bool:
    return step.node_role in ("instance", "internet")


def _label(step: Step) -> str:
    tag = next((s.tag for s in step.path[::-1] if s.tag is not None and s.direction == "out"), None)
    name = step.packet.partition(": ")[0]
    where = f" {step.addresses}" if step.addresses else ""
    return f"{name}{where}{'' if tag is None else f', tag {tag}'}"


def _note(step: Step) -> str:
    if step.node_role != "host":
        return ""
    return "; ".join((" > ".join(s.label for s in step.path), *step.changes))


def _nodes(trace: Trace) -> list[str]:
    """Return the nodes from left to right: in the order in which the packets meet them."""
    return list(dict.fromkeys(step.node for step in trace.steps if step.part != "arp"))


def mermaid(trace: Trace) -> str:
    """Return a trace as a Mermaid sequence diagram."""
    names = {node: f"n{number}" for number, node in enumerate(_nodes(trace))}
    lines = ["sequenceDiagram", f"    %% {trace.disposition}: {trace.sentence}"]
    lines += [f"    participant {short} as {_plain(node)}" for node, short in names.items()]
    for arrow in arrows(trace):
        start, end = names[arrow.start], names[arrow.end]
        if arrow.note:
            lines.append(f"    Note over {start}: {_plain(arrow.note)}")
        head = "--x" if arrow.start == arrow.end else "->>"
        lines.append(f"    {start}{head}{end}: {_plain(arrow.label)}")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a text without what Mermaid takes for syntax."""
    return text.replace(";", ",").replace("#", " ").replace(" -> ", " → ").replace(" > ", " → ")


def svg(trace: Trace) -> str:
    """Return a trace as an SVG document that needs nothing beside it."""
    nodes, hops = _nodes(trace), arrows(trace)
    place = {node: MARGIN + COLUMN * number for number, node in enumerate(nodes)}
    width = 2 * MARGIN + COLUMN * max(len(nodes) - 1, 2)
    height = TOP + ROW * (len(hops) + 1)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
    )
    parts = [
        head,
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        _text(16, 24, f"{trace.disposition}: {trace.sentence}", anchor="start", size=14),
        *_lifelines(place, height),
        *_hops(hops, place),
        "</svg>",
    ]
    return "\n".join(parts)


def _lifelines(place: dict[str, int], height: int) -> Iterator[str]:
    for node, x in place.items():
        yield f'<line x1="{x}" y1="{TOP - 24}" x2="{x}" y2="{height - 10}" stroke="#bbbbbb"/>'
        yield _text(x, TOP - 32, node, size=13)


def _hops(hops: Iterable[Arrow], place: dict[str, int]) -> Iterator[str]:
    for number, hop in enumerate(hops):
        y = TOP + ROW * number + 20
        a, b = place[hop.start], place[hop.end]
        colour = COLOURS.get(hop.part, OTHER_COLOUR)
        if a == b:
            yield f'<circle cx="{a}" cy="{y}" r="6" fill="{colour}"/>'
        else:
            back = -8 if b > a else 8
            head = f"{b},{y} {b + back},{y - 4} {b + back},{y + 4}"
            yield f'<line x1="{a}" y1="{y}" x2="{b}" y2="{y}" stroke="{colour}"/>'
            yield f'<polygon points="{head}" fill="{colour}"/>'
        yield _text((a + b) // 2, y - 6, hop.label)
        if hop.note:
            yield _text(a, y + 14, hop.note, colour="#666666")


def _text(
    x: int, y: int, text: str, *, anchor: str = "middle", size: int = 11, colour: str = "#222222"
) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
