"""A simulated box watched while something happens to it, and the GPU's own work."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.facts.burn import burn, parse_burn
from ishowtts_ops.facts.load import watch
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision.power import lock
from ishowtts_ops.sim.faults import apply_fault
from tests.support.simboxes import sim_box

NANO = "orin-nano-super"


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_an_idle_stretch(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert lock(host, Settings().power, log=lambda _: None).ok
    found = watch(host.read_only(), lambda: pause(0.1), 5.0, every_s=0.02)
    assert found.ended and found.seconds < 5.0
    assert len(found.samples) >= 2
    assert found.events == {1: 0, 2: 0, 3: 0}
    assert found.first_throttle() is None and found.first_alarm() is None
    slowest = found.slowest_cpu()
    assert slowest is not None and slowest.cpu_share == 1.0
    assert found.peak_milliwatt() == found.before.milliwatt["VDD_IN"]


def test_counters_are_the_difference_not_what_they_say(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "over-current", "under-voltage")
    found = watch(host, lambda: apply_fault(host.root, "over-current"), 5.0, every_s=0.02)
    assert found.events == {1: 0, 2: 7, 3: 0}


def test_what_passes_is_kept(tmp_path: Path) -> None:
    """Heat that is gone when the work ends was there."""
    host = sim_box(tmp_path, NANO)
    states = host.glob("/sys/class/thermal/cooling_device*/cur_state")

    def work() -> None:
        pause(0.3)
        apply_fault(host.root, "thermal-throttle")
        pause(1.5)  # long enough for a sample also on a busy machine
        for path in states:
            host.write_sysfs(path, "0")

    found = watch(host, work, 20.0, every_s=0.02)
    first = found.first_throttle()
    assert first is not None and first.at_s > 0.03
    assert "gpu-throttle-alert" in first.throttles
    assert found.before.throttles == () and found.samples[-1].throttles == ()


def test_work_that_does_not_end_is_left_alone(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    go_on = threading.Event()
    found = watch(host, lambda: go_on.wait(30) and None, 0.2, every_s=0.05)
    go_on.set()
    assert not found.ended
    assert found.seconds < 5.0


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
