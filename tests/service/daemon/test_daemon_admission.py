"""The queue and the pace."""

from __future__ import annotations

import time

import pytest

from ishowtts_ops.daemon.admission import JobQueue, Pace
from ishowtts_ops.daemon.engine import SynthesisRequest, Timings, Voice
from ishowtts_ops.daemon.failures import DeadlinePassed, QueueFull, headers_of
from ishowtts_ops.daemon.job import Job


def job(name: str, seconds: float = 10.0) -> Job:
    request = SynthesisRequest(name, Voice("v"))
    return Job(name, request, lambda _: None, time.monotonic() + 60, seconds)


def test_pace_follows_recent_requests() -> None:
    pace = Pace()
    assert pace.rtf == 1
    pace.add(Timings(0, 0.2, 0, 0, 1))
    assert pace.rtf == pytest.approx(0.2)
    for _ in range(20):
        pace.add(Timings(0, 0.4, 0, 0, 1))
    assert pace.rtf == pytest.approx(0.4, rel=0.01)
    pace.add(Timings(0, 1, 0, 0, 0))
    assert pace.rtf == pytest.approx(0.4, rel=0.01)


def test_a_full_queue_names_the_time_until_it_is_worked_off() -> None:
    pace = Pace()
    pace.add(Timings(0, 0.25, 0, 0, 1))
    queue = JobQueue(2, pace)
    running, first, second = job("running"), job("first", 20), job("second", 12)
    queue.put(running)
    assert queue.take(0) is running
    queue.put(first)
    queue.put(second)
    with pytest.raises(QueueFull) as caught:
        queue.put(job("third"))
    assert caught.value.retry_after == pytest.approx((10 + 20 + 12) * 0.25, abs=0.1)
    assert headers_of(caught.value) == {"Retry-After": "11"}
    queue.finished()
    assert queue.wait_seconds() == pytest.approx((20 + 12) * 0.25)


def test_who_is_late_is_expected_to_take_as_long_again() -> None:
    pace = Pace()
    pace.add(Timings(0, 0.001, 0, 0, 1))
    queue = JobQueue(2, pace)
    queue.put(job("late", 1.0))
    # A millisecond is predicted.
    queue.take(0)
    time.sleep(0.2)
    first = queue.wait_seconds()
    assert first >= 0.2 - 0.01
    time.sleep(0.1)
    assert queue.wait_seconds() >= first + 0.1 - 0.01
    hasty = job("hasty")
    hasty.deadline = time.monotonic() + 0.05
    with pytest.raises(DeadlinePassed):
        queue.put(hasty)


def test_first_in_first_out_and_leaving_early() -> None:
    queue = JobQueue(5, Pace())
    jobs = [job(str(number)) for number in range(4)]
    for one in jobs:
        queue.put(one)
    assert queue.remove(jobs[1])
    assert not queue.remove(jobs[1])
    assert [queue.take(0), queue.take(0)] == [jobs[0], jobs[2]]
    assert queue.running is jobs[2]
    assert not queue.remove(jobs[2])
    assert queue.clear() == [jobs[3]]
    assert queue.take(0) is None
