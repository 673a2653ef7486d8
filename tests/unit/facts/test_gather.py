from __future__ import annotations

import os
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.gather import gather
from ishowtts_ops.facts.identity import Identity
from ishowtts_ops.facts.memory import Memory
from ishowtts_ops.facts.parallel import Job, in_parallel
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.sim.tree import build_box

FILES_ONLY = ("identity", "power", "clocks", "thermal", "rails", "fan", "memory", "disk")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    build_box(tmp_path / "box", "orin-nano-super")
    return tmp_path / "box"


def test_every_subject_of_a_simulated_box_is_known(box: Path) -> None:
    facts = gather(Host.at(box).read_only(), Settings(), units=["nvpmodel.service"])
    known = {
        name
        for name in vars(facts)
        if name != "seconds" and not isinstance(getattr(facts, name), Unknown)
    }
    assert known == set(vars(facts)) - {"seconds", "python_env", "daemon"}
    assert set(facts.seconds) == set(vars(facts)) - {"seconds"}


def test_a_hung_read_costs_its_own_subject_only(box: Path) -> None:
    zone = box / "sys/class/thermal/thermal_zone1/temp"
    zone.unlink()
    os.mkfifo(zone)
    for patience in (0.1, 0.5, 4):  # on a busy machine what does not hang takes its time as well
        facts = gather(Host.at(box).read_only(), Settings(), only=FILES_ONLY, patience=patience)
        assert isinstance(facts.thermal, Unknown)
        assert facts.thermal.reason == (
            f"reading temperatures gave no answer in {4 * patience:g} s: "
            "/sys/class/thermal/thermal_zone1/temp hangs"
        )
        if not any(
            isinstance(found, Unknown) for found in (facts.clocks, facts.memory, facts.identity)
        ):
            break
    assert isinstance(facts.clocks, ClockFacts)
    assert isinstance(facts.memory, Memory)
    assert isinstance(facts.identity, Identity)


def test_what_was_not_asked_for_is_unknown(box: Path) -> None:
    facts = gather(Host.at(box).read_only(), Settings(), only=["memory"])
    assert isinstance(facts.memory, Memory)
    assert isinstance(facts.disk, Unknown)
    assert set(facts.seconds) == {"memory"}


def test_failures_become_reasons() -> None:
    def raises(error: Exception) -> Job:
        def call() -> None:
            raise error

        return Job(call, 5.0, "reading it")

    answers = in_parallel(
        {
            "fine": Job(lambda: 3, 5.0),
            "known": raises(OpsError("The tool is gone.", "Install it.")),
            "system": raises(PermissionError(13, "Permission denied", "/sys/x")),
            "bug": raises(ZeroDivisionError("division by zero")),
        }
    )
    assert answers["fine"] == 3
    assert answers["known"] == Unknown("The tool is gone")
    assert "Permission denied" in answers["system"].reason
    assert answers["bug"] == Unknown("reading it failed with ZeroDivisionError: division by zero")
