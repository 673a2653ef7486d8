"""The real engine on a live box: F5-TTS as the submodule of a checkout that belongs to a person,
patched, with a small network of random weights, spoken to over HTTP."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ishowtts_ops.host import Host
from ishowtts_ops.sim.checkout import make_checkout
from tests.box.conftest import BOARD
from tests.support import rootfs, tree
from tests.support.container import Box, new_box
from tests.support.installed import DAEMON, Daemon, configure, envelope

CHECKOUT = "/opt/ishowtts"
SUBMODULE = f"{CHECKOUT}/third_party/F5-TTS"
OWNER = "jetson"
Installed = tuple[Box, Daemon, dict[str, tree.Entry]]


@pytest.fixture(scope="module")
def installed(base: Path) -> Iterator[Installed]:
    """Checked out by a person, installed by root, as it is on every box. The third is the box
    before install."""
    with new_box(BOARD) as box:
        box.boot()
        box.exec("useradd", "--create-home", OWNER)
        make_checkout(
            Host.at(box.root),
            box_path=CHECKOUT,
            version="1.1.9",
            also=["1.1.22"],
            cache=rootfs.cache_folder() / "wheels",
        )
        box.exec("chown", "--recursive", f"{OWNER}:{OWNER}", CHECKOUT)
        daemon = configure(
            box, engine={"kind": "f5"}, f5={"weights": "random", "nfe": 5, "device": "cpu"}
        )
        before = box.tree_snapshot()
        box.ops("install", "--yes", timeout=280)
        yield box, daemon, before


def _samples(wav: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(wav)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)


def _git(box: Box, *words: str) -> str:
    # `git status` would otherwise write the index anew.
    return box.exec("git", "--no-optional-locks", "-C", SUBMODULE, *words, user=OWNER).stdout


def test_it_speaks_with_every_voice_of_the_checkout(installed: Installed) -> None:
    """Noise, with these weights, but through the whole path: and each voice's own noise."""
    _, daemon, _ = installed
    spoken = []
    for voice in ("host", "guest", "announcer"):
        answer = daemon.say("Hello there.", voice=voice, seed=1)
        assert answer.status_code == 200, answer.text
        samples = _samples(answer.content)
        assert len(samples) > 2_400
        assert np.abs(samples).max() > 0
        spoken.append(samples.tobytes())
    assert len(set(spoken)) == 3


def test_the_daemon_runs_the_patched_sources(installed: Installed) -> None:
    box, daemon, _ = installed
    ready = daemon.get("/readyz")
    assert ready is not None
    assert ready.json()["engine"] == "f5"
    status = envelope(box.ops("patch", "status", "--json").stdout)["data"]
    assert status["state"] == "applied"
    pid = box.show(DAEMON, "MainPID")["MainPID"]
    assert "libtorch" in box.exec("cat", f"/proc/{pid}/maps").stdout


def test_the_checkout_still_belongs_to_its_owner(installed: Installed) -> None:
    """Root patched it: no file of it may be root's now, or the next `git pull` fails."""
    box, _, _ = installed
    assert box.exec("find", CHECKOUT, "-not", "-user", OWNER).stdout == ""
    assert " M src/f5_tts/" in _git(box, "status", "--porcelain")


def test_it_is_installed_once(installed: Installed) -> None:
    box, _, _ = installed
    before = box.tree_snapshot()
    assert "Nothing to do" in box.ops("install", "--yes").stdout
    assert tree.differences(before, box.tree_snapshot()) == []


def test_uninstall_gives_the_checkout_back(installed: Installed) -> None:
    """Byte for byte, git's own files included."""
    box, daemon, before = installed
    box.ops("uninstall", "--yes")
    assert "\n".join(tree.differences(before, box.tree_snapshot())) == ""
    assert _git(box, "status", "--porcelain") == ""
    assert daemon.get("/livez") is None


def test_a_submodule_update_loses_the_patch_and_doctor_brings_it_back(
    installed: Installed,
) -> None:
    box, daemon, _ = installed
    box.ops("install", "--yes", timeout=280)
    _git(box, "checkout", "--quiet", "--force", "v1.1.22")
    found = box.ops("doctor", "--json", check=False)
    assert found.returncode == 1
    bad = {
        finding["check"]
        for finding in envelope(found.stdout)["data"]["findings"]
        if finding["severity"] == "error"
    }
    assert "patch-state" in bad
    done = box.ops("doctor", "--fix", "--yes", check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    status = envelope(box.ops("patch", "status", "--json").stdout)["data"]
    assert (status["state"], status["version"]) == ("applied", "1.1.22")
    assert box.exec("find", CHECKOUT, "-not", "-user", OWNER).stdout == ""
    assert daemon.ready()
    assert daemon.say("And it goes on.", voice="guest").status_code == 200
    box.ops("uninstall", "--yes")
    assert _git(box, "status", "--porcelain", "--ignored") == ""
    assert _git(box, "describe", "--tags").strip() == "v1.1.22"
