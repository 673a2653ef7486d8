from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.facts import fan
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from tests.support.simboxes import sim_box


@pytest.mark.parametrize("board", ["agx-orin-64", "agx-orin-64@35.3.1", "agx-orin-64@39.2.1"])
def test_a_turning_fan(tmp_path: Path, board: str) -> None:
    facts = fan.read(sim_box(tmp_path, board).read_only())
    assert (facts.pwm, facts.rpm) == (55, 1790)
    assert facts.stopped is False
    assert facts.claimants == ("nvfancontrol",)


def test_a_fan_that_does_not_turn(tmp_path: Path) -> None:
    facts = fan.read(sim_box(tmp_path, "agx-orin-64", "fan-stuck"))
    assert facts.stopped is True


def test_a_fan_that_is_off_is_not_stuck(tmp_path: Path) -> None:
    assert fan.read(sim_box(tmp_path, "agx-orin-64", "fan-stopped")).stopped is False


def test_two_claimants(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    config = {"fan": {"pwmfan": {"profile": "cool", "speed": [80.0]}}}
    host.write("/usr/local/jtop/config.json", json.dumps(config))
    assert fan.read(host).claimants == ("nvfancontrol", "jtop")
    host.write("/usr/local/jtop/config.json", "{")
    assert isinstance(fan.read(host).jtop_profile, Unknown)


def test_no_fan(tmp_path: Path) -> None:
    facts = fan.read(Host.at(tmp_path))
    assert isinstance(facts.pwm, Unknown)
    assert isinstance(facts.stopped, Unknown)
    assert facts.claimants == ("kernel",)


@given(st.one_of(st.text(), st.sampled_from(["[]", "1", '{"fan": [1]}', '{"fan": {"a": 1}}'])))
def test_any_text_as_jtops_config(text: str) -> None:
    assert isinstance(fan.parse_jtop_profile(text), (str, type(None), Unknown))
