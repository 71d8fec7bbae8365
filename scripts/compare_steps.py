"""Compares what was seen of the scenarios on two kernels: the same steps, or the difference.

Takes two outputs of ``trunkline lab run --json``. Titles, steps and what was checked have to be
equal; evidence may differ, as it holds addresses and numbers that are new in every run.
"""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Compare two files; 1 if they differ or hold nothing."""
    here, there = (_scenarios(Path(argument)) for argument in sys.argv[1:])
    differences = list(_differences(here, there))
    print(*differences, sep="\n", end="" if not differences else "\n")
    if differences or not here:
        print(f"steps differ in {len(differences)} lines, of {len(here)} scenarios")
        return 1
    steps = sum(len(act["steps"]) for scenario in here.values() for act in scenario["acts"])
    print(f"== {len(here)} scenarios, {steps} steps: equal on both kernels")
    return 0


def _scenarios(path: Path) -> dict[str, dict[str, Any]]:
    return {report["scenario"]: report for report in json.loads(path.read_text())}


def _differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    return [
        line
        for key in [*here, *(there.keys() - here.keys())]
        for line in difflib.unified_diff(
            _lines(here.get(key)),
            _lines(there.get(key)),
            f"{key} here",
            f"{key} there",
            lineterm="",
        )
    ]


def _lines(report: dict[str, Any] | None) -> list[str]:
    """Return what must be equal, a line each."""
    if report is None:
        return []
    lines = [report["title"], f"passed: {report['passed']}"]
    for act in report["acts"]:
        lines += [act["title"], *(json.dumps(step, sort_keys=True) for step in act["steps"])]
        lines += [f"{check['passed']}: {check['text']}" for check in act["checks"]]
    return lines


if __name__ == "__main__":
    sys.exit(main())
