"""A simulated box watched while something happens to it, and the GPU's own work."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.facts.burn import burn, parse_burn
from ishowtts_ops.facts.load import Watched, watch
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision.power import lock
from ishowtts_ops.sim.faults import apply_fault
from tests.support.simboxes import sim_box

NANO = "orin-nano-super"


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def watched(
    host: Host,
    work: Callable[[], None],
    limit_s: float,
    *,
    every_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Watched:
    found = watch(host.read_only(), work, limit_s, every_s=every_s, clock=clock)
    assert isinstance(found, Watched), found
    return found


def hang(host: Host, pattern: str) -> str:
    """An attribute whose reading never ends, as that of a sensor on a dead bus."""
    path = host.glob(pattern)[0]
    real = host.path(path)
    real.unlink()
    os.mkfifo(real)
    return path


def test_an_idle_stretch(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert lock(host, Settings().power, log=lambda _: None).ok
    found = watched(host, lambda: pause(0.1), 5.0, every_s=0.02)
    assert found.ended and found.seconds < 5.0
    assert len(found.samples) >= 2
    assert found.events == {1: 0, 2: 0, 3: 0}
    assert found.first_throttle() is None and found.first_alarm() is None
    slowest = found.slowest_cpu()
    assert slowest is not None and slowest.cpu_share == 1.0
    assert found.peak_milliwatt() == found.before.milliwatt["VDD_IN"]


def test_counters_are_the_difference_not_what_they_say(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "over-current", "under-voltage")
    found = watched(host, lambda: apply_fault(host.root, "over-current"), 5.0, every_s=0.02)
    assert found.events == {1: 0, 2: 7, 3: 0}


class Clock:
    """The real one, which counts how often it is read: a few times for each sample."""

    def __init__(self) -> None:
        self._read = 0
        self._changed = threading.Condition()

    def __call__(self) -> float:
        with self._changed:
            self._read += 1
            self._changed.notify_all()
        return time.monotonic()

    def wait_for_samples(self) -> None:
        """Wait until a sample was begun and ended since now, however slow the machine is."""
        with self._changed:
            enough = self._read + 9
            assert self._changed.wait_for(lambda: self._read >= enough, timeout=60)


def test_what_passes_is_kept(tmp_path: Path) -> None:
    """Heat that is gone when the work ends was there."""
    host = sim_box(tmp_path, NANO)
    states = host.glob("/sys/class/thermal/cooling_device*/cur_state")
    clock = Clock()

    def work() -> None:
        clock.wait_for_samples()
        apply_fault(host.root, "thermal-throttle")
        clock.wait_for_samples()
        for path in states:
            host.write_sysfs(path, "0")

    found = watched(host, work, 120.0, every_s=0.02, clock=clock)
    first = found.first_throttle()
    assert first is not None and first is not found.samples[0] and first.at_s > 0
    # A sample may see the box while it gets hot, one file after the other.
    assert "gpu-throttle-alert" in {name for each in found.samples for name in each.throttles}
    assert found.before.throttles == () and found.samples[-1].throttles == ()


def test_work_that_does_not_end_is_left_alone(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    go_on = threading.Event()

    def work() -> None:
        go_on.wait(30)

    found = watched(host, work, 0.2, every_s=0.05)
    go_on.set()
    assert not found.ended
    assert found.seconds < 5.0


def test_a_sensor_that_hangs_ends_the_watch_not_the_program(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    path = hang(host, "/sys/class/hwmon/hwmon*/in1_input")
    found = watch(host, lambda: pause(0.1), 0.2, every_s=0.05)
    assert isinstance(found, Unknown)
    assert found.reason.endswith(f"{path} hangs"), found.reason


def test_what_is_known_to_hang_is_left_out(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    hang(host, "/sys/class/hwmon/hwmon*/in1_input")
    done: list[bool] = []
    found = watch(host, lambda: done.append(True), 5.0, every_s=0.02, without=["rails"])
    assert isinstance(found, Watched) and done == [True]
    assert isinstance(found.events, Unknown) and found.peak_milliwatt() is None
    assert found.hottest() is not None, "heat is watched all the same"


def interpreter(tmp_path: Path) -> Host:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ishowtts-sim.json").write_text("{}")
    host = Host.at(tmp_path)
    host.write("/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n', mode=0o755)
    return host


def test_no_interpreter(tmp_path: Path) -> None:
    found = burn(Host.at(tmp_path), "/bin/python", 1.0, 5.0)
    assert isinstance(found, Unknown) and "no /bin/python" in found.reason


def test_an_interpreter_that_hangs_is_ended(tmp_path: Path) -> None:
    host = interpreter(tmp_path)
    host.write("/bin/python", "#!/bin/sh\nexec sleep 60\n", mode=0o755)
    found = burn(host, "/bin/python", 1.0, 0.3)
    assert isinstance(found, Unknown) and "no answer in 0.3 s" in found.reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ishowtts-burn:",
        "ishowtts-burn:{}",
        'ishowtts-burn:{"device": null, "seconds": 0, "tflop": 0}',
        'ishowtts-burn:{"device": "Orin", "seconds": 0, "tflop": 0}',
        'ishowtts-burn:{"device": "Orin", "seconds": NaN, "tflop": 0}',
    ],
)
def test_an_answer_that_is_none(text: str) -> None:
    assert isinstance(parse_burn("python", text), Unknown)
