"""Measures a real daemon with the F5 engine over real sockets; prints one JSON document.

    python -m tests.gpu.bench_daemon --source PATCHED/src --device cuda --out FILE

Weights are seeded and random, at full size (F5TTS_v1_Base, NFE 7): noise comes out, and time does
not care. `--small` takes a tiny network, to try the program itself on a CPU. What needs a GPU
(a hang, no memory, a lost device: see saboteur.py) is left out on a CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from ishowtts_ops.daemon.batch_trial import snr_db
from tests.gpu import daemon_faults as faults
from tests.gpu.daemon_bench import Bench, words
from tests.load.loads import quantiles
from tests.load.wire import Answer, Wire
from tests.service.daemon.daemon_server import Server, eventually

CHAT = [
    "Hello to everybody who is here tonight.",
    "That was a very good one, do it again.",
    "Greetings from the other end of the world.",
    "Who plays this song, and is it any good?",
]
"""Two to three seconds each, and so alike that they can be spoken together."""
Part = Callable[[str, Callable[[], dict[str, Any]]], None]
"""Runs a part of the measurement under a name."""


def started(bench: Bench, server: Server, began: float) -> dict[str, Any]:
    """Seconds to READY, and to the first correct audio."""
    eventually(lambda: server.status("/readyz") == 200, 300)
    ready = time.monotonic()
    answer = server.speak(CHAT[0], seed=1)
    assert answer.status_code == 200, answer.text
    return {
        "ready_s": round(ready - began, 2),
        "first_audio_s": round(time.monotonic() - began, 2),
        "batch": server.ready()["batch"],
    }


def rested(server: Server) -> dict[str, Any]:
    """Waits until everything is prepared: two canaries are spoken only after that."""
    began = time.monotonic()
    canaries = server.ready()["canaries"]
    eventually(lambda: server.ready()["canaries"] >= canaries + 2, 300)
    return {"seconds": round(time.monotonic() - began, 1), "batch": server.ready()["batch"]}


async def first_audio(bench: Bench, server: Server) -> dict[str, Any]:
    """One caller on an open connection, streaming; the client's clock against the engine's, which
    starts at admission and stops when the piece leaves the engine."""
    wire = Wire(server.port)
    rows: dict[str, list[float]] = {"at_the_socket": [], "of_the_engine": [], "between": []}
    for text in (CHAT[0], words(10)):
        for number in range(bench.count(60)):
            answer = await wire.speak(input=text, response_format="pcm", seed=number)
            assert answer.status == 200 and answer.whole, answer
            if number < 5 * bench.scale:
                continue
            told = json.loads((await wire.get("/v1/stats")).body)["recent"][-1]
            rows["at_the_socket"].append(answer.first_audio_s)
            rows["of_the_engine"].append(told["first_audio_seconds"])
            rows["between"].append(answer.first_audio_s - told["first_audio_seconds"])
    wire.close()
    return {name: quantiles(values) for name, values in rows.items()}


async def callers(bench: Bench, server: Server, number: int = 16) -> dict[str, Any]:
    """Each asks again as soon as it was answered."""
    end = time.perf_counter() + max(1.0, 6.0 * bench.scale)
    first: list[float] = []
    total: list[float] = []
    audio = 0.0
    statuses: Counter[str] = Counter()

    async def caller(index: int) -> None:
        nonlocal audio
        wire = Wire(server.port)
        serial = index
        while time.perf_counter() < end:
            answer = await wire.speak(
                input=CHAT[serial % len(CHAT)], voice="anna", response_format="pcm", seed=serial
            )
            statuses[str(answer.status) if answer.whole else "cut"] += 1
            if answer.status == 200:
                first.append(answer.first_audio_s)
                total.append(answer.total_s)
                audio += len(answer.body) / 48_000
            serial += number
        wire.close()

    before = [server.metric(f"ishowtts_batch_size_{what}") for what in ("count", "sum")]
    began = time.perf_counter()
    await asyncio.gather(*(caller(index) for index in range(number)))
    spent = time.perf_counter() - began
    batches, batched = (
        server.metric(f"ishowtts_batch_size_{what}") - was
        for what, was in zip(("count", "sum"), before, strict=True)
    )
    return {
        "callers": number,
        "statuses": dict(statuses),
        "audio_s_per_s": round(audio / spent, 1),
        "first_audio": quantiles(first),
        "total": quantiles(total),
        "batches": int(batches),
        "spoken_in_batches": int(batched),
    }


async def alike(server: Server) -> dict[str, Any]:
    """Sixteen at once with fixed seeds against the same alone, one after another."""
    wire = Wire(server.port)

    async def one(wire: Wire, index: int) -> np.ndarray[Any, Any]:
        answer = await wire.speak(
            input=CHAT[index % len(CHAT)], voice="anna", response_format="pcm", seed=index
        )
        assert answer.status == 200 and answer.whole
        return np.frombuffer(answer.body, "<i2").astype(np.float32)

    alone = [await one(wire, index) for index in range(16)]
    again = [await one(wire, index) for index in range(16)]
    wires = [Wire(server.port) for _ in range(16)]
    together = await asyncio.gather(*(one(each, index) for index, each in enumerate(wires)))
    for each in [wire, *wires]:
        each.close()
    found = [snr_db(heard, wanted) for heard, wanted in zip(together, alone, strict=True)]
    finite = [value for value in found if np.isfinite(value)]
    return {
        "alone_twice_bit_equal": all(map(np.array_equal, alone, again)),
        "together_bit_equal": sum(map(np.array_equal, together, alone)),
        "least_snr_db": round(min(finite), 1) if finite else None,
        "median_snr_db": round(statistics.median(finite), 1) if finite else None,
    }


async def crowd(bench: Bench, server: Server, number: int = 200) -> dict[str, Any]:
    """All at once against a queue of 16, health asked for all the while by another process."""
    wires = [Wire(server.port) for _ in range(number)]
    for wire in wires:
        await wire.connect()
    watcher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.load.health", str(server.port), stdin=-1, stdout=-1
    )
    assert watcher.stdin and watcher.stdout
    await watcher.stdout.readline()
    wanted = await Wire(server.port).speak(input=CHAT[0], seed=3, response_format="pcm")
    answers = await asyncio.gather(
        *(wire.speak(input=CHAT[0], seed=3, response_format="pcm") for wire in wires),
        return_exceptions=True,
    )
    told, _ = await watcher.communicate(b"")
    statuses: Counter[str] = Counter()
    right = 0
    for answer in answers:
        if not isinstance(answer, Answer) or not answer.whole:
            statuses["lost or cut"] += 1
            continue
        statuses[str(answer.status)] += 1
        if answer.status == 200:
            pair = (np.frombuffer(a.body, "<i2").astype(np.float32) for a in (answer, wanted))
            right += snr_db(*pair) > 20
        else:
            right += answer.status in (429, 503) and int(answer.headers["retry-after"]) >= 1
    for wire in wires:
        wire.close()
    return {
        "callers": number,
        "statuses": dict(sorted(statuses.items())),
        "right": right,
        "health_checks": len(json.loads(told)),
        "health": quantiles(json.loads(told)),
    }


def with_batch(bench: Bench, server: Server, size: int | str) -> dict[str, Any]:
    bench.reload(server, batch=size)
    eventually(lambda: server.ready()["batch"]["setting"] == size)
    time.sleep(0.5)
    uvloop.run(callers(bench, server))  # captures what it needs
    return {**uvloop.run(callers(bench, server)), "batch": server.ready()["batch"]}


def load(bench: Bench, server: Server, part: Part) -> None:
    """What it does when all is well."""
    part("first_audio", lambda: uvloop.run(first_audio(bench, server)))
    for size in ("auto", 16, 1):
        part(f"callers_batch_{size}", functools.partial(with_batch, bench, server, size))
    bench.reload(server, batch=16)
    part("batch_against_alone", lambda: uvloop.run(alike(server)))
    bench.reload(server, batch="auto")
    part("crowd", lambda: uvloop.run(crowd(bench, server)))
    part("watchdog", lambda: faults.watchdog(bench, server))
    part("memory_held", lambda: faults.held(server))


def measure(bench: Bench, cuda: bool, only_faults: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    server: list[Server] = []

    def part(name: str, work: Callable[[], dict[str, Any]]) -> None:
        began = time.monotonic()
        try:
            result[name] = work()
        except Exception as error:  # noqa: BLE001 - one part must not lose the others' figures
            log = server[-1].log[-2000:] if server else ""
            result[name] = {"error": f"{type(error).__name__}: {error}"[:500], "log": log}
        result[name]["part_took_s"] = round(time.monotonic() - began, 1)
        print(name, json.dumps(result[name]), file=sys.stderr, flush=True)

    def begin() -> dict[str, Any]:
        began = time.monotonic()
        server.append(bench.start())
        return started(bench, server[-1], began)

    part("cold_start", begin)
    try:
        part("rest", lambda: rested(server[-1]))
        if not only_faults:
            load(bench, server[-1], part)
        if cuda:
            part("hang", lambda: faults.hang(bench, server[-1]))
        server[-1].process.kill()
        server[-1].wait()
        part("start_after_kill", begin)
        if cuda:
            part("out_of_memory", lambda: faults.memory(bench, server[-1]))
            if server[-1].process.poll() is not None:
                part("start_after_out_of_memory", begin)
            part("device_lost", lambda: faults.lost(bench, server[-1]))
            part("start_after_device_lost", begin)
        part("stop", lambda: {"exit_code": server[-1].stop()})
    finally:
        for each in server:
            each.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of requests")
    parser.add_argument("--only-faults", action="store_true", help="no load: starts and faults")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), given.source.resolve(), given.device, given.small, given.scale)
        with bench.saboteur:
            result = measure(bench, given.device.startswith("cuda"), given.only_faults)
        bench.manager.close()
    document = {
        "about": {
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "command": "python -m tests.gpu.bench_daemon --source PATCHED/src --device "
            + given.device + " --small" * given.small,
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "load_average": [round(value, 2) for value in os.getloadavg()],
            "weights": "random, seed 1, " + ("a tiny network" if given.small else "F5TTS_v1_Base"),
        },
        **result,
    }  # fmt: skip
    text = json.dumps(document, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
