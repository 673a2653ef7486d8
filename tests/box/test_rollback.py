"""A new commit of F5-TTS on a live box: validated by itself, kept when it is good, rolled back when
it is not. The engine is the real one, patched, with a small network of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.host import Host
from ishowtts_ops.sim.checkout import VOICES, make_checkout
from tests.box.conftest import BOARD
from tests.support import rootfs
from tests.support.chat import Chat, open_chat
from tests.support.container import Box, eventually, new_box
from tests.support.installed import Daemon, configure, envelope, past

CHECKOUT = "/opt/ishowtts"
SUBMODULE = f"{CHECKOUT}/third_party/F5-TTS"
OWNER = "jetson"
WATCH = "ishowtts-watch.service"
SAMPLING = "src/f5_tts/model/cfm.py"
STEPS = "sway_sampling_coef * (torch.cos"
Validated = tuple[Box, Daemon, Chat]


@pytest.fixture(scope="module")
def validated(base: Path) -> Iterator[Validated]:
    """A checkout that belongs to a person, installed, validated, with the calendar on."""
    with new_box(BOARD) as box, open_chat() as chat:
        box.boot()
        box.exec("useradd", "--create-home", OWNER)
        make_checkout(
            Host.at(box.root),
            box_path=CHECKOUT,
            version="1.1.9",
            cache=rootfs.cache_folder() / "wheels",
            voices=VOICES[:1],  # every start warms each of them
        )
        box.exec("chown", "--recursive", f"{OWNER}:{OWNER}", CHECKOUT)
        daemon = configure(
            box,
            engine={"kind": "f5"},
            f5={"weights": "random", "nfe": 5, "device": "cpu"},
            # Only what is twice as slow is a regression: this machine has others on it.
            measure={
                "calendar": True,
                "idle_seconds": 0.5,
                "runs": 4,
                "workload": "S",
                "tolerance_percent": 100,
            },
            notify={"webhook": chat.url},
        )
        box.ops("install", "--yes", timeout=280)
        # The clocks of an AGX Orin need a reboot for MAXN; without it no run is a baseline.
        box.reboot()
        box.systemctl("start", WATCH, check=False, timeout=280)
        assert "Validated: this box was never validated" in box.journal(WATCH), box.why(WATCH)
        yield box, daemon, chat


def git(box: Box, *words: str) -> str:
    return box.exec("git", "--no-optional-locks", "-C", SUBMODULE, *words, user=OWNER).stdout


def upstream_moves(box: Box, old: str, new: str, file: str = SAMPLING) -> str:
    """A commit as upstream makes one and a person brings it in: `git pull` with our hooks out of
    the way. Returns its id."""
    git(box, "checkout", "--quiet", "--force", "HEAD")
    path = box.path(f"{SUBMODULE}/{file}")
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} is in {file} {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")
    who = ("-c", "user.name=upstream", "-c", "user.email=upstream@localhost")
    git(box, *who, "commit", "--quiet", "--message=upstream moves", file)
    return git(box, "rev-parse", "HEAD").strip()


def settled(box: Box) -> bool:
    return box.state(WATCH) in ("inactive/dead", "failed/failed")


def patched(box: Box) -> bool:
    status = envelope(box.ops("patch", "status", "--json", check=False).stdout)["data"]
    return bool(status["state"] == "applied")


def test_a_commit_that_changes_what_is_heard_is_rolled_back_and_told(
    validated: Validated,
) -> None:
    """Nobody starts anything: the path unit sees the commit, the series fits it, and the proof
    against upstream's own network fails."""
    box, daemon, chat = validated
    good = git(box, "rev-parse", "HEAD").strip()
    baselines = past(box).baselines
    bad = upstream_moves(box, STEPS, STEPS.replace("coef *", "coef * 0.5 *"))
    eventually(lambda: len(chat.of(WATCH)) == 1, "the chat was told", 280, lambda: box.why(WATCH))
    said = "\n".join(chat.of(WATCH)[0]["lines"])
    assert "Validation failed: The series does not verify" in said
    assert f"F5-TTS is at commit {good[:12]} again." in said
    assert "The box runs its last good state again." in said

    assert git(box, "rev-parse", "HEAD").strip() == good != bad
    assert patched(box)
    assert box.exec("find", CHECKOUT, "-not", "-user", OWNER).stdout == ""
    assert past(box).baselines == baselines, "what failed is no baseline"
    assert daemon.ready()
    assert daemon.say("As if nothing had happened.").status_code == 200
    # The commit is not lost: whoever made it finds it.
    assert "upstream moves" in git(box, "log", "-1", "--format=%s", bad)
    eventually(lambda: settled(box), "no second round began", 60, lambda: box.why(WATCH))
    box.systemctl("start", WATCH, check=False, timeout=280)
    assert len(chat.of(WATCH)) == 1
    assert git(box, "rev-parse", "HEAD").strip() == good


def test_a_commit_that_changes_nothing_of_that_becomes_the_baseline(validated: Validated) -> None:
    box, daemon, chat = validated
    before = past(box).baselines
    told = len(chat.told)
    new = upstream_moves(box, STEPS, STEPS.replace("(torch.cos", "1.0 * (torch.cos"))
    eventually(
        lambda: len(past(box).baselines) == len(before) + 1,
        "the new commit was validated",
        280,
        lambda: box.why(WATCH),
    )
    reason = past(box).baselines[-1].reason
    assert reason.startswith("the commit of F5-TTS changed from ")
    assert f" to {new[:12]}" in reason
    assert git(box, "rev-parse", "HEAD").strip() == new
    assert patched(box)
    assert daemon.ready()
    assert len(chat.told) == told
