"""Labs come up whole and go down without a trace, however they were interrupted."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from leftovers import PREFIX

from trunkline.cli.main import main
from trunkline.kernel import netns
from trunkline.lab import life, probe, state
from trunkline.lab.scenarios import SCENARIOS, play
from trunkline.lab.stage import Stage
from trunkline.lab.topology import load, read
from trunkline.lab.waiting import until

pytestmark = [pytest.mark.scenario, pytest.mark.usefixtures("machine")]

NAME = f"{PREFIX}life"
LAB = state.Lab(load(read("article"), NAME))


def _start(*verb: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "trunkline.cli.main", "lab", verb[0], "--name", NAME, *verb[1:]]
    return subprocess.Popen(argv, stdout=stdout)


def _exists(*parts: str) -> Callable[[], bool]:
    return lambda: LAB.directory.joinpath(*parts).exists()


def test_up_twice_and_down(capsys: pytest.CaptureFixture[str]) -> None:
    """A second ``up`` leaves a whole lab alone; ``down`` ends it; a second ``down`` is fine."""
    assert main(["lab", "up", "--name", NAME]) == 0
    pids = {label: LAB.process(label) for label in LAB.labels()}
    assert main(["lab", "up", "--name", NAME]) == 0
    assert "was up already" in capsys.readouterr().out
    assert {label: LAB.process(label) for label in LAB.labels()} == pids

    assert main(["lab", "run", "--name", NAME, "--file", "five"]) == 2
    assert "another topology" in capsys.readouterr().err
    assert main(["lab", "down", "--name", NAME]) == 0
    assert f"lab {NAME} is down" in capsys.readouterr().out
    assert main(["lab", "down", "--name", NAME]) == 0
    assert f"there is no lab {NAME}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "moment",
    [
        _exists("namespaces"),
        _exists("pids", "server"),
        _exists("hosts", "compute2", "state"),
        _exists("instances", "VM_1"),
    ],
    ids=["namespaces", "server", "agents", "instances"],
)
def test_up_killed(moment: Callable[[], bool]) -> None:
    """``up`` killed half-way leaves what the next ``up`` replaces and ``down`` removes."""
    up = _start("up")
    until("up is half-way", moment)
    up.send_signal(signal.SIGKILL)
    up.wait()

    lab, built = life.up(read("article"), NAME)

    assert built
    assert play(Stage(lab), SCENARIOS["4"]).passed
    life.down(NAME)


def test_up_killed_then_down() -> None:
    """``down`` alone removes what a killed ``up`` left."""
    up = _start("up")
    until("up is half-way", _exists("hosts", "compute1", "state"))
    up.send_signal(signal.SIGKILL)
    up.wait()

    life.down(NAME)


def test_down_killed() -> None:
    """``down`` killed half-way: another one finishes, and so does ``up``."""
    for finish in (lambda: life.down(NAME), lambda: life.up(read("article"), NAME)):
        life.up(read("article"), NAME)
        down = _start("down")
        until("down is half-way", lambda: not LAB.complete)
        down.send_signal(signal.SIGKILL)
        down.wait()
        finish()
    assert play(Stage(LAB), SCENARIOS["4"]).passed
    life.down(NAME)


def test_run_killed() -> None:
    """``run`` killed while it had things changed: the next ``up`` builds anew."""
    life.up(read("article"), NAME)
    run = _start("run", "6b")
    gone = state.Lab.namespace(LAB, "VM_3")
    until("VM_3 has been removed for 6b", lambda: gone not in netns.names())
    run.send_signal(signal.SIGKILL)
    run.wait()

    lab, built = life.up(read("article"), NAME)

    assert built
    assert play(Stage(lab), SCENARIOS["5"]).passed
    life.down(NAME)


def test_down_all_takes_dead_labs_too() -> None:
    """``down --all`` finds labs by what they wrote down, whoever began them."""
    before = set(state.living())
    if before:
        pytest.skip(f"other labs are up: {', '.join(sorted(before))}")
    up = _start("up")
    until("up is half-way", _exists("pids", "server"))
    up.send_signal(signal.SIGKILL)
    up.wait()

    assert main(["lab", "down", "--all"]) == 0

    assert state.living() == ()


def test_two_labs_at_once() -> None:
    """Two labs of one topology live beside each other: same addresses, no word between them."""
    other = f"{NAME}2"
    for name in (NAME, other):
        life.up(read("article"), name)
    stages = [Stage(state.find(name)) for name in (NAME, other)]

    assert all(play(stage, SCENARIOS["6"]).passed for stage in stages)
    life.down(other)
    assert play(stages[0], SCENARIOS["6"]).passed
    life.down(NAME)


def test_foreign_namespace_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A namespace that is somebody else's is never taken over, nor removed by ``down``."""
    foreign = f"{NAME}-VM_1"
    netns.create(foreign)

    code = main(["lab", "up", "--name", NAME])
    main(["lab", "down", "--name", NAME])

    assert code == 2
    assert f"namespace {foreign} exists and belongs to no lab" in capsys.readouterr().err
    assert foreign in netns.names()
    netns.delete(foreign)


def test_exec_inspect_pingall(capsys: pytest.CaptureFixture[str]) -> None:
    """The everyday commands: what runs where, a command on a node, who reaches whom."""
    life.up(read("article"), NAME)

    assert main(["lab", "inspect", "--json", "--name", NAME]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["instances"]["VM_1"]["address"] == "10.0.0.3"
    assert facts["instances"]["VM_6"]["floating_ip"] == "91.208.23.16"
    assert {i["status"] for i in facts["instances"].values()} == {"ACTIVE"}
    assert all(facts["processes"].values())

    command = _start("exec", "VM_1", "--", "cat", "/etc/resolv.conf")
    assert command.wait() == 0
    assert main(["lab", "exec", "--name", NAME, "VM_1", "--", "no-such-program"]) == 127
    assert "no-such-program" in capsys.readouterr().err

    assert main(["lab", "pingall", "--name", NAME]) == 0
    assert "0 % dropped (30/30 received)" in capsys.readouterr().out
    life.down(NAME)


def test_capture() -> None:
    """``lab capture`` shows frames with place, direction and tag as they pass."""
    lab, _ = life.up(read("article"), NAME)
    capture = _start("capture", "compute1:eth0", "VM_5", stdout=subprocess.PIPE)
    assert capture.stdout
    ready = select.poll()
    ready.register(capture.stdout, select.POLLIN)

    namespace, peer = lab.namespace("VM_1"), Stage(lab).seats["VM_5"].address
    # The capture has begun when it shows something: until then, there is something to show.
    until("the capture has begun", lambda: probe.ping(namespace, peer, 1) and ready.poll(0))
    capture.terminate()  # SIGINT is ignored by what a shell put in the background
    out, _ = capture.communicate()

    assert "compute1:eth0" in out.decode()
    assert " tag 100 10.0.0.3 > 10.0.0.4 ICMP type 8 code 0" in out.decode()
    life.down(NAME)


def test_unknown_lab_and_node(capsys: pytest.CaptureFixture[str]) -> None:
    """A lab that is not up, and a node that it does not have, are named with what there is."""
    assert main(["lab", "inspect", "--name", "nowhere"]) == 2
    assert "lab nowhere: not up" in capsys.readouterr().err
