"""`install` and `uninstall` on a live box: twice is once, killed anywhere it is finished by the
next run, and uninstall leaves nothing."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.box.conftest import BOARD
from tests.support import tree
from tests.support.container import Box, eventually, new_box
from tests.support.installed import (
    CONFIG,
    DAEMON,
    UNITS,
    Daemon,
    configure,
    envelope,
    fault,
    install,
    mend,
    mode_name,
    unlocked,
)
from tests.support.ports import free_port
from tests.support.program import PROGRAM
from tests.support.running import Running

Fresh = tuple[Box, Daemon, dict[str, tree.Entry]]


class Reused:
    """A configured box on which nothing is installed, used by one test after the other, because
    every test ends with an uninstall. One that a failed test leaves dirty is thrown away."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._fresh: Fresh | None = None

    def get(self) -> Fresh:
        if self._fresh is None or _changed(self._fresh):
            self.close()
            box = self._stack.enter_context(new_box(BOARD))
            box.boot()
            daemon = configure(box)
            self._fresh = box, daemon, box.tree_snapshot()
        return self._fresh

    def close(self) -> None:
        self._stack.close()
        self._fresh = None


@pytest.fixture(scope="module")
def reused(base: Path) -> Iterator[Reused]:
    with contextlib.closing(Reused()) as boxes:
        yield boxes


@pytest.fixture
def fresh(reused: Reused) -> Iterator[Fresh]:
    found = reused.get()
    yield found
    if found[0].on:
        found[0].ops("uninstall", "--yes", check=False)


def _changed(fresh: Fresh) -> str:
    """What differs from the box before install, one path a line."""
    box, _, before = fresh
    return "\n".join(tree.differences(before, box.tree_snapshot()))


def _complete(fresh: Fresh) -> None:
    """All that install promises, seen from outside."""
    box, daemon, _ = fresh
    assert unlocked(box) == []
    assert daemon.ready()
    assert daemon.say("All is well.").status_code == 200
    for unit in UNITS:
        assert box.systemctl("is-enabled", unit).stdout.strip() == "enabled"
    assert "Nothing to do" in box.ops("install", "--dry-run").stdout


def test_a_dry_run_shows_all_and_changes_nothing(fresh: Fresh) -> None:
    box, _, _ = fresh
    shown = box.ops("install", "--dry-run").stdout
    for expected in (
        "+++ b/etc/systemd/system/ishowtts-tts.service",
        "+ExecStart=/opt/ishowtts-ops/venv/bin/ishowtts-ops serve",
        "$ nvpmodel -m 0",
        "$ jetson_clocks",
        "$ systemctl daemon-reload",
        "$ systemctl restart ishowtts-tts.service",
    ):
        assert expected in shown
    data = envelope(box.ops("install", "--dry-run", "--json").stdout)["data"]
    assert [change["step"] for change in data["plan"]][-3:] == ["power", "units", "daemon"]
    assert _changed(fresh) == ""


def test_install_then_again_then_uninstall(fresh: Fresh) -> None:
    box, _, _ = fresh
    assert "changes made" in box.ops("install", "--yes").stdout
    _complete(fresh)
    installed = box.tree_snapshot()
    pid = box.show(DAEMON, "MainPID")

    again = box.ops("install", "--yes").stdout

    assert "Nothing to do" in again
    assert tree.differences(installed, box.tree_snapshot()) == []
    assert box.show(DAEMON, "MainPID") == pid, "the second run restarted the daemon"

    box.ops("uninstall", "--yes")
    assert _changed(fresh) == ""
    listed = box.systemctl("list-units", "--all", "--plain", "--no-legend", "ishowtts*").stdout
    assert listed == ""
    assert box.exec("pgrep", "-f", "ishowtts-ops serve", check=False).stdout == ""
    assert "Nothing to do" in box.ops("uninstall", "--yes").stdout


def test_clocks_and_mode_come_back_after_a_reboot_in_between(fresh: Fresh) -> None:
    """MAXN was in force, and is not what was there before. Taking it away may need a reboot too."""
    box, _, _ = fresh
    install(box)
    assert mode_name(box) == "MAXN"
    assert unlocked(box) == []
    done = box.ops("uninstall", "--yes")
    if "reboot" in (done.stdout + done.stderr).lower():
        box.reboot()
    assert mode_name(box) == "MODE_30W"
    assert _changed(fresh) == ""


def test_a_changed_configuration_changes_what_it_names(fresh: Fresh) -> None:
    box, daemon, _ = fresh
    box.ops("install", "--yes")
    original = box.read(CONFIG)
    config = yaml.safe_load(original)
    config["daemon"]["port"] = free_port()
    config["power"] = {"guard_seconds": 77}
    box.write(CONFIG, yaml.safe_dump(config))
    plan = envelope(box.ops("install", "--dry-run", "--json").stdout)["data"]["plan"]
    assert [change["step"] for change in plan] == ["units", "daemon"]
    box.ops("install", "--yes")
    assert Daemon(config["daemon"]["port"]).ready()
    assert daemon.get("/livez") is None
    assert "OnUnitActiveSec=77" in box.read("/etc/systemd/system/ishowtts-guard.timer")
    box.write(CONFIG, original)


def test_a_given_configuration_is_taken_and_given_back(fresh: Fresh) -> None:
    """--config over the owner's own file: units read that path, so it is replaced, and uninstall
    brings the owner's back."""
    box, _, _ = fresh
    other = yaml.safe_load(box.read(CONFIG))
    other["daemon"]["port"] = free_port()
    box.exec("sh", "-c", "cat > /run/other.yaml", stdin=yaml.safe_dump(other))
    box.ops("install", "--yes", "--config", "/run/other.yaml")
    assert Daemon(other["daemon"]["port"]).ready()
    assert yaml.safe_load(box.read(CONFIG)) == other
    box.ops("uninstall", "--yes")
    assert _changed(fresh) == ""


STEPS = ("voices", "power", "units", "daemon")


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_a_step_it_is_finished_by_the_next_run(fresh: Fresh, step: str) -> None:
    box, _, _ = fresh
    _kill_in(box, step, 0.0)
    _kill_in(box, step, 0.2)
    box.ops("install", "--yes")
    _complete(fresh)
    box.ops("uninstall", "--yes")
    assert _changed(fresh) == ""


@pytest.mark.parametrize("step", STEPS[1:])
def test_killed_in_a_step_it_can_still_be_undone(fresh: Fresh, step: str) -> None:
    box, _, _ = fresh
    _kill_in(box, step, 0.1)
    box.ops("uninstall", "--yes")
    assert _changed(fresh) == ""


def test_an_uninstall_killed_again_and_again_is_finished_by_the_last(fresh: Fresh) -> None:
    box, _, _ = fresh
    box.ops("install", "--yes")
    for words in ("stopping ishowtts-tts", "stopping ishowtts-clocks", "Put back", "putting back"):
        running = box.spawn(PROGRAM, "uninstall", "--yes")
        _wait_for_words(running, words)
        running.kill(signal.SIGKILL)
        running.wait()
    box.ops("uninstall", "--yes")
    assert _changed(fresh) == ""


def test_the_power_goes_in_the_middle(fresh: Fresh) -> None:
    """Not even the page cache was asked: a box on a shelf loses its power, boots, and the next
    install finishes."""
    box, _, _ = fresh
    running = _started(box, "units")
    running.kill(signal.SIGSTOP)
    box.pull_plug()
    box.boot()
    box.ops("install", "--yes")
    _complete(fresh)


def test_two_at_once_the_second_says_who_is_at_work(fresh: Fresh) -> None:
    box, daemon, _ = fresh
    fault(box, "load:6")
    first = _started(box, "daemon")
    second = box.ops("install", "--yes", check=False)
    assert second.returncode == 1
    said = " ".join(second.stderr.split())
    assert "`ishowtts-ops install`" in said
    assert f"process {_pid_inside(first)}," in said
    assert "user root" in said
    also = box.ops("uninstall", "--yes", check=False)
    assert also.returncode == 1
    assert "at work" in also.stderr
    done = first.wait()
    assert done.returncode == 0, done.stderr
    assert daemon.ready()
    mend(box)


def test_a_daemon_that_cannot_start_is_an_error_with_its_words(fresh: Fresh) -> None:
    """And mending the cause and running again is all that is needed."""
    box, _, _ = fresh
    fault(box, "raise")
    done = box.ops("install", "--yes", check=False)
    assert done.returncode == 1
    assert "did not start" in done.stderr
    assert "Traceback" not in done.stderr
    mend(box)
    box.ops("install", "--yes")
    _complete(fresh)


def test_without_root_nothing_is_done(fresh: Fresh) -> None:
    box, _, _ = fresh
    done = box.ops("install", "--yes", check=False, user="nobody")
    assert done.returncode == 1
    assert "needs root" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stderr
    assert _changed(fresh) == ""


def test_a_wrong_configuration_names_every_problem(fresh: Fresh) -> None:
    box, _, _ = fresh
    original = box.read(CONFIG)
    box.write(CONFIG, "daemon: {port: none}\nengine: {kind: opera}\nno_such: 1\n")
    done = box.ops("install", "--yes", check=False)
    box.write(CONFIG, original)
    assert done.returncode == 2
    for where in ("daemon.port", "engine.kind", "no_such"):
        assert where in done.stderr
    assert _changed(fresh) == ""


def _started(box: Box, step: str) -> Running:
    """An install that has just begun a step."""
    titles = {
        "voices": "engine's manifest:",
        "power": "clock lock:",
        "units": "guard timer, daemon:",
        "daemon": "the inference daemon, warm:",
    }
    running = box.spawn(PROGRAM, "install", "--yes")
    _wait_for_words(running, titles[step])
    return running


def _wait_for_words(running: Running, words: str) -> None:
    """Until it has said so, or has ended."""
    eventually(
        lambda: words in running.stderr or running.poll() is not None,
        f"it says {words!r}",
        evidence=lambda: running.stdout + running.stderr,
    )


def _kill_in(box: Box, step: str, delay: float) -> None:
    """Kill an install that long after a step began; one that does not need the step may end."""
    running = _started(box, step)
    time.sleep(delay)
    running.kill(signal.SIGKILL)
    assert running.wait().returncode in (-signal.SIGKILL, 0), running.stderr


def _pid_inside(running: Running) -> str:
    """A process's number as its box counts."""
    for line in Path(f"/proc/{running.pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-1]
    raise AssertionError("it has ended")
