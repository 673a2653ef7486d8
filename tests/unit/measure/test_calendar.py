"""The calendar's parts: idle moments, the last good state and the way back to it, the notifier."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ishowtts_ops.config import CONFIG_PATH, Notify, Settings, parse
from ishowtts_ops.facts.daemon_health import DaemonHealth, NotRunning
from ishowtts_ops.facts.value import Maybe
from ishowtts_ops.host import Host
from ishowtts_ops.measure.quiet import why_not_idle
from ishowtts_ops.provision import calendar, notifier, patch
from ishowtts_ops.provision.notifier import Failure, tell
from ishowtts_ops.provision.patch import PatchState
from ishowtts_ops.provision.units import rendered, wanted_units
from tests.support.chat import Chat, open_chat
from tests.support.f5 import API, SOURCE, Box, commit_upstream
from tests.support.simboxes import sim_box

# ---- idle moments --------------------------------------------------------------------------------


def health(depth: int = 0, spoken: int = 0, ready: bool = True) -> DaemonHealth:
    status = "ready" if ready else "warming"
    return DaemonHealth(
        "http://x", True, status, ready, "", (), "tone", "cpu", "0", None, None, depth, 16, (),
        None, {}, {"ok": spoken},
    )  # fmt: skip


def asking(*answers: Maybe[DaemonHealth]) -> Callable[[], Maybe[DaemonHealth]]:
    rest = list(answers)
    return lambda: rest.pop(0) if len(rest) > 1 else rest[0]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ((health(),), ""),
        ((health(spoken=7),), ""),
        ((health(depth=2),), "2 requests are waiting"),
        ((health(), health(depth=1)), "1 requests are waiting"),
        ((health(spoken=7), health(spoken=8)), "somebody is using it"),
        ((health(ready=False),), "warming"),
        ((NotRunning("nobody listens"),), "nobody listens"),
    ],
)
def test_an_idle_moment(answers: tuple[Maybe[DaemonHealth], ...], why: str) -> None:
    found = why_not_idle(Settings(), 0.02, ask=asking(*answers), sleep=lambda _: None)
    assert why in found
    assert bool(found) is bool(why)


# ---- units ---------------------------------------------------------------------------------------


def test_units_follow_the_configuration(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    given = "measure: {daily: 'Mon 03:00', watch_minutes: 7}\nengine: {kind: tone}\n"
    texts = rendered(host, parse(given, "test"))
    timer = texts["/etc/systemd/system/ishowtts-regress.timer"]
    assert "OnCalendar=Mon 03:00" in timer
    assert "OnUnitInactiveSec=7min" in texts["/etc/systemd/system/ishowtts-watch.timer"]
    assert f"PathChanged={CONFIG_PATH}" in texts["/etc/systemd/system/ishowtts-watch.path"]
    for path, text in texts.items():
        if path.endswith(".service") and "notify" not in path:
            assert "OnFailure=ishowtts-notify@%n.service" in text, path
    without = wanted_units(parse("measure: {calendar: false}", "test"))
    assert not [name for name in without if "regress" in name or "watch" in name]


def test_a_line_break_in_a_time_is_refused() -> None:
    with pytest.raises(Exception, match="one line"):
        parse('measure: {daily: "a\\nExecStart=/bin/evil"}', "test")


# ---- the last good state -------------------------------------------------------------------------

F5 = parse("{}", "test")


def configured(box: Box) -> Box:
    box.host.write(CONFIG_PATH, "engine: {kind: f5}\n")
    return box


def good_now(host: Host) -> calendar.Good:
    return calendar.candidate(host.read_only(), F5, host.read_text(CONFIG_PATH))


def test_what_is_good_is_what_was_read(boxes: Callable[[str], Box]) -> None:
    """A configuration that is saved while the former one is validated is another state."""
    host = configured(boxes("1.1.9")).host
    read = host.read_text(CONFIG_PATH)
    host.write(CONFIG_PATH, "engine: {kind: f5}\nf5: {nfe: 16}\n")
    calendar.record_good(host, calendar.candidate(host.read_only(), F5, read))
    good = calendar.read_good(host)
    assert good is not None and good.config_text == read
    assert calendar.changes(good, calendar.tracked(host, F5)) == ["the configuration changed"]


def test_nothing_changed_and_everything_changed(boxes: Callable[[str], Box]) -> None:
    box = configured(boxes("1.1.9"))
    host = box.host
    now = calendar.tracked(host.read_only(), F5)
    assert now["f5"] == box.git("rev-parse", "HEAD").strip()
    assert calendar.changes(calendar.read_good(host), now) == ["this box was never validated"]
    calendar.record_good(host, good_now(host))
    good = calendar.read_good(host)
    assert calendar.changes(good, calendar.tracked(host, F5)) == []
    host.write(CONFIG_PATH, "engine: {kind: f5}\nf5: {nfe: 16}\n")
    host.write("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.7, GCID: 1, BOARD: generic\n")
    commit_upstream(box, API, lambda data: data + b"\n# upstream moves\n")
    told = calendar.changes(good, calendar.tracked(host, F5))
    assert told[0] == "the configuration changed"
    assert told[1].startswith("the commit of F5-TTS changed from ")
    assert told[2].startswith("L4T changed from ") and told[2].endswith("to R36.4.7")
    assert len(told) == 3


def test_a_damaged_record_means_validating_anew(boxes: Callable[[str], Box]) -> None:
    host = boxes("1.1.9").host
    for text in ("{", "[]", '{"version": 9}', '{"version": 1}'):
        host.write(calendar.VALIDATED_PATH, text)
        assert calendar.read_good(host) is None


def test_rolling_back_brings_commit_series_and_configuration(boxes: Callable[[str], Box]) -> None:
    box = configured(boxes("1.1.9"))
    host = box.host
    patch.apply(host, SOURCE, box.ledger)
    before = box.snapshot()
    good_commit = box.git("rev-parse", "HEAD").strip()
    calendar.record_good(host, good_now(host))
    good = calendar.read_good(host)
    assert good is not None
    config = host.read_text(CONFIG_PATH)

    # An update as people make it: hooks thrown away, another commit, another configuration.
    box.git("checkout", "-q", "--force", "HEAD")
    commit_upstream(box, API, lambda data: data + b"\n# upstream moves\n")
    host.write(CONFIG_PATH, "engine: {kind: f5}\nf5: {nfe: 5}\n")
    now = calendar.tracked(host, F5)
    assert now["f5"] != good_commit
    patch.apply(host, SOURCE, box.ledger)

    back = calendar.roll_back(host, good, now, F5, lambda _: None)

    assert back.left == ()
    assert box.git("rev-parse", "HEAD").strip() == good_commit
    assert host.read_text(CONFIG_PATH) == config
    (rejected,) = host.glob(f"{CONFIG_PATH}.rejected-*")
    assert "nfe: 5" in host.read_text(rejected)
    patch.apply(host, SOURCE, box.ledger)  # the patch step of the steps that follow
    assert patch.status(host, SOURCE).state is PatchState.APPLIED
    assert calendar.changes(good, calendar.tracked(host, F5)) == []
    after = box.snapshot()
    assert {p for p in before if before[p] != after.get(p) and "/.git" not in p} == set()


def test_configurations_rejected_within_a_second_are_all_kept(boxes: Callable[[str], Box]) -> None:
    host = configured(boxes("1.1.9")).host
    calendar.record_good(host, good_now(host))
    good = calendar.read_good(host)
    assert good is not None
    config = host.read_text(CONFIG_PATH)
    bad = [f"{config}# attempt {number}\n" for number in range(4)]
    for text in bad:
        host.write(CONFIG_PATH, text)
        calendar.roll_back(host, good, calendar.tracked(host, F5), F5, lambda _: None)
    kept = [host.read_text(path) for path in host.glob(f"{CONFIG_PATH}.rejected-*")]
    assert sorted(kept) == bad
    assert host.read_text(CONFIG_PATH) == config


def test_a_commit_that_cannot_be_left_is_told(boxes: Callable[[str], Box]) -> None:
    box = configured(boxes("1.1.9"))
    host = box.host
    calendar.record_good(host, good_now(host))
    good = calendar.read_good(host)
    assert good is not None
    commit_upstream(box, API, lambda data: data + b"\n# upstream moves\n")
    box.edit(API, "# upstream moves", "# somebody's own work")
    back = calendar.roll_back(host, good, calendar.tracked(host, F5), F5, lambda _: None)
    assert back.done == ()
    assert "F5-TTS stays at its new commit" in back.left[0]
    assert b"somebody's own work" in box.read(API)


def test_what_cannot_be_rolled_back_is_told(boxes: Callable[[str], Box]) -> None:
    box = configured(boxes("1.1.9"))
    host = box.host
    now = calendar.tracked(host, F5)
    was = {**now, "torch": "2.8.0", "l4t": "R36.4.3"}
    calendar.record_good(host, dataclasses.replace(good_now(host), tracked=was))
    good = calendar.read_good(host)
    assert good is not None
    found = {**now, "torch": "2.9.0", "l4t": "R36.5"}
    back = calendar.roll_back(host, good, found, F5, lambda _: None)
    assert back.done == ()
    assert "it was 2.8.0 and is 2.9.0. Install torch 2.8.0" in back.left[0]
    assert "R36.4.3" in back.left[1]


# ---- the notifier --------------------------------------------------------------------------------


@pytest.fixture
def hook() -> Iterator[Chat]:
    with open_chat() as server:
        yield server


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return sim_box(tmp_path, "agx-orin-64")


FAILURE = Failure("jetson", "ishowtts-tts.service", "watchdog", "6", ("first", "it hangs"))


def clocked(host: Host, settings: Notify, at: float, failure: Failure = FAILURE) -> notifier.Told:
    return tell(host, settings, failure, now=lambda: at, sleep=lambda _: None)


def test_one_failure_is_told_once(host: Host, hook: Chat) -> None:
    settings = Notify(webhook=hook.url, quiet_minutes=60)
    assert clocked(host, settings, 1000.0).told == ("journal", "webhook")
    for minute in range(1, 60, 10):
        again = clocked(host, settings, 1000.0 + 60 * minute)
        assert (again.told, again.known) == ((), ("journal", "webhook"))
    assert len(hook.told) == 1
    assert hook.told[0]["unit"] == "ishowtts-tts.service"
    assert hook.told[0]["lines"] == ["first", "it hangs"]
    assert "it hangs" in str(hook.told[0]["text"])
    assert clocked(host, settings, 1000.0 + 3601).told == ("journal", "webhook")
    other = Failure("jetson", "ishowtts-tts.service", "exit-code", "1", ())
    assert "webhook" in clocked(host, settings, 1000.0 + 3602, other).told
    elsewhere = Failure("jetson", "ishowtts-guard.service", "exit-code", "1", ())
    assert "webhook" in clocked(host, settings, 1000.0 + 3603, elsewhere).told
    assert len(hook.told) == 4


def test_a_unit_that_is_up_again_is_the_same_failure(host: Host, hook: Chat) -> None:
    """systemd starts a unit again faster than the notifier can ask what became of it."""
    settings = Notify(webhook=hook.url)
    again = Failure("jetson", FAILURE.unit, "", "", ("Starting it again...",))
    clocked(host, settings, 1.0, again)
    clocked(host, settings, 2.0, FAILURE)
    clocked(host, settings, 3.0, again)
    clocked(host, settings, 4.0, FAILURE)
    assert len(hook.told) == 1
    clocked(host, settings, 5.0, Failure("jetson", FAILURE.unit, "oom-kill", "9", ()))
    assert len(hook.told) == 2


def test_systemd_says_what_happened(host: Host) -> None:
    told = {"MONITOR_SERVICE_RESULT": "watchdog", "MONITOR_EXIT_STATUS": "ABRT"}
    assert notifier.look(host, "ishowtts-tts.service", told).key == "watchdog ABRT"
    assert notifier.look(host, "ishowtts-tts.service").key == "", "nothing failed on this box"


def test_the_sentence_is_the_units_own_last_word() -> None:
    unit = "ishowtts-regress.service"
    own = "Regression: RTF 0.35 against 0.17"
    lines = (own, f"{unit}: Failed with result 'exit-code'.", "Starting Check for a regression...")
    assert Failure("box", unit, "exit-code", "1", lines).text.endswith(f"(exit-code 1): {own}")


def test_a_clock_set_back_does_not_silence_it(host: Host, hook: Chat) -> None:
    settings = Notify(webhook=hook.url)
    clocked(host, settings, 9_000_000.0)
    assert "webhook" in clocked(host, settings, 1000.0).told


def test_a_channel_that_failed_is_tried_again_and_the_others_are_not(
    host: Host, hook: Chat
) -> None:
    hook.statuses += [500, 503, 502]
    settings = Notify(webhook=hook.url)
    first = clocked(host, settings, 1000.0)
    assert (first.told, len(hook.told)) == (("journal",), notifier.TRIES)
    assert first.problems == ("webhook: it answered 502",)
    second = clocked(host, settings, 1001.0)
    assert (second.told, second.known, second.problems) == (("webhook",), ("journal",), ())


def test_a_refusal_is_not_repeated_and_nobody_there_is_a_sentence(host: Host, hook: Chat) -> None:
    hook.statuses += [404]
    settings = Notify(webhook=hook.url)
    assert clocked(host, settings, 1.0).problems == ("webhook: it answered 404",)
    assert len(hook.told) == 1
    nobody = Notify(webhook="http://127.0.0.1:1/")
    (problem,) = clocked(host, nobody, 2.0).problems
    assert problem.startswith("webhook: ConnectError")


def test_a_command_gets_the_document(host: Host, tmp_path: Path) -> None:
    told = tmp_path / "told"
    host.write("/usr/local/bin/tell", f'#!/bin/sh\necho "$1" >>{told}; cat >>{told}\n', mode=0o755)
    settings = Notify(command=("tell", "operator"))
    assert clocked(host, settings, 1.0).told == ("journal", "command")
    assert clocked(host, settings, 2.0).known == ("journal", "command")
    who, document = told.read_text().splitlines()
    assert who == "operator"
    assert json.loads(document) == FAILURE.to_json()
    host.write("/usr/local/bin/tell", "#!/bin/sh\necho no line out; exit 3\n", mode=0o755)
    other = Failure("jetson", "x.service", "exit-code", "1", ())
    (problem,) = clocked(host, settings, 3.0, other).problems
    assert problem == "command: tell ended with 3: no line out"
    missing = clocked(host, Notify(command=("nobody-home",)), 4.0, other)
    assert "not on this box" in missing.problems[0]


def test_a_damaged_book_is_forgotten(host: Host) -> None:
    for text in ("{", "[]", '{"x": 1}', '{"ishowtts-tts.service": {"key": "a", "told": 3}}'):
        host.write(notifier.TOLD_PATH, text)
        assert clocked(host, Notify(), 5.0).told == ("journal",)
