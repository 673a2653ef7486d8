"""The engine's thread, without HTTP: a real engine, real jobs, real threads."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from ishowtts_ops.daemon.engine import SynthesisRequest, Timings, Voice
from ishowtts_ops.daemon.failures import CallerGone, DeadlinePassed, Draining, NotReady, Refusal
from ishowtts_ops.daemon.job import Chunk, Done, Event, Failed, Job
from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.daemon.tone import ToneEngine
from ishowtts_ops.daemon.worker import Worker
from tests.service.daemon.daemon_server import eventually

VOICE = Voice("tone-a")


@dataclass
class Caller:
    """Somebody who asks, and what came back."""

    job: Job
    events: queue.Queue[Event]

    def end(self) -> Event:
        """Done or Failed."""
        while isinstance(event := self.events.get(timeout=30), Chunk):
            pass
        return event

    def refusal(self) -> Refusal:
        event = self.end()
        assert isinstance(event, Failed), event
        return event.refusal


@dataclass
class Desk:
    """A worker and the ends of its jobs."""

    ended: list[tuple[str, Refusal | Timings]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.worker = Worker(
            ToneEngine("text"),
            Condition(),
            Pulse(),
            queue_limit=10,
            canary_seconds=0.05,
            observer=lambda job, outcome: self.ended.append((job.id, outcome)),
        )
        self.errors: list[BaseException] = []

    def start(self) -> None:
        def boot(worker: Worker) -> Voice:
            worker.condition.warmed_up("ready")
            return VOICE

        self.worker.start(boot, self.errors.append)

    def ask(self, text: str, patience: float = 60.0) -> Caller:
        events: queue.Queue[Event] = queue.Queue()
        deadline = time.monotonic() + patience
        job = Job(text, SynthesisRequest(text, VOICE), events.put, deadline, 1.0)
        self.worker.submit(job)
        return Caller(job, events)


@pytest.fixture
def make_desk() -> Iterator[Callable[[], Desk]]:
    desks: list[Desk] = []

    def make() -> Desk:
        desks.append(Desk())
        return desks[-1]

    yield make
    for desk in desks:
        desk.worker.stop(5)
        assert not desk.errors


@pytest.fixture
def desk(make_desk: Callable[[], Desk]) -> Desk:
    return make_desk()


def test_a_stale_job_never_reaches_the_engine(desk: Desk) -> None:
    # Asked before the engine runs; had it been begun, the engine would be broken afterwards.
    stale = desk.ask("stale fault:break", patience=-0.01)
    fresh = desk.ask("fresh")
    desk.start()
    assert isinstance(stale.refusal(), DeadlinePassed)
    assert isinstance(fresh.end(), Done)
    assert [name for name, _ in desk.ended] == ["stale fault:break", "fresh"]


def test_a_job_whose_caller_left_while_it_waited_never_reaches_the_engine(desk: Desk) -> None:
    left = desk.ask("left fault:break")
    fresh = desk.ask("fresh")
    desk.worker.cancel(left.job)
    desk.start()
    assert isinstance(fresh.end(), Done)
    assert isinstance(desk.ended[0][1], CallerGone)


def test_jobs_are_spoken_in_order_and_timed_once(desk: Desk) -> None:
    callers, asked = [], [time.monotonic()]
    for number in range(4):
        callers.append(desk.ask(f"caller {number}"))
        asked.append(time.monotonic())
    desk.start()
    ends = [caller.end() for caller in callers]
    assert [name for name, _ in desk.ended] == [f"caller {number}" for number in range(4)]
    for event, (_, outcome) in zip(ends, desk.ended, strict=True):
        assert isinstance(event, Done)
        assert event.timings is outcome
    waits = [event.timings.queue for event in ends if isinstance(event, Done)]
    # A job was admitted between two looks at the clock, so it was begun between these two moments.
    earliest = [before + wait for before, wait in zip(asked, waits, strict=False)]
    latest = [after + wait for after, wait in zip(asked[1:], waits, strict=True)]
    assert all(first <= then for first, then in zip(earliest, latest[1:], strict=False))


def test_an_idle_engine_is_proven_by_canaries_which_are_no_jobs(desk: Desk) -> None:
    desk.start()
    eventually(lambda: desk.worker.canaries >= 2)
    assert desk.worker.pulse.age() < 30
    assert desk.ended == []


def test_a_broken_engine_is_found_out_by_its_canary(desk: Desk) -> None:
    desk.start()
    desk.ask("fault:break").refusal()
    eventually(lambda: desk.worker.condition.snapshot().status == "failing")
    beats = desk.worker.pulse.count
    time.sleep(0.2)
    assert desk.worker.pulse.count == beats, "a failed canary fed the watchdog"


def test_a_hung_engines_callers_are_told_once(desk: Desk) -> None:
    desk.start()
    running = desk.ask("on and on fault:slow:600")
    eventually(lambda: desk.worker.queue.running is not None)
    waiting = desk.ask("waiting")
    desk.worker.abandon("The engine hangs.")
    assert isinstance(running.refusal(), NotReady)
    assert isinstance(waiting.refusal(), NotReady)
    # It was slow, not hung: it gives the abandoned job up and goes on, and nothing counts twice.
    assert isinstance(desk.ask("next").end(), Done)
    assert len(desk.ended) == 3


def test_stopping_sends_everybody_away(desk: Desk) -> None:
    desk.start()
    running = desk.ask("on and on fault:slow:600")
    eventually(lambda: desk.worker.queue.running is not None)
    waiting = desk.ask("waiting")
    assert desk.worker.stop(30)
    assert isinstance(running.refusal(), Draining)
    assert isinstance(waiting.refusal(), Draining)
    assert desk.worker.idle
