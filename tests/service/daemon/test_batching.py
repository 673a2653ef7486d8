"""Whether several requests are spoken at once: decided by a measurement of the engine at hand.

The engines here are real ones that speak tones and take their time, alone and together, as GPUs of
several kinds do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ishowtts_ops.config import parse
from ishowtts_ops.daemon.batch_trial import BatchTrial, settle, snr_db, story
from ishowtts_ops.daemon.batching import Batching, configured, decided
from ishowtts_ops.daemon.engine import (
    Cancel,
    Cancelled,
    OutOfMemory,
    Progress,
    Samples,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.daemon.tone import ToneEngine
from ishowtts_ops.daemon.worker import Worker
from tests.service.daemon.daemon_server import eventually, serving

VOICE = Voice("tone-a")
ALONE_S = 0.03


class Device(ToneEngine):
    """Takes 30 ms for one request, and for several what `together_s` says.

    Args:
        room: more requests at once than this do not fit its memory.
    """

    def __init__(
        self, together_s: Callable[[int], float], room: int = 16, name: str = "device one"
    ) -> None:
        super().__init__("")
        self._together_s = together_s
        self._room = room
        self._fingerprint = name
        self.sizes: list[int] = []

    def alone(self) -> str | None:
        return None

    def fingerprint(self) -> str:
        return self._fingerprint

    def stream(
        self, request: SynthesisRequest, progress: Progress, cancelled: Cancel
    ) -> Iterator[Samples]:
        self.sizes.append(1)
        time.sleep(ALONE_S)
        yield from super().stream(request, progress, cancelled)

    def speak_together(
        self, requests: Sequence[SynthesisRequest], progress: Progress, cancelled: Cancel
    ) -> list[Samples]:
        self.sizes.append(len(requests))
        if len(requests) > self._room:
            raise OutOfMemory("CUDA out of memory")
        time.sleep(self._together_s(len(requests)))
        progress("tones")
        whole = [ToneEngine.stream(self, one, progress, cancelled) for one in requests]
        return [np.concatenate(list(pieces)) for pieces in whole]


class Muddled(Device):
    """Speaks otherwise in a batch than alone."""

    def speak_together(
        self, requests: Sequence[SynthesisRequest], progress: Progress, cancelled: Cancel
    ) -> list[Samples]:
        made = super().speak_together(requests, progress, cancelled)
        return [samples[::-1].copy() for samples in made]


def large(size: int) -> float:
    return ALONE_S * size / 3


def small(size: int) -> float:
    return ALONE_S * size * 1.02


@pytest.fixture
def at_work() -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def make(engine: Device, folder: Path, setting: int | str = "auto") -> Worker:
        worker = Worker(
            engine,
            Condition(),
            Pulse(),
            queue_limit=10,
            canary_seconds=60,
            observer=lambda job, outcome: None,
        )

        def boot(worker: Worker) -> Voice:
            settle(worker, setting, VOICE, folder)
            worker.condition.warmed_up("ready")
            return VOICE

        worker.start(boot, lambda error: None)
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        assert worker.stop(10)


def test_a_device_that_gains_uses_the_sizes_that_do_and_remembers(
    at_work: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = at_work(Device(large), tmp_path)
    eventually(lambda: worker.batching.sizes == (2, 4, 8, 16))
    gains = dict(worker.batching.gains)
    assert all(gain > 1.2 for gain in gains.values()), gains
    assert worker.batching.why.startswith("measured on this box: 16 at once make +")
    again = Device(large)
    second = at_work(again, tmp_path)
    eventually(lambda: second.condition.warm)
    assert second.batching.gains == gains
    assert second.batching.why.startswith("measured on this box before")
    eventually(lambda: not second.rest.due)
    assert max(again.sizes, default=1) == 1, "not measured twice"
    other = at_work(Device(large, name="device two"), tmp_path)
    eventually(lambda: other.batching.sizes)
    assert "before" not in other.batching.why, "what was measured on another device does not count"


def test_a_device_that_gains_nothing_speaks_one_by_one(
    at_work: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = at_work(Device(small), tmp_path)
    eventually(lambda: not worker.rest.due)
    assert worker.batching.sizes == ()
    assert len(worker.batching.gains) == 4
    assert "at once make only" in worker.batching.why
    assert story(worker.batching, "auto")["sizes"] == [1]


def test_a_size_without_room_is_not_used(at_work: Callable[..., Worker], tmp_path: Path) -> None:
    worker = at_work(Device(large, room=4), tmp_path)
    eventually(lambda: not worker.rest.due)
    assert worker.batching.sizes == (2, 4)


def test_a_batch_that_sounds_otherwise_is_not_used(
    at_work: Callable[..., Worker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = at_work(Muddled(large), tmp_path)
    eventually(lambda: not worker.rest.due)
    assert worker.batching.sizes == ()
    assert "a batch sounds other than its parts alone" in caplog.text


def test_a_setting_needs_no_trial(at_work: Callable[..., Worker], tmp_path: Path) -> None:
    engine = Device(large)
    worker = at_work(engine, tmp_path, setting=6)
    eventually(lambda: not worker.rest.due)
    assert worker.batching == configured(6)
    assert max(engine.sizes, default=1) == 1
    assert not list(tmp_path.iterdir())


def test_the_trial_is_bounded_and_gives_way(tmp_path: Path) -> None:
    engine = Device(small)
    told: list[dict[int, float]] = []
    trial = BatchTrial(engine, VOICE, told.append, budget=ALONE_S * 4 * 5)
    steps = iter([None, None, Cancelled()])

    def interrupted(doing: str) -> None:
        if (error := next(steps, None)) is not None:
            raise error

    with pytest.raises(Cancelled):
        trial(interrupted)
    assert told == []
    trial(lambda doing: None)
    assert list(told[0]) == [2], "four at a time did not fit the budget"
    assert max(engine.sizes) == 2


def test_how_many_are_taken() -> None:
    batching = Batching((4, 8), "")
    wanted = {1: 1, 3: 1, 4: 4, 5: 4, 7: 4, 8: 8, 40: 8}
    assert {there: batching.best(there) for there in wanted} == wanted
    assert configured(1).best(9) == 1
    assert configured(6).sizes == (2, 4, 6)
    assert decided({2: 1.05, 4: 1.12, 8: 1.2, 16: 1.08}, "measured").sizes == (4, 8)
    assert decided({}, "measured").why == "measured: no size could be tried"


def test_likeness_is_in_decibels() -> None:
    wanted = np.sin(np.arange(1000) / 7).astype(np.float32)
    assert snr_db(wanted, wanted) == np.inf
    assert snr_db(wanted * np.float32(1.01), wanted) == pytest.approx(40, abs=0.1)
    assert snr_db(wanted[:-1], wanted) == -np.inf


@pytest.mark.parametrize("value", ["auto", "1", "16"])
def test_what_may_be_configured(value: str) -> None:
    assert str(parse(f"daemon: {{batch: {value}}}", "test").daemon.batch) == value


def test_the_daemon_says_why_it_speaks_one_by_one(tmp_path: Path) -> None:
    with serving(tmp_path, env={"CACHE_DIRECTORY": str(tmp_path)}) as server:
        server.wait_ready()
        told = server.ready()["batch"]
        assert told == {
            "setting": "auto",
            "sizes": [1],
            "why": "the tone engine speaks one at a time",
            "gains": {},
        }
        assert server.metric("ishowtts_batch_most") == 1
        (tmp_path / "config.yaml").write_text(
            json.dumps({"engine": {"kind": "tone"}, "daemon": {"port": server.port, "batch": 4}})
        )
        server.process.send_signal(1)
        eventually(lambda: server.ready()["batch"]["sizes"] == [2, 4])
        assert server.metric("ishowtts_batch_most") == 4
