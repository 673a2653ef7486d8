"""Loads for a daemon with the tone engine, whose every sample is known in advance."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ishowtts_ops.daemon.audio import pcm16
from ishowtts_ops.daemon.tone import PIECE_CHARACTERS, tones
from tests.load.wire import Answer, Wire

TEXT = "A line of chat, which somebody reads."
WORDS = [
    "the",
    "stream",
    "is",
    "on",
    "and",
    "everybody",
    "who",
    "came",
    "says",
    "hello",
    "to",
    "the",
    "one",
    "who",
    "plays",
]


def expected(text: str, voice: str, speed: float) -> bytes:
    """The samples of a text as PCM."""
    starts = range(0, len(text), PIECE_CHARACTERS)
    return b"".join(pcm16(tones(text[at : at + PIECE_CHARACTERS], voice, speed)) for at in starts)


def quantiles(values: list[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

    return {
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "max_ms": round(1000 * ordered[-1], 3),
        "mean_ms": round(1000 * statistics.fmean(values), 3),
    }


async def overhead(port: int, rate: float, seconds: float) -> dict[str, Any]:
    """Requests at a steady rate whether answers come or not; what an answer takes beyond what its
    engine took, from writing the request to its last byte."""
    idle = [Wire(port) for _ in range(8)]
    for wire in idle:
        await wire.connect()
        await wire.get("/livez")
    answers: list[Answer] = []

    async def one() -> None:
        wire = idle.pop() if idle else Wire(port)
        answers.append(await wire.speak(input=TEXT, voice="tone-a"))
        idle.append(wire)

    count = int(rate * seconds)
    began = time.perf_counter()
    tasks = []
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    for wire in idle:
        wire.close()
    good = [answer for answer in answers if answer.status == 200 and answer.whole]
    return {
        "rate_per_s": rate,
        "requests": count,
        "answered_200": len(good),
        "overhead": quantiles([a.total_s - a.seconds("infer") for a in good]),
        "engine": quantiles([a.seconds("infer") for a in good]),
        "queue": quantiles([a.seconds("queue") for a in good]),
        "total": quantiles([a.total_s for a in good]),
    }


async def crowd(port: int, callers: int) -> dict[str, Any]:
    """All at once, once; health is asked for all the while."""
    wires = [Wire(port) for _ in range(callers)]
    for wire in wires:
        await wire.connect()
    # In a process of its own: here it would wait for the callers' own work.
    watcher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.load.health", str(port), stdin=-1, stdout=-1
    )
    assert watcher.stdin and watcher.stdout
    await watcher.stdout.readline()
    answers = await asyncio.gather(
        *(wire.speak(input=f"{TEXT} {n:03}", voice="tone-b") for n, wire in enumerate(wires)),
        return_exceptions=True,
    )
    await asyncio.sleep(0.05)
    told, _ = await watcher.communicate(b"")
    health: list[float] = json.loads(told)
    right = 0
    statuses: Counter[str] = Counter()
    for number, answer in enumerate(answers):
        if not isinstance(answer, Answer) or not answer.whole:
            statuses["lost or cut"] += 1
            continue
        statuses[str(answer.status)] += 1
        if answer.status == 200:
            wanted = expected(f"{TEXT} {number:03}", "tone-b", 1.0)
            right += answer.body[44:] == wanted
        else:
            right += answer.status in (429, 503) and int(answer.headers["retry-after"]) >= 1
    for wire in wires:
        wire.close()
    return {
        "callers": callers,
        "statuses": dict(sorted(statuses.items())),
        "right": right,
        "health_checks": len(health),
        "health": quantiles(health),
    }


async def soak(port: int, pid: int, requests: int, workers: int = 6) -> dict[str, Any]:
    """Mixed requests: both voices, lengths, speeds, whole and streamed, wrong ones, and callers who
    leave. Memory is sampled all the while."""
    left = iter(range(requests))
    statuses: Counter[str] = Counter()
    wrong = 0
    memory: list[tuple[int, int]] = []

    async def caller(number: int) -> None:
        nonlocal wrong
        choose = random.Random(number)
        wire = Wire(port)
        for serial in left:
            if serial % max(1, requests // 100) == 0:
                memory.append((serial, resident(pid)))
            text = " ".join(choose.choices(WORDS, k=choose.randint(1, 12)))
            voice = choose.choice(["tone-a", "tone-b"])
            speed = choose.choice([0.5, 1.0, 2.0])
            fields: dict[str, Any] = {"input": text, "voice": voice, "speed": speed}
            kind = choose.random()
            if kind < 0.03:
                await wire.leave_after_asking(**fields)
                statuses["left"] += 1
                continue
            if kind < 0.06:
                answer = await wire.speak(**{**fields, "voice": "nobody"})
                statuses[str(answer.status)] += 1
                wrong += answer.status != 404
                continue
            form = choose.choice(["wav", "pcm"])
            answer = await wire.speak(**fields, response_format=form)
            statuses[str(answer.status) if answer.whole else "cut"] += 1
            body = answer.body[44:] if form == "wav" else answer.body
            if answer.status == 200:
                wrong += body != expected(text, voice, speed)
        wire.close()

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(workers)))
    memory.append((requests, resident(pid)))
    settled = [used for serial, used in memory if serial >= requests // 5]
    return {
        "requests": requests,
        "seconds": round(time.perf_counter() - began, 1),
        "statuses": dict(sorted(statuses.items())),
        "wrong_voice_or_samples": wrong,
        "rss_after_a_fifth_mb": round(settled[0] / 1e6, 2),
        "rss_at_the_end_mb": round(settled[-1] / 1e6, 2),
        "rss_most_mb": round(max(used for _, used in memory) / 1e6, 2),
    }


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
