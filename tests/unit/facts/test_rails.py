from __future__ import annotations

from pathlib import Path

import pytest

from ishowtts_ops.facts import rails
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.sim.faults import apply_fault
from tests.support.simboxes import sim_box


def path_of(host: Host, name: str) -> str:
    for path in host.glob("/sys/class/hwmon/hwmon*"):
        if host.read_text(f"{path}/name").strip() == name:
            return path
    raise AssertionError(f"no {name}")


@pytest.mark.parametrize(
    ("board", "labels"),
    [
        ("agx-orin-64", ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]),
        ("orin-nano-super", ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]),
    ],
)
def test_rails_of_a_box(tmp_path: Path, board: str, labels: list[str]) -> None:
    facts = rails.read(sim_box(tmp_path, board).read_only())
    assert [rail.label for rail in facts.rails] == labels, (
        "channels without a rail (NC) are left out"
    )
    assert all(isinstance(rail.milliwatt, int) and rail.milliwatt > 0 for rail in facts.rails)
    assert facts.alarms == ()
    assert facts.events == {1: 0, 2: 0, 3: 0}


def test_a_small_current_may_be_negative(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "orin-nano-super")
    host.write_sysfs(f"{path_of(host, 'ina3221')}/curr2_input", "-79\n")
    assert rails.read(host).rails[1].milliwatt == round(5040 * -79 / 1000)


def test_an_alarm(tmp_path: Path) -> None:
    facts = rails.read(sim_box(tmp_path, "orin-nano-super", "rail-alarm"))
    assert [rail.label for rail in facts.alarms] == ["VDD_IN"]


def test_events_between_two_readings(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "orin-nano-super", "over-current")
    earlier = rails.read(host)
    assert earlier.events == {1: 0, 2: 7, 3: 0}
    apply_fault(tmp_path / "box", "under-voltage")
    later = rails.read(host)
    assert later.since(earlier) == {1: 2, 2: 0, 3: 0}
    assert earlier.since(later) == {1: 0, 2: 0, 3: 0}, "a counter that fell was reset"


def test_garbage_and_no_monitors(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "orin-nano-super")
    folder = path_of(host, "ina3221")
    host.write_sysfs(f"{folder}/in1_input", "garbage")
    host.write_sysfs(f"{folder}/curr1_crit_alarm", "")
    first = rails.read(host).rails[0]
    assert isinstance(first.milliwatt, Unknown)
    assert isinstance(first.crit_alarm, Unknown)
    host.rmtree("/sys/class/hwmon")
    facts = rails.read(host)
    assert facts.rails == ()
    assert isinstance(facts.events, Unknown)
    assert isinstance(facts.since(facts), Unknown)
