"""The one key of iShowTTS's configuration that may be written, and its way back."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision.ishowtts_nfe import NOTE, set_nfe, undo
from ishowtts_ops.sim.checkout import VOICES, configuration
from ishowtts_ops.steps import Ledger

PATH = "/opt/ishowtts/config/ishowtts.toml"
REAL = configuration(VOICES).replace("default_nfe_step = 7", "default_nfe_step = 32")


def make(tmp_path: Path, text: str) -> Host:
    host = Host.at(tmp_path)
    host.write(SIM_MARKER, "{}")
    host = Host.at(tmp_path)
    host.write(PATH, text.encode(), mode=0o640)
    return host


def change(host: Host, steps: int) -> bool:
    found = set_nfe(host.read_only(), Settings(), Ledger.open(host), steps)
    if found is None:
        return False
    found = set_nfe(host, Settings(), Ledger.open(host), steps)
    assert found is not None
    found.apply(lambda _: None)
    return True


SHAPES = {
    "as shipped": REAL,
    "crlf": REAL.replace("\n", "\r\n"),
    "odd spacing": "[ f5 ] # ours\n  default_nfe_step=0x20   # hex\n\n[api]\nx=1\n",
    "not said": "# top\n[f5]  # engine\nmodel = 'm'\n\n# voices\n[[f5.voices]]\nid = 'a'\n",
    "not said, last line": "[api]\nx = 1\n[f5]",
    "not ascii": "[f5]\n# 不要改\ndefault_nfe_step = 16\nmodel = '模型'",
    "a header in a string": 'note = """\n[f5] \n"""\n[f5]\ndefault_nfe_step = 12\n',
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES.keys())
def test_one_line_changes_and_comes_back(tmp_path: Path, text: str) -> None:
    host = make(tmp_path, text)
    assert change(host, 7)
    after = host.read_bytes(PATH).decode()
    lines = list(difflib.ndiff(text.split("\n"), after.split("\n")))
    added = [line for line in lines if line.startswith("+ ")]
    assert any("default_nfe_step" in line and "7" in line for line in added)
    assert len(added) <= 2
    for comment in ("# Don't change", "# hex", "# engine", "# voices", "# 不要改"):
        assert (comment in text) == (comment in after)
    assert host.stat(PATH).mode == 0o640
    assert not change(host, 7), "twice is once"
    assert undo(host, Ledger.open(host), lambda _: None) == ()
    back = host.read_bytes(PATH).decode()
    assert back.rstrip("\n") == text.rstrip("\n")


def test_the_first_value_is_the_one_that_comes_back(tmp_path: Path) -> None:
    host = make(tmp_path, REAL)
    assert change(host, 16) and change(host, 7)
    assert Ledger.open(host).notes[NOTE] == {"path": PATH, "was": "32", "set": "7"}
    undo(host, Ledger.open(host), lambda _: None)
    assert host.read_bytes(PATH).decode() == REAL


def test_what_its_owner_changed_since_stays(tmp_path: Path) -> None:
    host = make(tmp_path, REAL)
    change(host, 7)
    mine = host.read_text(PATH).replace("max_parallel = 1", "max_parallel = 2")
    host.write(PATH, mine)
    undo(host, Ledger.open(host), lambda _: None)
    assert host.read_text(PATH) == mine.replace("default_nfe_step = 7", "default_nfe_step = 32")
    change(host, 7)
    theirs = host.read_text(PATH).replace("default_nfe_step = 7", "default_nfe_step = 10")
    host.write(PATH, theirs)
    undo(host, Ledger.open(host), lambda _: None)
    assert host.read_text(PATH) == theirs


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    host = make(tmp_path, REAL)
    host.rename(PATH, "/srv/ishowtts.toml")
    host.symlink("/srv/ishowtts.toml", PATH)
    change(host, 7)
    assert host.readlink(PATH) == "/srv/ishowtts.toml"
    assert "default_nfe_step = 7 " in host.read_text(PATH)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[f5\n", "not valid TOML"),
        ("f5 = {model = 'm'}\n", "no usual"),
        ("[api]\nx = 1\n", "no usual"),
        ('s = """\n[f5]\n"""\n[f5]\nmodel = "m"\n', "no usual"),
    ],
)
def test_what_cannot_be_done_with_one_line_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    host = make(tmp_path, text)
    with pytest.raises(OpsError, match=words):
        change(host, 7)
    assert host.read_text(PATH) == text


def test_no_checkout_and_no_number(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    with pytest.raises(OpsError, match="no iShowTTS configuration"):
        change(host, 7)
    with pytest.raises(UsageError, match="no number of steps"):
        change(host, 0)
