"""The boxes themselves: they boot, are Jetsons, keep what a real one keeps, and leave no trace."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import cgroup, program, rootfs, tree
from tests.support.container import Box, eventually, leftovers, new_box
from tests.support.ports import free_port

GPU = "/sys/class/devfreq/17000000.gpu"


def test_real_systemd_is_up_with_nothing_failed(shared_box: Box) -> None:
    assert shared_box.exec("cat", "/proc/1/comm").stdout.strip() == "systemd"
    assert shared_box.systemctl("is-system-running").stdout.strip() == "running"


def test_it_is_a_jetson_at_the_real_paths(shared_box: Box) -> None:
    model = shared_box.exec("cat", "/sys/firmware/devicetree/base/model").stdout
    assert model == "NVIDIA Jetson AGX Orin Developer Kit\0"
    shared_box.exec("test", "-w", f"{GPU}/min_freq")
    assert shared_box.read(f"{GPU}/max_freq") == shared_box.exec("cat", f"{GPU}/max_freq").stdout


def test_stand_in_nvpmodel_ran_as_a_unit_and_applied_the_default_mode(shared_box: Box) -> None:
    found = shared_box.show("nvpmodel.service", "ActiveState", "Result", "ExecMainStatus")
    assert found == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert shared_box.show("nvpmodel.service", "ExecMainExitTimestampMonotonic") != {
        "ExecMainExitTimestampMonotonic": "0"
    }, "it never ran"
    lines = shared_box.exec("nvpmodel", "-q").stdout.splitlines()
    assert lines[0].startswith("NV Power Mode: ")


def test_the_program_under_test_runs_for_a_service_without_rights(shared_box: Box) -> None:
    """Units with ProtectHome= and a user of their own must reach interpreter, packages, program."""
    done = shared_box.exec(
        "systemd-run", "--quiet", "--wait", "--pipe", "-p", "DynamicUser=yes",
        "-p", "ProtectHome=yes", "-p", "ProtectSystem=strict",
        f"{program.VENV}/bin/python", "-c",
        "import sys, os, ishowtts_ops, torch, systemd.daemon; print(sys.prefix, os.getuid() > 0)",
    )  # fmt: skip
    assert done.stdout.split() == [program.VENV, "True"]


def test_reset_failed_forgets_the_starts_of_a_unit_that_is_up(shared_box: Box) -> None:
    """The start limit would refuse a daemon that is restarted again and again by hand, install or
    validate. It is in systemd's unit_reset_failed, and the stand-in does as it does."""
    shared_box.write(
        "/etc/systemd/system/limited.service",
        "[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=4\n"
        "[Service]\nExecStart=/bin/sleep infinity\n",
    )
    shared_box.systemctl("daemon-reload")
    for _ in range(6):
        shared_box.systemctl("restart", "limited.service")
        shared_box.systemctl("reset-failed", "limited.service")
    codes = [
        shared_box.systemctl("restart", "limited.service", check=False).returncode for _ in range(5)
    ]
    assert codes == [0, 0, 0, 0, 1], "without it the limit of four holds"
    assert shared_box.show("limited.service", "Result") == {"Result": "start-limit-hit"}
    shared_box.systemctl("reset-failed", "limited.service")


def test_a_reboot_keeps_files_and_journal_and_resets_clocks(box: Box) -> None:
    box.write("/etc/kept", "still here\n")
    box.exec("systemd-cat", "echo", "written before the reboot")
    fresh = box.read(f"{GPU}/min_freq")
    highest = box.read(f"{GPU}/max_freq")
    assert fresh != highest
    box.exec("sh", "-c", f"echo {highest.strip()} > {GPU}/min_freq")
    assert box.read(f"{GPU}/min_freq") == highest
    before = box.exec("cat", "/proc/sys/kernel/random/boot_id").stdout

    box.reboot()

    assert box.exec("cat", "/proc/sys/kernel/random/boot_id").stdout != before
    assert box.exec("cat", "/etc/kept").stdout == "still here\n"
    assert box.read(f"{GPU}/min_freq") == fresh
    assert "written before the reboot" in box.journal(boot="-1")
    assert "written before the reboot" not in box.journal(boot="0")


def test_a_power_cut_ends_everything_at_once(box: Box) -> None:
    box.write(
        "/etc/systemd/system/stubborn.service",
        "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\n",
    )
    box.systemctl("start", "stubborn.service")
    box.wait_for("stubborn.service", "active/running")
    box.pull_plug()
    assert not box.on
    box.boot()
    assert box.state("stubborn.service") == "inactive/dead"


def test_what_a_service_does_is_seen(box: Box) -> None:
    """The helpers that the other files judge by, on a unit that is killed and comes back."""
    box.write(
        "/etc/systemd/system/worker.service",
        "[Service]\nExecStart=/bin/sh -c 'echo started; exec sleep infinity'\n"
        "Restart=always\nRestartSec=100ms\n",
    )
    box.systemctl("start", "worker.service")
    box.wait_for("worker.service", "active/running")
    first = box.show("worker.service", "MainPID")["MainPID"]
    box.exec("kill", "-KILL", first)
    eventually(
        lambda: box.show("worker.service", "NRestarts")["NRestarts"] == "1",
        "the killed unit is restarted",
        evidence=lambda: box.why("worker.service"),
    )
    assert box.journal("worker.service").count("started\n") >= 1
    with pytest.raises(AssertionError, match=r"worker\.service is failed"):
        box.wait_for("worker.service", "failed", timeout=0.2)


def test_snapshots_see_content_mode_owner_and_clocks(box: Box) -> None:
    box.write("/etc/a", "one")
    box.write("/etc/b", "two")
    before = box.tree_snapshot()
    assert tree.differences(before, box.tree_snapshot()) == []
    box.write("/etc/a", "eno")
    box.path("/etc/b").chmod(0o600)
    box.exec("chown", "1:1", "/etc/hostname")
    box.exec("ln", "-s", "a", "/etc/c")
    box.exec("rm", "/etc/nv_tegra_release")
    box.exec("sh", "-c", f"cat {GPU}/max_freq > {GPU}/min_freq")
    changed = [line.split()[:2] for line in tree.differences(before, box.tree_snapshot())]
    real = box.exec("readlink", "-f", f"{GPU}/min_freq").stdout.strip()
    assert changed == [
        ["changed", "/etc/a"],
        ["changed", "/etc/b"],
        ["new", "/etc/c"],
        ["changed", "/etc/hostname"],
        ["gone", "/etc/nv_tegra_release"],
        ["changed", real],
    ]


def test_programs_run_as_asked(shared_box: Box) -> None:
    assert shared_box.exec("cat", stdin="in").stdout == "in"
    assert shared_box.exec("id", "-un", user="nobody").stdout == "nobody\n"
    assert shared_box.exec("sh", "-c", "exit 3", check=False).returncode == 3
    with pytest.raises(AssertionError, match="ended with 3"):
        shared_box.exec("sh", "-c", "exit 3")
    with pytest.raises(AssertionError, match=r"took over 0\.2 s"):
        shared_box.exec("sleep", "1000", timeout=0.2)
    assert shared_box.exec("pgrep", "-f", "sleep 1000", check=False).stdout == ""
    running = shared_box.spawn("sleep", "1001")
    running.kill(signal.SIGKILL)
    assert running.wait().returncode == -signal.SIGKILL


def test_two_boxes_at_once_do_not_meet(base: Path, shared_box: Box) -> None:
    with new_box("orin-nano-super") as other:
        other.boot()
        other.write("/etc/only-there", "x")
        other.systemctl("start", "systemd-tmpfiles-clean.service")
        assert not shared_box.path("/etc/only-there").exists()
        assert "Nano" in other.exec("cat", "/sys/firmware/devicetree/base/model").stdout
        other.power_off()
    assert shared_box.systemctl("is-system-running").stdout.strip() == "running"


@pytest.mark.parametrize("end", ["clean", "exception", "running"])
def test_a_box_leaves_nothing_behind(base: Path, end: str) -> None:
    before = leftovers()
    with contextlib.suppress(ZeroDivisionError), new_box("agx-orin-64") as gone:
        gone.boot()
        gone.spawn("sleep", "infinity")
        assert any(line.startswith("mount") for line in leftovers()), "it looks in the wrong place"
        if end == "clean":
            gone.power_off()
        if end == "exception":
            raise ZeroDivisionError
    assert leftovers() == before


def test_a_killed_test_process_takes_its_box_along(base: Path) -> None:
    """Nobody can clean up after SIGKILL: the container must end by itself, and the next box sweeps
    away what is left on the disk."""
    script = (
        "from tests.support.container import new_box\n"
        "with new_box('agx-orin-64') as box:\n"
        "    box.boot()\n"
        "    print(box.folder, box._leader, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=program.REPOSITORY,
    ) as other:
        assert other.stdout is not None
        folder, leader = other.stdout.readline().split()
        other.kill()
    eventually(lambda: not Path(f"/proc/{leader}").exists(), "its systemd is gone")
    assert cgroup.find(Path(folder).name) != []
    with new_box("agx-orin-64"):
        assert not Path(folder).exists()
        assert folder not in Path("/proc/self/mounts").read_text(encoding="utf-8")
        assert cgroup.find(Path(folder).name) == []


def test_a_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "sources.list",
            "# deb http://wrong.example/ x main\n"
            "deb-src http://wrong.example/d {suite} main\n"
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/d {suite} main universe\n",
        ),
        (
            "sources.list.d/x.sources",
            "Types: deb\nURIs: http://wrong.example/d\nSuites: {suite}-security\n\n"
            "# comment\nTypes: deb\nURIs: http://mirror.example/d\n"
            "Suites: {suite} {suite}-updates\nComponents: main universe\nSigned-By: /k.gpg\n",
        ),
    ],
)
def test_the_mirror_is_apts_own(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text.format(suite=rootfs.codename()), encoding="utf-8")
    assert rootfs.apt_source(tmp_path) == rootfs.AptSource(
        "http://mirror.example/d", ("main", "universe"), "/k.gpg"
    )


def test_no_mirror_no_guess(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://x.example/ other main\n", encoding="utf-8")
    assert rootfs.apt_source(tmp_path) is None
