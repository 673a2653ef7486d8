"""Proof after patching, with the engine's interpreter."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.host import Host
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.series import Series, load_series
from tests.support.f5 import (
    SOURCE,
    Box,
)
from tests.support.patching import (
    NEWER,
    apply,
)
from tests.support.tree import differences


@pytest.fixture
def engine(box: Box) -> Settings:
    """Settings whose engine interpreter is this one, behind a wrapper on the (simulated) box, and
    without any installed package: torch would take most of the time."""
    box.host.write("/etc/ishowtts-sim.json", "{}")
    wrapper = f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n'
    box.host.write("/opt/engine/python", wrapper, mode=0o755)
    return Settings.model_validate({"engine": {"python": "/opt/engine/python"}})


def test_verify_imports_with_the_engines_interpreter(
    box: Box, series: Series, engine: Settings
) -> None:
    host = Host.at(box.host.root)
    report = patch.verify(host.read_only(), SOURCE, engine, series)
    assert report.ok is False and [row.check for row in report.rows] == ["files"]
    apply(box, series)
    before = box.snapshot()
    report = patch.verify(host.read_only(), SOURCE, engine, series)
    told = {row.check: row for row in report.rows}
    assert told["import f5_tts.quick.deep.cache"].ok is True
    assert told["import f5_tts.quick"].text == "comes from the patched source"
    assert told["record"].ok is True
    assert "which is not installed" in told["import f5_tts.api"].text, "it is upstream's to need it"
    assert report.ok is True
    assert differences(before, box.snapshot()) == [], "a proof leaves no byte code behind"
    json.dumps(report.to_json())


def test_verify_says_what_does_not_import(
    box: Box, series: Series, engine: Settings, tmp_path: Path
) -> None:
    (tmp_path / "series/files" / NEWER).write_bytes(b"import no_such_package\n")
    broken = load_series(tmp_path / "series")
    apply(box, broken)
    report = patch.verify(Host.at(box.host.root).read_only(), SOURCE, engine, broken)
    told = {row.check: row for row in report.rows}
    assert report.ok is False
    assert told["import f5_tts.quick.deep.cache"].ok is False
    assert "no_such_package" in told["import f5_tts.quick.deep.cache"].text


def test_verify_without_an_interpreter_is_undetermined(box: Box, series: Series) -> None:
    apply(box, series)
    report = patch.verify(box.host.read_only(), SOURCE, Settings(), series)
    assert report.ok is None and "could not be tried" in report.rows[-1].text
