"""The daemon, iShowTTS's backend, or both: what install wants of systemd, and when it restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ishowtts_ops.config import Settings, parse
from ishowtts_ops.errors import ConfigError
from ishowtts_ops.host import Host
from ishowtts_ops.provision import backend
from ishowtts_ops.provision.daemon import DaemonStep
from ishowtts_ops.provision.patch_state import PATCH_STATE_PATH
from ishowtts_ops.provision.units import (
    BACKEND,
    CALENDAR_UNITS,
    DAEMON,
    POWER_UNITS,
    UNIT_DIR,
    wanted_units,
)
from ishowtts_ops.steps import Ledger

COMMAND = ["/opt/ishowtts/scripts/run_backend.sh", "--warmup"]


def settings(**sections: dict[str, Any]) -> Settings:
    return Settings.model_validate(sections)


def test_either_or_both() -> None:
    both = wanted_units(settings(backend={"command": COMMAND}))
    assert {DAEMON, BACKEND, *CALENDAR_UNITS} <= set(both)
    alone = wanted_units(settings(backend={"command": COMMAND}, daemon={"enabled": False}))
    assert alone == (*POWER_UNITS, BACKEND), "and no calendar, which measures the daemon"
    assert BACKEND not in wanted_units(Settings())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("daemon: {enabled: false}", "there is no backend.command: nothing would speak"),
        (
            "backend: {command: [run], url: 'http://127.0.0.1:27130'}",
            "27130 is the backend's too",
        ),
    ],
)
def test_what_cannot_work_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(text, "a test")


def test_the_port_is_free_without_the_daemon() -> None:
    text = "{backend: {command: [run], url: 'http://127.0.0.1:27130'}, daemon: {enabled: false}}"
    assert parse(text, "a test").backend.url == "http://127.0.0.1:27130"


def test_what_is_not_wanted_needs_no_start(tmp_path: Path) -> None:
    host = Host.at(tmp_path)  # offline: asking systemd would be an error
    off = settings(daemon={"enabled": False}, backend={"command": COMMAND})
    assert DaemonStep(off, Ledger.open(host)).diff(host) is None
    assert backend.BackendStep(Settings(), Ledger.open(host)).diff(host) is None


@pytest.mark.parametrize(
    "path", [f"{UNIT_DIR}/{BACKEND}", PATCH_STATE_PATH, "/opt/ishowtts/config/ishowtts.toml"]
)
def test_it_is_started_again_when_what_it_runs_changes(tmp_path: Path, path: str) -> None:
    host = Host.at(tmp_path)
    seen = {backend.fingerprint(host, Settings())}
    for text in ("one", "two"):
        host.write(path, text)
        seen.add(backend.fingerprint(host, Settings()))
    assert len(seen) == 3
