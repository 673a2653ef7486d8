"""A mounted SD card: what is files is done now, the rest waits for its first boot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ishowtts_ops.config import CONFIG_PATH, MANIFEST_PATH, STATE_DIR
from ishowtts_ops.host import SIM_MARKER, BoxKind, Host
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.offline import FIRST_BOOT
from ishowtts_ops.provision.units import DAEMON, PROGRAM, UNIT_DIR
from ishowtts_ops.sim.tree import build_box
from tests.support.f5 import SOURCE
from tests.support.tree import differences, snapshot
from tests.support.wheels import tiny_wheel

WANTS = f"{UNIT_DIR}/multi-user.target.wants"
VOLATILE = ("/run", "/run/*", "/srv/*")
SETTINGS = {"f5": {"weights": "random"}}


@pytest.fixture
def card(templates: Callable[[str], Path], memory_path: Path) -> Host:
    """The card of a box that has booted before, with iShowTTS and this program on it."""
    root = memory_path / "card"
    root.mkdir()
    build_box(root, "agx-orin-64")
    shutil.copytree(templates("1.1.9"), root, symlinks=True, dirs_exist_ok=True)
    (root / SIM_MARKER.lstrip("/")).unlink()
    for kernels in ("proc", "sys"):  # empty on a card that is only mounted
        shutil.rmtree(root / kernels)
        (root / kernels).mkdir()
    host = Host.at(root)
    assert host.kind is BoxKind.OFFLINE
    host.write(PROGRAM, "#!/bin/sh\n", mode=0o755)
    host.write(CONFIG_PATH, yaml.safe_dump(SETTINGS))
    return host


def program(host: Host, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ishowtts_ops", *argv, "--root", str(host.root)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="a card's files are root's")
def test_prepared_twice_is_prepared_once_and_can_be_undone(card: Host) -> None:
    before = snapshot(card.root, ("/",), VOLATILE)
    planned = program(card, "install", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    plan = json.loads(planned.stdout)["data"]["plan"]
    assert [row["step"] for row in plan] == ["patch", "voices", "power", "units"]
    assert differences(before, snapshot(card.root, ("/",), VOLATILE)) == []

    done = program(card, "install", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert FIRST_BOOT in done.stdout
    assert patch.status(card, SOURCE).state is patch.PatchState.APPLIED
    assert json.loads(card.read_text(MANIFEST_PATH))["source"] == f"{SOURCE}/src"
    assert card.read_text("/var/lib/nvpmodel/status") == "pmode:0000"
    first = card.read_text(f"{UNIT_DIR}/{FIRST_BOOT}")
    assert f"ExecStart={PROGRAM} install --yes" in first and "@" not in first
    assert card.readlink(f"{WANTS}/{FIRST_BOOT}") == f"{UNIT_DIR}/{FIRST_BOOT}"
    assert card.is_file(f"{UNIT_DIR}/{DAEMON}")
    assert not card.lexists(f"{WANTS}/{DAEMON}"), "nothing starts that cannot run yet"

    prepared = snapshot(card.root, ("/",), VOLATILE)
    again = program(card, "install", "--yes")
    assert again.returncode == 0 and "0 changes" in again.stdout
    assert differences(prepared, snapshot(card.root, ("/",), VOLATILE)) == []

    undone = program(card, "uninstall", "--yes")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert not card.lexists(STATE_DIR)
    assert differences(before, snapshot(card.root, ("/",), VOLATILE)) == []


def test_wheels_on_the_card_are_for_its_first_boot(card: Host, tmp_path: Path) -> None:
    folder = "/opt/wheels for 6.2"
    tiny_wheel(card.path(folder), "torch", "2.8.0", tag="cp310-cp310-linux_aarch64")
    argv = [sys.executable, "-m", "ishowtts_ops", "install", "--yes", "--root", str(card.root)]
    elsewhere = tmp_path / "wheels"
    tiny_wheel(elsewhere, "torch", "2.8.0")
    refused = subprocess.run([*argv, "--wheels", elsewhere], capture_output=True, text=True)
    assert refused.returncode == 2 and "its first boot would not find it" in refused.stderr
    done = subprocess.run([*argv, "--wheels", card.path(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    unit = card.read_text(f"{UNIT_DIR}/{FIRST_BOOT}")
    assert f"ExecStart={PROGRAM} install --yes --wheels '{folder}'\n" in unit
    again = subprocess.run(argv, capture_output=True, text=True)
    assert again.returncode == 0 and "0 changes" in again.stdout, again.stdout + again.stderr
    card.rmtree(folder)
    assert subprocess.run(argv, capture_output=True).returncode == 0
    assert "--wheels" not in card.read_text(f"{UNIT_DIR}/{FIRST_BOOT}"), "it is gone"


def test_a_card_without_the_program_is_a_sentence(card: Host) -> None:
    card.remove(PROGRAM)
    done = program(card, "install", "--yes")
    assert done.returncode == 1 and "is not on this file system" in done.stderr
    assert not card.lexists(f"{UNIT_DIR}/{FIRST_BOOT}")


def test_a_card_that_never_booted_gets_no_mode(card: Host) -> None:
    card.remove("/etc/nvpmodel.conf")  # a link that the boot makes
    planned = program(card, "install", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    steps = [row["step"] for row in json.loads(planned.stdout)["data"]["plan"]]
    assert "power" not in steps and "units" in steps
