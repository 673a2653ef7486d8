"""The measuring verbs as a person meets them: real processes, a daemon that speaks, a simulated
Jetson in a folder."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ishowtts_ops.config import CONFIG_PATH
from ishowtts_ops.measure.history import HISTORY_PATH, open_history
from ishowtts_ops.measure.noise import CROWDED
from ishowtts_ops.measure.others import OTHERS
from ishowtts_ops.measure.run import Run
from ishowtts_ops.provision.calendar import VALIDATED_PATH
from tests.support.folder import Done, FolderBox, well
from tests.support.ports import free_port
from tests.support.terminal import cells, in_terminal

DAEMON = "ishowtts-tts.service"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderBox]:
    """An Orin Nano Super with the tone engine, installed: its daemon runs.

    Only what is twice as slow is a regression here: this machine has others on it, and a pass of
    the tone engine is a millisecond, which a neighbour makes a tenth longer.
    """
    measure = {"workload": "S", "idle_seconds": 0.3, "runs": 6, "tolerance_percent": 100}
    folder = tmp_path_factory.mktemp("measure") / "box"
    made = FolderBox(folder, "orin-nano-super", {"measure": measure})
    well(made.run("install", "--yes"))
    yield made
    made.stop()


def slow_down(box: FolderBox, faults: str) -> None:
    """Let the tone engine take its time: a drop-in, as an administrator writes one."""
    box.host.write(
        f"/etc/systemd/system/{DAEMON}.d/slow.conf",
        f"[Service]\nEnvironment=ISHOWTTS_TONE_FAULT={faults}\n",
    )
    box.host.run(["systemctl", "daemon-reload"]).check()
    # As install does it: so many starts in so little time are over the unit's start limit.
    box.host.run(["systemctl", "reset-failed", DAEMON]).check()
    box.host.run(["systemctl", "restart", DAEMON], timeout=60).check()


def data(done: Done) -> Any:
    assert done.out, done.err
    return json.loads(done.out)["data"]


def kept_runs(box: FolderBox) -> list[Run]:
    """The history, without asking the program for it."""
    with open_history(box.host.read_only()) as history:
        return history.runs()


def test_a_run_is_measured_shown_and_kept(box: FolderBox) -> None:
    done = well(box.run("bench", "run", "-w", "M", "--runs", "5"))
    for word in ("RTF", "first audio", "95 % interval", "clocks locked: yes", "memory"):
        assert word in done.out
    kept = data(box.run("bench", "history", "--json"))["runs"][-1]
    assert (kept["kind"], len(kept["samples"]), kept["warm_up"]) == ("custom", 5, 3)
    assert kept["marks"] == []
    assert kept["fingerprint"]["before"]["mode"] == "MAXN_SUPER"
    assert kept["fingerprint"]["software"]["module"] == "Jetson Orin Nano 8GB Super"
    # The tone engine makes exactly 50 ms a character, so the length is known.
    assert kept["samples"][0]["audio_s"] == pytest.approx(120 * 0.05)
    assert len(kept["extra"]["first_audio_at_socket_s"]) == 5


def test_quick_extended_and_own_texts(box: FolderBox, tmp_path: Path) -> None:
    quick = data(box.run("bench", "run", "--quick", "-w", "S", "--json"))
    assert (quick["kind"], len(quick["samples"])) == ("quick", 1)
    extended = data(box.run("bench", "run", "-w", "S", "--runs", "20", "--no-save", "--json"))
    assert (extended["kind"], len(extended["samples"])) == ("extended", 20)
    file = tmp_path / "own.json"
    words = ("bench", "run", "--text", "Hi chat!", "--voice", "tone-b", "-n", "4")
    well(box.run(*words, "-o", str(file)))
    written = json.loads(file.read_text())
    assert written["workload"] == "own"
    assert written["samples"][0]["audio_s"] == pytest.approx(8 * 0.05)
    same = box.run("bench", "compare", str(file), str(file))
    assert "No difference" in same.out


def test_in_process(box: FolderBox) -> None:
    found = data(box.run("bench", "run", "--in-process", "-n", "4", "--no-save", "--json"))
    assert (found["door"], found["engine"]) == ("in-process", "tone")
    refused = box.run("bench", "compare", "last", "nonsense")
    assert refused.code == 2


def test_a_run_with_lost_clocks_is_marked_and_no_baseline(box: FolderBox) -> None:
    box.host.query(["nvpmodel", "-m", "2"])  # rewrites the mode, and the lock is gone
    try:
        done = box.run("bench", "run", "-n", "4")
        assert "Marked, so it never becomes a baseline: clocks were not locked" in done.out
        refused = box.run("regress", "--update-baseline")
        assert refused.code == 1
        assert "clocks were not locked" in refused.err
        assert "power lock" in refused.err
    finally:
        well(box.run("power", "lock"))


def test_a_box_in_no_state_for_a_baseline_is_not_measured_for_one(box: FolderBox) -> None:
    kept = kept_runs(box)
    box.host.query(["nvpmodel", "-m", "2"])
    try:
        refused = box.run("regress", "--update-baseline")
    finally:
        well(box.run("power", "lock"))
    assert refused.code == 1
    assert "in no state for a baseline: clocks were not locked" in refused.err
    assert re.search(r"next: `[^`]*ishowtts-ops power lock", refused.err), refused.err
    assert kept_runs(box) == kept


@pytest.mark.parametrize(
    "words",
    [
        ("bench", "run", "-n", "4", "-o"),
        ("bench", "plot", "--png"),
        ("bench", "plot", "--html"),
        ("bench", "history", "--export"),
        ("monitor", "--once", "--log"),
    ],
)
def test_a_file_that_cannot_be_written_is_a_sentence_before_any_work(
    box: FolderBox, tmp_path: Path, words: tuple[str, ...]
) -> None:
    kept = kept_runs(box)
    done = box.run(*words, str(tmp_path / "no/where"))
    assert done.code == 1
    assert "cannot be written: No such file or directory." in done.err
    assert "next: " in done.err and "Traceback" not in done.err
    assert kept_runs(box) == kept


def test_what_was_measured_is_shown_though_it_cannot_be_kept(
    box: FolderBox, tmp_path: Path
) -> None:
    """A limit on the size of files stands for a full disk: the write fails in the middle."""
    # So that the run's own file still fits, and the history's journal.
    well(box.run("bench", "run", "-w", "R3", "-n", "200"))
    before = kept_runs(box)
    size = box.host.path(HISTORY_PATH).stat().st_size
    file = tmp_path / "run.json"
    limited = subprocess.run(
        ["bash", "-c", f'ulimit -f {size // 1024}; exec "$@"', "bash", sys.executable, "-B", "-m",
         "ishowtts_ops", "bench", "run", "-w", "R3", "-n", "200", "-o", str(file),
         "--root", str(box.root)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert limited.returncode == 1, limited.stdout + limited.stderr
    assert "200 passes" in limited.stdout and "95 % interval" in limited.stdout
    assert len(json.loads(file.read_text())["samples"]) == 200
    assert "cannot be written" in limited.stderr and "df -h" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert kept_runs(box) == before
    well(box.run("bench", "run", "-w", "R3", "-n", "4"))  # the history is whole


def test_what_is_told_to_do_next_can_be_done(box: FolderBox) -> None:
    """`bench run` names a comparison; it is one."""
    box.run("bench", "run", "-w", "S", "-n", "4")
    done = box.run("bench", "run", "-w", "S", "-n", "4")
    told = re.search(r"`\S*ishowtts-ops (bench compare \S+ [\w-]+)[^`]*` compares it", done.err)
    assert told is not None, done.err
    well(box.run(*told[1].split()))
    own = box.run("bench", "run", "--text", "never said before", "-n", "4")
    assert own.code == 0 and "bench compare" not in own.err, "there is nothing to compare it with"


def test_a_baseline_of_several_starts(box: FolderBox) -> None:
    before = data(box.run("monitor", "--json"))
    done = well(box.run("regress", "--update-baseline", "--starts", "3", "-w", "L", "--json"))
    found = data(done)
    assert done.err.count("restarting the daemon") == 2
    starts = kept_runs(box)[-3:]
    # A start beside which others took the processors says nothing about the box.
    others = [run.extra.get(OTHERS, 0.0) for run in starts]
    assert found["noise"]["runs"] == sum(each <= others[0] + CROWDED for each in others)
    assert before["unit"] == data(box.run("monitor", "--json"))["unit"] == "active"
    history = data(box.run("bench", "history", "--json", "-w", "L"))
    assert history["baselines"][-1]["run_id"] == found["baseline"]["id"]
    assert [run["id"] for run in history["runs"]].index(found["baseline"]["id"]) == -3 % len(
        history["runs"]
    )
    named = data(box.run("bench", "compare", "baseline", history["runs"][-1]["id"], "--json"))
    assert named["first"] == found["baseline"]["id"]
    box.run("regress", "--update-baseline", "-w", "S")
    again = data(box.run("bench", "compare", "baseline", history["runs"][-1]["id"], "--json"))
    assert again["first"] == found["baseline"]["id"], "that of this work, not the newest of all"
    refused = box.run("regress", "--starts", "3")
    assert (refused.code, "--update-baseline" in refused.err) == (2, True)


def test_different_work_is_refused(box: FolderBox) -> None:
    box.run("bench", "run", "-w", "S", "-n", "4")
    box.run("bench", "run", "-w", "L", "-n", "4")
    done = box.run("bench", "compare", "last~1", "last")
    assert done.code == 1
    assert "different work: S" in " ".join(done.err.split())


@pytest.fixture
def steady(box: FolderBox) -> Iterator[FolderBox]:
    """A daemon whose pace is that of a clock, and a baseline taken with it."""
    slow_down(box, "slow:0.02")
    well(box.run("regress", "--update-baseline"))
    yield box
    slow_down(box, "slow:0")


def found_slow(box: FolderBox, *options: str) -> Done:
    """`regress` that fails. What is measured while others have the processors is excused, and
    measured again."""
    for _ in range(5):
        done = box.run("regress", *options)
        if done.code:
            break
    assert done.code == 1, done.out + done.err
    return done


def test_regress_finds_a_slow_box_and_says_why(steady: FolderBox) -> None:
    fine = well(steady.run("regress", "--tolerance", "100"))
    assert fine.out.startswith("No regression: RTF 0.0")

    slow_down(steady, "slow:0.08")
    steady.host.query(["nvpmodel", "-m", "2"])
    text = " ".join(found_slow(steady).out.split())
    assert "Regression: RTF" in text and "% slower, 95 % sure of" in text
    assert "clocks locked: yes → no:" in text
    assert "Likely causes, as doctor finds them" in text
    assert "lock" in text.split("Likely causes")[1].lower()
    assert "is slower than it was" not in text, "that is what is to be explained"
    as_json = json.loads(found_slow(steady, "--json").out)
    assert as_json["ok"] is False
    assert as_json["data"]["percent"] > 100
    assert any("lock" in cause["text"].lower() for cause in as_json["data"]["causes"])
    assert steady.run("power", "lock").code == 0

    compared = steady.run("bench", "compare", "baseline", "last")
    assert "% slower" in compared.out
    glance = steady.run("status")
    assert glance.code == 1
    assert re.search(r"NO speed .*slower than the baseline, a regression", glance.out), glance.out

    # A week later: a plot with the mode and the baseline marked, and the report.
    plot = steady.run("bench", "plot", "-w", "S")
    assert "●" in plot.out and "×" in plot.out
    assert "B " in plot.out and "baseline: set by hand" in plot.out
    assert max(cells(line) for line in plot.out.splitlines()) <= 80


def test_without_a_baseline_nothing_is_judged(box: FolderBox) -> None:
    done = box.run("regress", "-w", "R3")
    assert done.code == 3
    assert "--update-baseline" in done.err
    skipped = box.run("regress", "-w", "R3", "--when-idle")
    assert (skipped.code, "no baseline yet" in skipped.out) == (0, True)


def test_a_busy_daemon_is_left_alone(box: FolderBox) -> None:
    address = f"http://127.0.0.1:{box.settings['daemon']['port']}/v1/audio/speech"
    over = threading.Event()

    def chat() -> None:
        while not over.is_set():
            httpx.post(address, json={"input": "live chat " * 8}, timeout=60, trust_env=False)

    slow_down(box, "slow:0.05")
    callers = [threading.Thread(target=chat) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        before = kept_runs(box)
        for verb in (("regress", "--when-idle"), ("bench", "run", "--when-idle")):
            done = box.run(*verb)
            assert done.code == 0, done.err
            assert "Skipped" in done.out
        assert kept_runs(box) == before
    finally:
        over.set()
        for caller in callers:
            caller.join()
        slow_down(box, "slow:0")


def test_a_daemon_that_is_down_is_a_sentence(box: FolderBox) -> None:
    box.host.run(["systemctl", "stop", DAEMON], timeout=60).check()
    try:
        done = box.run("bench", "run", "--quick")
        assert done.code == 1
        assert "No daemon answers" in done.err
        assert "Traceback" not in done.err
        seen = box.run("monitor", "--once")
        assert (seen.code, "DOWN" in seen.out) == (0, True)
        assert "speed" in box.run("status").out
    finally:
        box.host.run(["systemctl", "start", DAEMON], timeout=60).check()


def test_validate_rolls_a_bad_configuration_back(box: FolderBox) -> None:
    first = well(box.run("validate"))
    assert "The new baseline is" in first.out
    assert "Nothing changed" in box.run("validate").out
    good = box.host.read_text(CONFIG_PATH)

    for bad in (f"{good}default_voice: nobody\n", "daemon: [\n"):
        box.host.write(CONFIG_PATH, bad)
        done = box.run("validate")
        assert done.code == 1
        assert "Validation failed" in done.out
        assert "The box runs its last good state again." in done.out
        assert box.host.read_text(CONFIG_PATH) == good
        assert bad in [box.host.read_text(p) for p in box.host.glob(f"{CONFIG_PATH}.rejected-*")]
        assert data(box.run("status", "--json"))["daemon"]["ready"] is True

    box.host.write(CONFIG_PATH, f"{good}default_voice: tone-b\n")
    done = well(box.run("validate", "--when-idle"))
    assert "Validated: the configuration changed." in done.out
    assert data(box.run("status", "--json"))["daemon"]["default_voice"] == "tone-b"
    reasons = [item["reason"] for item in data(box.run("bench", "history", "--json"))["baselines"]]
    assert reasons[-2:] == ["this box was never validated", "the configuration changed"]


def _saved_while_validating(box: FolderBox, text: str, *options: str) -> Done:
    """`validate`, which finds another configuration there as soon as it has said what it validates.

    It is stopped while that is saved, so it does not matter how busy the machine is.
    """
    running = subprocess.Popen(
        [sys.executable, "-m", "ishowtts_ops", "validate", *options, "--root", str(box.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    said = ""
    while "the configuration changed" not in (line := running.stderr.readline()):
        said += line
        assert line, f"it ended before it said what it validates: {said}"
    running.send_signal(signal.SIGSTOP)
    box.host.write(CONFIG_PATH, text)
    running.send_signal(signal.SIGCONT)
    out, err = running.communicate(timeout=240)
    return Done(running.returncode, out, said + line + err)


def test_what_is_saved_during_a_validation_is_validated_too(box: FolderBox) -> None:
    well(box.run("validate"))
    good = box.host.read_text(CONFIG_PATH)
    box.host.write(CONFIG_PATH, good + "# one\n")
    last = good + "# one\n# two\n"
    done = well(_saved_while_validating(box, last))
    assert "changed again meanwhile" in done.err
    assert done.out.count("Validated: the configuration changed.") == 2
    assert json.loads(box.host.read_text(VALIDATED_PATH))["config_text"] == last
    assert "Nothing changed" in box.run("validate").out


def test_a_mend_that_is_saved_while_a_bad_change_fails_is_not_thrown_away(
    box: FolderBox,
) -> None:
    well(box.run("validate"))
    good = box.host.read_text(CONFIG_PATH)
    set_aside = box.host.glob(f"{CONFIG_PATH}.rejected-*")
    # A port where nobody will be: the daemon reads the file itself, and that is mended by then.
    wrong = {**yaml.safe_load(good), "daemon": {"port": free_port()}}
    box.host.write(CONFIG_PATH, yaml.safe_dump(wrong))
    mended = yaml.safe_dump({**yaml.safe_load(good), "default_voice": "tone-a"}) + "# mended\n"
    lines = data(well(_saved_while_validating(box, mended, "--json")))["lines"]
    assert lines[0].startswith("Validation failed: No daemon answers")
    assert lines[1] == "Nothing is put back: the box was changed meanwhile."
    assert lines[2] == "Validated: the configuration changed."
    assert box.host.read_text(CONFIG_PATH) == mended
    assert box.host.glob(f"{CONFIG_PATH}.rejected-*") == set_aside
    assert data(box.run("status", "--json"))["daemon"]["default_voice"] == "tone-a"
    box.host.write(CONFIG_PATH, good)
    well(box.run("validate"))


def test_validate_rolls_back_what_became_slow(box: FolderBox) -> None:
    well(box.run("validate", "--accept"))
    good = box.host.read_text(CONFIG_PATH)
    # The configuration changes nothing about the work, and with it the engine became slow.
    box.host.write(CONFIG_PATH, good + "notify: {quiet_minutes: 5}\n")
    slow_down(box, "slow:0.05")
    try:
        done = box.run("validate")
        assert done.code == 1
        assert "Validation failed: Regression: RTF" in done.out
        assert box.host.read_text(CONFIG_PATH) == good
    finally:
        slow_down(box, "slow:0")
        box.host.remove(f"/etc/systemd/system/{DAEMON}.d/slow.conf")
        box.host.run(["systemctl", "daemon-reload"]).check()


def test_export_import_and_a_damaged_history(box: FolderBox, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    well(box.run("bench", "history", "--export", str(file)))
    count = len(file.read_text().splitlines())
    again = box.run("bench", "history", "--import", str(file))
    assert f"{count} were known" in again.out
    box.host.write(HISTORY_PATH, "not a database at all, just words\n" * 50)
    done = well(box.run("bench", "run", "--quick"))
    assert "was damaged" in done.err and "is kept as" in " ".join(done.err.split())
    assert len(data(box.run("bench", "history", "--json"))["runs"]) == 1
    well(box.run("bench", "history", "--import", str(file)))
    well(box.run("bench", "plot", "--png", str(tmp_path / "a.png")))
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


# ---- views ---------------------------------------------------------------------------------------

SIZES = [(80, 24), (200, 50)]


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_the_live_view_fits(box: FolderBox, columns: int, lines: int) -> None:
    words = ["monitor", "--count", "2", "--interval", "0.2", "--root", str(box.root)]
    shown = in_terminal(words, columns, lines)
    assert shown.code == 0
    assert "\x1b[?1049h" in shown.raw and "\x1b[?1049l" in shown.raw, "the screen is given back"
    screen = shown.last
    assert len(screen) <= lines
    assert max(map(cells, screen)) <= columns
    text = "\n".join(screen)
    for word in (
        *("Jetson Orin Nano 8GB Super", "MAXN_SUPER", "locked", "GPU", "memory", "heat", "VDD_IN"),
        *("ready: tone on cpu", "queue 0 of 16", "RTF", "first audio"),
    ):
        assert word in text, text
    assert ("core 0" in text) is (columns == 200)


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_status_is_one_screen(box: FolderBox, columns: int, lines: int) -> None:
    shown = in_terminal(["status", "--root", str(box.root)], columns, lines)
    assert shown.code == 0, shown.raw
    assert len(shown.last) <= lines
    assert max(map(cells, shown.last)) <= columns
    text = "\n".join(shown.last)
    for word in ("ok mode", "ok clocks", "ok units", "in order", "ok daemon", "speed"):
        assert word in text, text


def test_status_fails_when_a_line_of_it_does(box: FolderBox) -> None:
    well(box.run("status"))
    box.host.run(["systemctl", "stop", "ishowtts-guard.timer"]).check()
    try:
        done = box.run("status")
        assert done.code == 1
        assert "NO units" in done.out and "ishowtts-guard.timer: inactive" in done.out
    finally:
        box.host.run(["systemctl", "start", "ishowtts-guard.timer"]).check()


def test_monitor_without_gpu_daemon_or_systemd(tmp_path: Path) -> None:
    (tmp_path / "etc/ishowtts-ops").mkdir(parents=True)
    config = tmp_path / "etc/ishowtts-ops/config.yaml"
    config.write_text(f"daemon: {{port: {free_port()}}}\n")
    shown = in_terminal(["monitor", "--once", "--root", str(tmp_path)], 80, 24)
    assert shown.code == 0
    text = "\n".join(shown.last)
    assert "no Jetson" in text and "load not known" in text and "DOWN: nobody listens" in text
    assert max(map(cells, shown.last)) <= 80


def test_monitor_as_json_and_as_a_log(box: FolderBox, tmp_path: Path) -> None:
    box.run("say", "hello there", "-o", str(tmp_path / "a.wav"))
    log = tmp_path / "box.log"
    done = box.run("monitor", "--count", "3", "--interval", "0.2", "--log", str(log))
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == 3
    found = data(box.run("monitor", "--json"))
    assert set(found) == set(rows[0])
    assert (found["locked"], found["gpu_percent"], found["gpu_source"]) == (True, 0.0, "sysfs")
    assert found["daemon"]["spoken"] >= 1
    assert found["daemon"]["first_audio_s"] > 0
    assert found["rails_mw"]["VDD_IN"] > 0
    missing = box.run("monitor", "--log", str(tmp_path / "no/where"), "--once")
    assert (missing.code, "cannot be written" in missing.err) == (1, True)
