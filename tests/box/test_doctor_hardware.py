"""What doctor and guard do on a live box beyond mending: cycles, resume, load, bundle, and what
uninstall gives back to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.conftest import BOARD
from tests.support.container import Box, eventually, new_box
from tests.support.installed import (
    DAEMON,
    GPU,
    GUARD,
    Daemon,
    complaining,
    configure,
    envelope,
    install,
    unlocked,
)


@pytest.fixture(scope="module")
def installed(base: Path) -> Iterator[tuple[Box, Daemon]]:
    with new_box(BOARD) as box:
        box.boot()
        daemon = configure(box, power={"guard_seconds": 3600})
        install(box)
        yield box, daemon


def test_an_ordering_cycle_is_named(installed: tuple[Box, Daemon]) -> None:
    """systemd drops a job to break a cycle, and tells only the journal."""
    box, _ = installed
    for name, after in (("cycle-a", "cycle-b"), ("cycle-b", "cycle-a")):
        box.write(
            f"/etc/systemd/system/{name}.service",
            f"[Unit]\nAfter={after}.service\nWants={after}.service\n"
            "[Service]\nType=oneshot\nExecStart=/bin/true\n",
        )
    box.systemctl("daemon-reload")
    assert "units-cycle" not in complaining(box)
    box.systemctl("start", "cycle-a.service", check=False)
    eventually(lambda: "units-cycle" in complaining(box), "doctor names the cycle")
    said = box.ops("doctor", "units-cycle", check=False).stdout
    assert "cycle-" in said and "deleted to break ordering cycle" in said
    box.exec("rm", *(f"/etc/systemd/system/cycle-{x}.service" for x in "ab"))
    box.systemctl("daemon-reload")


def test_the_guard_runs_after_resume(installed: tuple[Box, Daemon]) -> None:
    """A container cannot sleep, so only the sleeping itself is left out."""
    box, _ = installed
    drop_in = "/etc/systemd/system/systemd-suspend.service.d/test.conf"
    took = "touch /run/slept; echo 306000000 > " + f"{GPU}/min_freq"
    box.write(drop_in, f"[Service]\nExecStart=\nExecStart=/bin/sh -c '{took}'\n")
    box.systemctl("daemon-reload")
    box.systemctl("start", "suspend.target")
    eventually(
        lambda: not unlocked(box),
        "the guard has locked the clocks again",
        evidence=lambda: box.why(GUARD),
    )
    assert box.exec("test", "-f", "/run/slept").returncode == 0
    assert "Restored" in box.journal(GUARD)
    box.exec("rm", "-r", drop_in.rpartition("/")[0])
    box.systemctl("daemon-reload")


def test_under_load_it_speaks_and_watches(installed: tuple[Box, Daemon]) -> None:
    box, _ = installed
    done = box.ops("doctor", "--under-load", "--json", "load", check=False)
    report = envelope(done.stdout)["data"]
    assert report["exit_code"] == 0, done.stdout
    said = {finding["check"]: finding["text"] for finding in report["findings"]}
    assert "of speech in" in said["load-speed"]
    assert said["load-supply"] == "The supply held under load."
    assert report["seconds"] < 25


def test_the_bundle_holds_logs_of_the_real_journal(installed: tuple[Box, Daemon]) -> None:
    box, _ = installed
    box.ops("doctor", "--bundle", "/root/b.tar.gz", check=False)
    names = box.exec("tar", "-tzf", "/root/b.tar.gz").stdout.splitlines()
    inside = {name.split("/", 1)[1] for name in names}
    assert {"report.json", "facts.json", "config.yaml", f"journal/{DAEMON}.txt"} <= inside
    assert box.exec("stat", "-c", "%a", "/root/b.tar.gz").stdout.strip() == "600"
    log = box.exec("sh", "-c", f"tar -xzOf /root/b.tar.gz --wildcards '*/journal/{DAEMON}.txt'")
    assert "spoken id=" in log.stdout


def test_power_status_needs_root_for_the_memory_clock_only(installed: tuple[Box, Daemon]) -> None:
    box, _ = installed
    shown = box.ops("power", "status", check=False, user="nobody").stdout
    assert "CPU" in shown and "GPU" in shown and "Traceback" not in shown
    assert "EMC unknown" in shown and "needs root" in shown
    assert "needs root" not in box.ops("power", "status", check=False).stdout


def test_doctor_needs_root_for_little(installed: tuple[Box, Daemon]) -> None:
    """What an ordinary user may not read is not known, and no complaint."""
    box, _ = installed
    said = box.ops("doctor", "--json", "config", "clocks", check=False, user="nobody")
    report = envelope(said.stdout)["data"]
    assert report["summary"]["error"] == report["summary"]["warn"] == 0, said.stdout
    unknown = [f for f in report["findings"] if f["severity"] == "unknown"]
    assert [f["check"] for f in unknown] == ["clocks-emc"]
    command = ["sudo", "ishowtts-ops", "doctor", "clocks-emc"]
    assert unknown[0]["remedy"]["commands"] == [command]


def test_uninstall_brings_the_rival_back(installed: tuple[Box, Daemon]) -> None:
    """The last test of this box: nothing is installed on it any more."""
    box, _ = installed
    box.write(
        "/usr/lib/systemd/system/tuned.service",
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    )
    box.systemctl("daemon-reload")
    box.systemctl("enable", "--now", "tuned.service")
    shown = box.ops("power", "resolve", "--dry-run").stdout
    assert "$ systemctl disable --now tuned.service" in shown
    box.ops("power", "resolve", "--yes")
    assert box.state("tuned.service") == "inactive/dead"
    assert box.systemctl("is-enabled", "tuned.service", check=False).stdout.strip() == "disabled"
    assert unlocked(box) == []
    box.ops("uninstall", "--yes")
    assert box.systemctl("is-enabled", "tuned.service").stdout.strip() == "enabled"
    assert box.systemctl("is-active", "tuned.service").stdout.strip() == "active"
