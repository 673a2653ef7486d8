"""Who goes next, who gives way, and who is told at once that it is no use."""

from __future__ import annotations

import time

import pytest

from ishowtts_ops.daemon.admission import JobQueue, Pace
from ishowtts_ops.daemon.engine import SynthesisRequest, Timings, Voice
from ishowtts_ops.daemon.failures import DeadlinePassed, QueueFull
from ishowtts_ops.daemon.job import Job, Priority


def job(
    name: str,
    caller: str = "",
    *,
    seconds: float = 10.0,
    patience: float = 600.0,
    batch: bool = False,
) -> Job:
    request = SynthesisRequest(name, Voice("v"))
    return Job(
        name,
        request,
        lambda _: None,
        time.monotonic() + patience,
        seconds,
        caller,
        Priority.BATCH if batch else Priority.INTERACTIVE,
    )


def measured(rtf: float) -> Pace:
    pace = Pace()
    pace.add(Timings(0, rtf, 0, 0, 1))
    return pace


def drained(queue: JobQueue) -> list[str]:
    names = []
    while (taken := queue.take(0)) is not None:
        names.append(taken.id)
        queue.finished()
    return names


def test_interactive_goes_before_batch_whenever_it_came() -> None:
    queue = JobQueue(9, Pace())
    for one in (job("b1", batch=True), job("i1"), job("b2", batch=True), job("i2")):
        queue.put(one)
    assert drained(queue) == ["i1", "i2", "b1", "b2"]


def test_one_who_asks_for_little_does_not_wait_behind_one_who_asks_for_much() -> None:
    queue = JobQueue(99, Pace())
    for number in range(6):
        queue.put(job(f"much{number}", "greedy"))
    queue.put(job("little", "modest", seconds=2))
    order = drained(queue)
    assert order.index("little") <= 1
    assert [name for name in order if name != "little"] == [f"much{n}" for n in range(6)]


def test_callers_share_by_engine_time_not_by_number() -> None:
    queue = JobQueue(99, Pace())
    for number in range(4):
        queue.put(job(f"long{number}", "long", seconds=30))
    for number in range(8):
        queue.put(job(f"short{number}", "short", seconds=10))
    order = drained(queue)
    # When the second long one begins, three short ones have had as much.
    assert sum(name.startswith("short") for name in order[: order.index("long1")]) == 3


def test_who_was_idle_has_saved_nothing_up() -> None:
    queue = JobQueue(99, Pace())
    for number in range(5):
        queue.put(job(f"a{number}", "a"))
        assert queue.take(0)
        queue.finished()
    for number in range(3):
        queue.put(job(f"b{number}", "b"))
        queue.put(job(f"A{number}", "a"))
    order = drained(queue)
    assert sorted(order[:2]) == ["A0", "b0"], "neither makes up for the past"


def test_a_full_queue_takes_a_place_from_who_holds_most() -> None:
    queue = JobQueue(4, Pace())
    greedy = [job(f"g{number}", "greedy") for number in range(4)]
    for one in greedy:
        assert queue.put(one) == []
    assert queue.put(job("m0", "modest")) == [greedy[3]]
    assert queue.put(job("m1", "modest")) == [greedy[2]]
    with pytest.raises(QueueFull):
        queue.put(job("m2", "modest"))
    with pytest.raises(QueueFull):
        queue.put(job("g9", "greedy"))
    assert len(queue) == 4


def test_a_full_queue_takes_a_place_from_batch_for_interactive_and_never_back() -> None:
    queue = JobQueue(2, Pace())
    first, last = job("b0", "c", batch=True), job("b1", "c", batch=True)
    queue.put(first)
    queue.put(last)
    assert queue.put(job("i0", "c")) == [last]
    assert queue.put(job("i1", "c")) == [first]
    with pytest.raises(QueueFull):
        queue.put(job("b2", "other", batch=True))


def test_the_queue_is_bounded_in_engine_seconds() -> None:
    queue = JobQueue(100, measured(0.5), seconds=10)
    queue.put(job("a", seconds=12))
    with pytest.raises(QueueFull) as caught:
        queue.put(job("b", seconds=9))
    assert caught.value.retry_after == pytest.approx(6)
    queue.put(job("c", seconds=8))
    assert drained(queue) == ["a", "c"]
    # Longer than the whole limit, it may wait alone: it would never be spoken otherwise.
    queue.put(job("long", seconds=500))
    assert len(queue) == 1


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    queue = JobQueue(100, measured(0.5))
    queue.put(job("running", seconds=20))
    assert queue.take(0)
    queue.put(job("waiting", seconds=10))
    with pytest.raises(DeadlinePassed) as caught:
        queue.put(job("hasty", seconds=1, patience=12))
    assert caught.value.code == "deadline_unreachable"
    assert caught.value.retry_after == pytest.approx(15 - 12, abs=0.2)
    queue.put(job("patient", seconds=1, patience=16))
    queue.put(job("batch", seconds=1, patience=60, batch=True))
    with pytest.raises(DeadlinePassed):
        queue.put(job("hasty batch", seconds=1, patience=15.2, batch=True))


def test_nothing_is_foretold_before_anything_was_measured() -> None:
    queue = JobQueue(100, Pace())
    queue.put(job("waiting", seconds=100))
    queue.put(job("hasty", patience=1))
    assert len(queue) == 2
