"""Tells somebody that a unit failed: the journal always, a webhook and a command when configured.

systemd 249 starts an OnFailure= unit when a unit gives up, 255 at every failed try of it, so one
failure may arrive many times. It is told once a channel, and again when it is still there after
`notify.quiet_minutes`; a channel that could not be reached is tried again with the next arrival.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from ishowtts_ops.config import RUN_DIR, STATE_DIR, Notify
from ishowtts_ops.errors import BoxLocked, OpsError
from ishowtts_ops.facts.systemd import read_journal, read_systemd
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host

TOLD_PATH = f"{STATE_DIR}/notified.json"
LOCK_PATH = f"{RUN_DIR}/notify.lock"
LINES = 30
WEBHOOK_LIMIT_S = 10.0
COMMAND_LIMIT_S = 60.0
TRIES = 3
_LOCK_WAIT_S = 30.0


@dataclass(frozen=True)
class Failure:
    """What is told.

    Attributes:
        result: systemd's word for it: exit-code, signal, watchdog, timeout, start-limit-hit …;
            empty when the unit was started again before anybody could ask.
        lines: the last of the unit's journal.
    """

    box: str
    unit: str
    result: str
    exit_status: str
    lines: tuple[str, ...]

    @property
    def key(self) -> str:
        """The same failure again has the same key; empty when it is not known which it is."""
        return f"{self.result} {self.exit_status}" if self.result else ""

    @property
    def text(self) -> str:
        """One sentence."""
        own = [line for line in self.lines if not self._by_systemd(line)]
        last = f": {own[-1]}" if own else ""
        how = f" ({self.key})" if self.key else ""
        return f"{self.unit} failed on {self.box}{how}{last}"

    def _by_systemd(self, line: str) -> bool:
        starts = ("Starting ", "Started ", "Stopping ", "Stopped ", "Failed to start ", "Finished ")
        return line.startswith((*starts, f"{self.unit}: "))

    def to_json(self) -> dict[str, Any]:
        """What a webhook and a command get, version 1."""
        return {
            "version": 1,
            "text": self.text,
            "box": self.box,
            "unit": self.unit,
            "result": self.result,
            "exit_status": self.exit_status,
            "lines": list(self.lines),
        }


@dataclass(frozen=True)
class Told:
    """How telling went, by channel.

    Attributes:
        told: channels that were told now.
        known: channels that knew already.
        problems: channels that could not be told, each with why.
    """

    failure: Failure
    told: tuple[str, ...]
    known: tuple[str, ...]
    problems: tuple[str, ...]


def look(host: Host, unit: str, told: Mapping[str, str] | None = None) -> Failure:
    """What systemd and the journal know about a unit's failure; never raises for what they
    answer.

    Args:
        told: the environment that systemd gives to OnFailure= units since release 251. Before, the
            unit has to be asked, which may be on its way up again by then.
    """
    given = told or {}
    result = given.get("MONITOR_SERVICE_RESULT", "")
    status = given.get("MONITOR_EXIT_STATUS", "")
    if not result:
        found = read_systemd(host, [unit]).units
        state = None if isinstance(found, Unknown) else found.get(unit)
        if state is not None and state.result != "success":
            result, status = state.result, str(state.exit_status)
    journal = read_journal(host, unit, LINES)
    lines = () if isinstance(journal, Unknown) else tuple(journal.strip().splitlines())
    return Failure(socket.gethostname(), unit, result, status, lines)


def tell(
    host: Host,
    settings: Notify,
    failure: Failure,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Told:
    """Tell every channel that does not know yet.

    Raises:
        BoxLocked: another notifier did not come to an end.
    """
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            with host.lock(LOCK_PATH, f"ishowtts-ops notify {failure.unit}"):
                return _tell(host, settings, failure, now(), sleep)
        except BoxLocked:
            if time.monotonic() > end:
                raise
            sleep(0.2)


def _tell(
    host: Host, settings: Notify, failure: Failure, now: float, sleep: Callable[[float], None]
) -> Told:
    book = _read(host)
    entry = book.get(failure.unit, {})
    before = entry.get("key", "")
    same = not before or not failure.key or before == failure.key
    told_at: dict[str, float] = dict(entry.get("told", {})) if same else {}
    channels: dict[str, Callable[[], str]] = {"journal": lambda: ""}
    if settings.webhook is not None:
        channels["webhook"] = lambda: _webhook(str(settings.webhook), failure, sleep)
    if settings.command:
        channels["command"] = lambda: _command(host, settings.command or (), failure)
    told, known, problems = [], [], []
    for name, send in channels.items():
        age = now - told_at.get(name, float("-inf"))
        # A clock that was set back must not silence a channel for years.
        if 0 <= age < settings.quiet_minutes * 60:
            known.append(name)
            continue
        problem = send()
        if problem:
            problems.append(f"{name}: {problem}")
        else:
            told.append(name)
            told_at[name] = now
    book[failure.unit] = {"key": failure.key or before, "told": told_at}
    host.write(TOLD_PATH, json.dumps(book, indent=1) + "\n", mode=0o600)
    return Told(failure, tuple(told), tuple(known), tuple(problems))


def _read(host: Host) -> dict[str, Any]:
    """Who was told what; a damaged book is forgotten, since telling twice is better than never."""
    if not host.is_file(TOLD_PATH):
        return {}
    try:
        book = json.loads(host.read_text(TOLD_PATH))
        return {unit: _entry(entry) for unit, entry in book.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _entry(raw: Any) -> dict[str, Any]:
    told = {name: float(at) for name, at in raw["told"].items()}
    return {"key": str(raw["key"]), "told": told}


def _webhook(url: str, failure: Failure, sleep: Callable[[float], None]) -> str:
    """POST it; a refusal or no answer is tried again. Returns why it did not work, or nothing."""
    problem = ""
    for number in range(TRIES):
        if number:
            sleep(2.0**number)
        try:
            answer = httpx.post(url, json=failure.to_json(), timeout=WEBHOOK_LIMIT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        if answer.is_success:
            return ""
        problem = f"it answered {answer.status_code}"
        if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
            break
    return problem


def _command(host: Host, argv: tuple[str, ...], failure: Failure) -> str:
    document = json.dumps(failure.to_json(), ensure_ascii=False) + "\n"
    try:
        result = host.run(argv, timeout=COMMAND_LIMIT_S, stdin=document)
    except OpsError as error:
        return error.message
    if result.ok:
        return ""
    tail = (result.output.strip().splitlines() or ["it said nothing"])[-1]
    status = "ran out of time" if result.timed_out else f"ended with {result.rc}"
    return f"{argv[0]} {status}: {tail}"
