"""What other programs take of the processors, counted with a program that really takes one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from ishowtts_ops.measure.others import OthersUse

HOG = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"
ENOUGH_S = 1.0
"""Of a processor, so that ticks of 10 ms and rounding to a thousandth do not matter."""


@pytest.fixture
def strange_hog() -> Iterator[psutil.Process]:
    """A program that keeps a processor busy and is no child of this one."""
    starter = (
        "import subprocess as s, sys; "
        "hog = s.Popen([sys.executable, '-c', sys.argv[1]], stdout=s.DEVNULL, stderr=s.DEVNULL); "
        "print(hog.pid)"
    )
    pid = subprocess.run(
        [sys.executable, "-c", starter, HOG], check=True, capture_output=True, text=True
    ).stdout
    process = psutil.Process(int(pid))
    yield process
    process.kill()


@pytest.fixture
def child_hog() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", HOG]) as child:
        yield psutil.Process(child.pid)
        child.kill()


def _part_of_it(process: psutil.Process, *counts: OthersUse) -> tuple[float, list[float]]:
    """(this process's share of all processor time, what each count says others took), over the
    time in which it used ENOUGH_S."""

    def used() -> float:
        return float(process.cpu_times().user)

    def everything() -> float:
        return float(sum(psutil.cpu_times()))

    used_before, before = used(), everything()
    deadline = time.monotonic() + 60
    while used() - used_before < ENOUGH_S:
        assert time.monotonic() < deadline, "this machine gave a busy program no second in a minute"
        time.sleep(0.05)
    shares = [count.share() for count in counts]
    return (used() - used_before) / (everything() - before), shares


def test_what_a_stranger_takes_is_counted_and_what_the_daemon_takes_is_not(
    strange_hog: psutil.Process,
) -> None:
    """The same program at the same time, once as somebody else's and once as the daemon."""
    took, (stranger, daemon) = _part_of_it(strange_hog, OthersUse(None), OthersUse(strange_hog.pid))
    assert stranger - daemon == pytest.approx(took, rel=0.15)


def test_a_child_of_the_benchmark_is_ours_and_is_counted_once(child_hog: psutil.Process) -> None:
    """Named as the daemon or not: it is taken off what is busy once, not twice."""
    took, (unnamed, named) = _part_of_it(child_hog, OthersUse(None), OthersUse(child_hog.pid))
    assert took > 0
    assert unnamed == pytest.approx(named, abs=0.02)


def test_both_kinds_together(strange_hog: psutil.Process, child_hog: psutil.Process) -> None:
    """A stranger stays counted beside a child of ours: a child counted twice would hide it."""
    took, (both,) = _part_of_it(strange_hog, OthersUse(child_hog.pid))
    assert both >= took * 0.85
