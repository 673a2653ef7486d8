from __future__ import annotations

from pathlib import Path

import pytest

from ishowtts_ops.facts import thermal
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from tests.support.simboxes import sim_box


@pytest.mark.parametrize(
    ("board", "hottest"), [("orin-nano-super", "gpu-thermal"), ("agx-orin-64@35.3.1", "GPU-therm")]
)
def test_a_cool_box(tmp_path: Path, board: str, hottest: str) -> None:
    facts = thermal.read(sim_box(tmp_path, board).read_only())
    assert isinstance(facts.hottest, thermal.Zone)
    assert facts.hottest.name == hottest
    assert facts.hottest.temperature_mc == 50218
    assert (facts.hottest.trip("passive"), facts.hottest.trip("critical")) == (99000, 104500)
    assert facts.hottest.trip("hot") is None
    assert facts.throttled is False
    assert facts.active_throttles == ()


def test_zones_that_are_switched_off_have_no_temperature(tmp_path: Path) -> None:
    """One answers -256 °C, another cannot be read at all."""
    facts = thermal.read(sim_box(tmp_path, "agx-orin-64"))
    zones = {zone.name: zone.temperature_mc for zone in facts.zones}
    off = zones["cv0-thermal"]
    assert isinstance(off, Unknown)
    assert "switched off" in off.reason
    assert isinstance(zones["cv2-thermal"], Unknown)


def test_heat_that_holds_clocks_down(tmp_path: Path) -> None:
    facts = thermal.read(sim_box(tmp_path, "orin-nano-super", "thermal-throttle"))
    assert facts.throttled is True
    names = {device.name for device in facts.active_throttles}
    assert names == {"cpu-throttle-alert", "gpu-throttle-alert", "devfreq-17000000.gpu"}


def test_a_running_fan_is_no_throttle(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    for device in thermal.read(host).cooling:
        if device.name == "pwm-fan":
            host.write_sysfs(f"{device.path}/cur_state", "3\n")
    facts = thermal.read(host)
    assert facts.throttled is False
    assert "pwm-fan" in {device.name for device in facts.cooling}


def test_an_unreadable_throttle_leaves_the_answer_open(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    first = next(device for device in thermal.read(host).cooling if device.throttles)
    host.write_sysfs(f"{first.path}/cur_state", "garbage")
    assert isinstance(thermal.read(host).throttled, Unknown)


def test_no_thermal_folder(tmp_path: Path) -> None:
    facts = thermal.read(Host.at(tmp_path))
    assert isinstance(facts.hottest, Unknown)
    assert isinstance(facts.throttled, Unknown)
