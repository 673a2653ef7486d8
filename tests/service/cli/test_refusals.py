"""What the machine refuses a person is a sentence with a next step, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.config import CONFIG_PATH
from ishowtts_ops.steps import LEDGER_PATH
from tests.support.folder import Done, FolderBox

# Root may read and write everything, unless it gives that up.
POWERLESS = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)
needs_setpriv = pytest.mark.skipif(
    bool(POWERLESS) and shutil.which("setpriv") is None, reason="setpriv is not installed"
)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderBox]:
    made = FolderBox(tmp_path_factory.mktemp("refusals") / "box")
    yield made
    made.stop()


def program(*argv: str, shell: str = "", before: list[str] | None = None, **env: str) -> Done:
    """Run the program, through a shell with redirections where there are some."""
    words = [*(before or []), sys.executable, "-m", "ishowtts_ops", *argv]
    line = ["sh", "-c", f'exec "$@" {shell}', "sh", *words] if shell else words
    done = subprocess.run(
        line,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **env},
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def sentence(done: Done) -> str:
    """The message of a refusal and its next step, which end what was said."""
    assert "Traceback" not in done.err, done.err
    message = done.err[done.err.index("error: ") :]
    assert message.strip().splitlines()[-1].startswith("  next: "), done.err
    return message


@pytest.mark.parametrize("verb", ["doctor", "config show", "status --json", "--help"])
def test_a_full_disk_behind_the_output(box: FolderBox, verb: str) -> None:
    where = [] if verb == "--help" else ["--root", str(box.root)]
    done = program(*verb.split(), *where, shell="> /dev/full")
    assert done.code == 1
    assert "No space left" in sentence(done)


@pytest.mark.parametrize("verb", ["doctor", "config show", "doctor --list --json"])
def test_output_that_was_closed_goes_nowhere(box: FolderBox, verb: str) -> None:
    # Nothing reads it, so the exit code is all there is: the one of an open output.
    argv = [*verb.split(), "--root", str(box.root)]
    assert program(*argv, shell=">&-").code == program(*argv).code


def test_a_question_without_input_is_answered_no(box: FolderBox) -> None:
    done = program("install", "--root", str(box.root), shell="<&-")
    assert (done.code, "Nothing was changed" in sentence(done)) == (2, True)


def test_a_reader_who_leaves_is_no_failure(box: FolderBox) -> None:
    argv = [sys.executable, "-m", "ishowtts_ops", "doctor", "--list", "--root", str(box.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_a_terminal_that_cannot_show_a_degree_sign(box: FolderBox) -> None:
    done = program("doctor", "-v", "--root", str(box.root), PYTHONIOENCODING="ascii")
    assert "Traceback" not in done.err
    assert "50.2 ?C" in done.out
    # What programs read is UTF-8 everywhere.
    told = program("doctor", "--root", str(box.root), "--json", PYTHONIOENCODING="ascii")
    assert "°C" in json.dumps(json.loads(told.out), ensure_ascii=False)


@needs_setpriv
@pytest.mark.parametrize("verb", ["install --dry-run", "uninstall --dry-run", "power restore"])
def test_a_ledger_of_root(tmp_path: Path, verb: str) -> None:
    box = FolderBox(tmp_path / "box")
    box.host.write(LEDGER_PATH, "{}", mode=0o000)
    done = program(*verb.split(), "--root", str(box.root), before=POWERLESS)
    assert done.code == 1
    assert f"{LEDGER_PATH}" in sentence(done)
    assert "sudo" in done.err


@needs_setpriv
def test_a_configuration_of_somebody_else(tmp_path: Path) -> None:
    box = FolderBox(tmp_path / "box")
    box.host.chmod(CONFIG_PATH, 0o000)
    done = program("status", "--root", str(box.root), before=POWERLESS)
    assert done.code == 2
    assert "Permission denied" in sentence(done)


@needs_setpriv
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir(mode=0o555)
    done = program("demo", "--dir", str(tmp_path / "demo"), before=POWERLESS)
    assert done.code == 1
    assert str(tmp_path / "demo") in sentence(done)


def test_a_bug_keeps_its_traceback() -> None:
    code = (
        "import ishowtts_ops.cli.app as a\n"
        "@a.app.command('broken')\n"
        "def broken() -> None: open('/nowhere/at/all')\n"
        "a.run(['broken'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "FileNotFoundError" in done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("argv", [["say"], ["doctor", "--nonsense"], ["bench", "run", "-n", "x"]])
def test_wrong_words_are_told_as_json_where_it_was_asked_for(argv: list[str]) -> None:
    done = program(*argv, "--json")
    told = json.loads(done.out)
    assert (done.code, done.err) == (2, "")
    assert told["ok"] is False
    assert told["command"] == " ".join(argv[: 2 if argv[0] == "bench" else 1])
    assert "--help" in told["error"]["hint"]
    assert sentence(program(*argv)).startswith("error: ")
