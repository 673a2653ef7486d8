"""Remedies' commands as they are printed: what is copied works on the box it is about."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from ishowtts_ops.cli.spelling import spelled
from ishowtts_ops.doctor.finding import mend, restart
from ishowtts_ops.host import Host
from ishowtts_ops.provision.units import DAEMON
from ishowtts_ops.sim.tree import build_box

POWER = mend("power", "Lock.").commands[0]


def box_at(root: Path) -> Host:
    build_box(root, "orin-nano-super")
    return Host.at(root)


def ours(line: str) -> list[str]:
    """The words of our own program's command line, the program itself left out."""
    words = shlex.split(line)
    assert words[0].endswith("ishowtts-ops")
    assert words[0] == "ishowtts-ops" or Path(words[0]).is_file(), "it can be called like that"
    return words[1:]


def test_a_live_box_takes_it_as_it_is() -> None:
    host = Host.at(Path("/"))
    line = spelled(host, POWER)
    assert line.startswith("sudo ")
    assert ours(line.removeprefix("sudo ")) == ["install", "--only", "power"]
    reboot = ("sudo", "systemctl", "reboot")
    assert spelled(host, reboot) == "sudo systemctl reboot"


def test_our_own_verbs_are_told_which_box_and_which_settings(tmp_path: Path) -> None:
    host = box_at(tmp_path / "a box")
    settings = tmp_path / "my settings.yaml"
    expected = ["install", "--only", "power", "--root", str(host.root), "--config", str(settings)]
    assert ours(spelled(host, POWER, settings)) == expected
    card = tmp_path / "card"
    (card / "etc").mkdir(parents=True)
    line = spelled(Host.at(card), POWER)
    assert line.startswith("sudo "), "an SD card's files are root's"
    assert ours(line.removeprefix("sudo "))[-2:] == ["--root", str(card)]


@pytest.mark.parametrize("name", ["box", "a box; with 'odd' words"])
def test_tools_of_a_simulated_box_are_the_boxes_own(tmp_path: Path, name: str) -> None:
    """Copied into a shell: it is the folder that is asked, never this machine."""
    host = box_at(tmp_path / name)
    for unit in (DAEMON, "nvpmodel.service"):
        line = spelled(host, ("systemctl", "show", "-p", "Id", unit))
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout.strip()) == (0, f"Id={unit}"), (line, done.stderr)
    assert (
        str(host.root) in shlex.split(spelled(host, restart(DAEMON, "Restart it.").commands[0]))[0]
    )


def test_paths_of_a_box_for_a_program_of_this_machine(tmp_path: Path) -> None:
    host = box_at(tmp_path / "box")
    host.write("/opt/notes/x", "x\n")
    line = spelled(host, ("git", "-C", "/opt/notes", "log", "/opt/gone"))
    assert shlex.split(line) == ["git", "-C", str(host.path("/opt/notes")), "log", "/opt/gone"]


def test_this_machine_is_never_rebooted_for_a_folder(tmp_path: Path) -> None:
    """Whatever a remedy names and the box has not at hand does nothing when it is copied."""
    card = tmp_path / "card"
    (card / "etc").mkdir(parents=True)
    for host in (box_at(tmp_path / "box"), Host.at(card)):
        for argv in (("sudo", "reboot"), ("sudo", "apt-get", "clean"), ("dmesg",)):
            line = spelled(host, argv)
            assert line == f"# on the box: {' '.join(argv)}"
            done = subprocess.run(line, shell=True, capture_output=True, timeout=10)
            assert (done.returncode, done.stdout) == (0, b"")
    assert spelled(Host.at(card), ("systemctl", "status")) == "# on the box: systemctl status"
