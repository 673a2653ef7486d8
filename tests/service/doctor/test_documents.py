"""What doctor hands out: JSON by its documented schema, and text for 80 columns."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ishowtts_ops.doctor.finding import STEPS, Finding
from ishowtts_ops.doctor.fix import fix
from ishowtts_ops.host import Host
from ishowtts_ops.sim.faults import FAULTS, apply_fault
from ishowtts_ops.sim.tree import build_box
from tests.service.doctor.breaking import submodule
from tests.service.doctor.healthy import HealthyBox

Take = Callable[..., HealthyBox]
PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"


def schema() -> dict[str, Any]:
    """The schema in the page."""
    text = PAGE.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.split("```json\n", 1)[1].split("```", 1)[0])
    return found


def check(told: object) -> None:
    jsonschema.validate(json.loads(json.dumps(told)), schema())


# ---- JSON ------------------------------------------------------------------------------------


def test_the_schema_is_one_and_names_every_step() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    steps = schema()["$defs"]["remedy"]["properties"]["step"]["enum"]
    assert tuple(steps) == (*STEPS, None)


def test_reports_fit_the_schema(healthy: Take, tmp_path: Path) -> None:
    box = healthy()
    check(box.examine().to_json())
    for name in ("clocks-unlocked", "thermal-throttle", "over-current", "release-garbage"):
        apply_fault(box.root, name)
    submodule(box, "updated")
    report = box.examine()
    assert len(report.errors) >= 5
    check(report.to_json())
    (tmp_path / "etc").mkdir()
    check(HealthyBox.examine(_Bare(tmp_path)).to_json())  # type: ignore[arg-type]


class _Bare:
    """A box that is no Jetson and has nothing of ours."""

    def __init__(self, root: Path) -> None:
        from ishowtts_ops.config import Settings

        self.host = Host.at(root)
        self.settings = Settings()


def test_a_fix_fits_the_schema(healthy: Take) -> None:
    box = healthy()
    apply_fault(box.root, "clocks-unlocked")
    apply_fault(box.root, "rival-tuned")
    asked: list[str] = []

    def ask(step: str, _: object) -> bool:
        asked.append(step)
        return step == "power"

    result = fix(box.examine(), ask, box.run_step)
    assert asked == ["rivals", "power"], "a question for the rivals, and before the lock"
    check(result.to_json())
    assert {f.check for f in result.left.bad} == {"rivals-active"}


def test_fix_switches_a_rival_off_when_its_owner_says_so(healthy: Take) -> None:
    box = healthy()
    apply_fault(box.root, "rival-tuned")
    report = box.examine()
    remedy = report.of("rivals-active")[0].remedy
    assert remedy is not None and ("sudo", "ishowtts-ops", "power", "resolve") in remedy.commands
    result = fix(report, lambda *_: True, box.run_step)
    assert [(a.step, a.outcome) for a in result.attempts] == [("rivals", "mended")]
    assert result.left.bad == ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told.update(version=2),
        lambda told: told.pop("summary"),
        lambda told: told["findings"][0].update(severity="bad"),
        lambda told: told["findings"][0].pop("remedy"),
    ],
)
def test_another_shape_does_not_fit(healthy: Take, spoil: Callable[[Any], object]) -> None:
    told = json.loads(json.dumps(healthy().examine().to_json()))
    spoil(told)
    with pytest.raises(jsonschema.ValidationError):
        check(told)


# ---- text ------------------------------------------------------------------------------------


def on_a_terminal(*argv: str, columns: int = 80, **env: str) -> str:
    """What the program writes to a terminal, as over ssh."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ishowtts_ops", *argv],
        stdin=child,
        stdout=child,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": str(columns), "LINES": "24", **env},
    )
    os.close(child)
    data = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        data += part
    process.wait(60)
    os.close(parent)
    return data.decode().replace("\r\n", "\n")


def test_it_reads_well_in_80_columns_without_colour(tmp_path: Path) -> None:
    build_box(tmp_path / "box", "orin-nano-super")
    for name in ("thermal-throttle", "over-current", "rival-tuned", "release-36.4.7"):
        apply_fault(tmp_path / "box", name)
    shown = on_a_terminal("doctor", "--root", str(tmp_path / "box"), TERM="xterm", NO_COLOR="1")
    assert re.findall(r"\x1b\[[0-9;]*3[0-9]m", shown) == [], "no colours"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    # A command is one line, however long the path to the simulated box: it is there to be copied.
    commands = [line for line in plain.splitlines() if line.strip().startswith("$ ")]
    long = [line for line in plain.splitlines() if len(line) > 80 and line not in commands]
    assert long == []
    assert "error   " in plain and "mend:" in plain
    assert all(f"--root {tmp_path}/box" in line for line in commands if "ishowtts-ops" in line)
    assert any(" install --only power --root " in line for line in commands)
    assert "× slower" in plain


# ---- how long it takes -----------------------------------------------------------------------


def test_how_long_the_whole_look_takes(
    healthy: Take, capsys: pytest.CaptureFixture[str], record_property: Callable[..., None]
) -> None:
    """A benchmark, printed: a limit in seconds would judge the machine that runs it."""
    box = healthy()
    took = sorted(box.examine().seconds for _ in range(5))
    report = box.examine()
    record_property("doctor_seconds", took[2])
    slowest = sorted(report.examination.facts.seconds.items(), key=lambda item: -item[1])[:4]
    told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in slowest)
    with capsys.disabled():
        print(f"\n[doctor: {len(report.checks)} checks in {took[2]:.2f} s (median of 5); {told}]")
    together = sum(report.examination.facts.seconds.values())
    longest = max(report.examination.facts.seconds.values())
    assert longest <= report.seconds, "the parts are inside the whole"
    assert together > longest, "and side by side"
    assert isinstance(report.findings[0], Finding) and FAULTS
