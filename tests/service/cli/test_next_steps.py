"""Commands that a message names work when they are copied, also for a box in a folder."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folder import FolderBox
from tests.support.terminal import in_terminal


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderBox]:
    made = FolderBox(tmp_path_factory.mktemp("next steps") / "box")
    yield made
    made.stop()


def copied(text: str) -> list[str]:
    """The commands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def typed(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_next_step_is_about_the_same_box(box: FolderBox) -> None:
    (line,) = copied(box.run("bench", "compare", "last", "gone").err.split("next:")[1])
    assert typed(line).stdout.startswith("No run was kept yet")


def test_the_journal_that_is_named_is_the_box_s(box: FolderBox) -> None:
    status, journal = copied(box.run("say", "hello").err.split("next:")[1])
    assert typed(status).returncode in (3, 4), "systemctl's answers for a unit that does not run"
    assert typed(journal).returncode == 0


def test_a_configuration_that_was_named_is_named_again(tmp_path: Path) -> None:
    file = tmp_path / "my settings.yaml"
    file.write_text("daemon: {prot: 1}\n")
    argv = [sys.executable, "-m", "ishowtts_ops", "config", "check", "--config", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "was `port` meant?" in done.stderr
    again = typed(copied(done.stderr.split("next:")[1])[0])
    assert again.stderr == done.stderr


def test_ctrl_c_says_what_comes_next(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "ishowtts_ops", "demo", "--dir", str(tmp_path / "demo")]

    def heed() -> None:
        # A shell that starts this suite in the background has everything below it ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        assert process.stderr is not None
        began = next(line for line in process.stderr if line.strip())
        assert began.startswith("Building"), began
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait(60) == 130
    assert "Traceback" not in told
    assert told.splitlines()[-2:] == [
        "error: Interrupted.",
        "  next: The same command again finishes what was begun.",
    ]


def test_a_long_command_is_not_folded_in_a_terminal(box: FolderBox) -> None:
    """A line break that was put into it would be copied along."""
    screen = in_terminal(["say", "hello", "--root", str(box.root)], columns=60, lines=40)
    (line,) = [line for line in screen.last if line.startswith("  next: ")]
    assert len(copied(line)) == 2
    assert len(line) > 60
