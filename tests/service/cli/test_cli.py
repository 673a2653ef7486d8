"""The program as a person meets it: real processes, real exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops import __version__
from tests.support.folder import Done, FolderBox, differences


def program(*argv: str, **env: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "ishowtts_ops", *argv],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderBox]:
    made = FolderBox(tmp_path_factory.mktemp("cli") / "box", board="orin-nano-super")
    yield made
    made.stop()


def test_help_teaches_and_imports_nothing_that_takes_long() -> None:
    heavy = ("torch", "fastapi", "uvicorn", "f5_tts", "numpy", "soundfile", "matplotlib")
    code = (
        "import sys; from ishowtts_ops.cli.app import run; run(['--help']);"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    for verb in ("install", "uninstall", "doctor", "patch", "power", "serve", "say", "demo"):
        assert verb in done.stdout


def test_version() -> None:
    assert program("--version").out.strip() == f"ishowtts-ops {__version__}"


def test_wrong_words_are_usage_errors() -> None:
    assert program("instal").code == 2
    assert program("install", "--nonsense").code == 2


def test_every_mistake_in_the_configuration_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("daemon: {port: x}\npowr: 1\n")
    done = program("config", "check", "--config", str(file))
    assert done.code == 2
    assert "daemon.port" in done.err
    assert "powr: there is no such key" in done.err
    assert "Traceback" not in done.err
    as_json = program("config", "check", "--config", str(file), "--json")
    envelope = json.loads(as_json.out)
    assert as_json.code == 2
    assert envelope["ok"] is False
    assert {p["where"] for p in envelope["error"]["problems"]} == {"daemon.port", "powr"}


def test_a_missing_configuration_file_is_a_sentence() -> None:
    done = program("config", "check", "--config", "/nowhere.yaml")
    assert (done.code, "no such file" in done.err) == (2, True)


def test_config_show_prints_what_is_in_force(box: FolderBox) -> None:
    assert "kind: tone" in box.run("config", "show").out
    assert (
        json.loads(box.run("config", "show", "--json").out)["data"]["settings"]["engine"]["kind"]
        == "tone"
    )


def test_a_root_that_is_none_is_refused() -> None:
    done = program("status", "--root", "/nowhere")
    assert (done.code, "not a folder" in done.err) == (2, True)


def test_a_machine_that_is_no_jetson_is_told_of_the_demo(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ishowtts-sim.json").write_text("{}")
    done = program("install", "--yes", "--root", str(tmp_path))
    assert done.code == 1
    assert "demo" in done.out + done.err
    assert sorted(os.listdir(tmp_path)) == ["etc"]


def test_a_dry_run_shows_diffs_and_changes_nothing(box: FolderBox) -> None:
    before = box.tree()
    done = box.run("install", "--dry-run")
    assert done.code == 0, done.err
    assert "+++ b/etc/systemd/system/ishowtts-tts.service" in done.out
    assert "$ systemctl enable" in done.out
    assert "\x1b" not in done.out
    assert differences(before, box.tree()) == []
    plan = json.loads(box.run("install", "--dry-run", "--json").out)["data"]["plan"]
    assert [row["step"] for row in plan] == ["voices", "power", "units", "daemon"]


def test_without_an_answer_nothing_is_changed(box: FolderBox) -> None:
    before = box.tree()
    done = box.run("install")
    assert (done.code, "Nothing was changed" in done.err) == (2, True)
    assert differences(before, box.tree()) == []


def test_speech_without_a_daemon_names_the_next_step(box: FolderBox) -> None:
    done = box.run("say", "hello")
    assert done.code == 1
    assert "systemctl status ishowtts-tts" in done.err


def test_debug_shows_the_traceback(box: FolderBox) -> None:
    assert "Traceback" in box.run("say", "hello", "--debug").err


def test_completion_is_offered() -> None:
    done = program("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "ishowtts-ops" in done.out
