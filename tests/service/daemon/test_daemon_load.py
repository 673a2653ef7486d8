"""The loads of `tests/load`, in small: the same checks, fewer requests."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.load import loads
from tests.service.daemon.daemon_server import serving


def test_a_crowd_is_answered_to_the_last_one(tmp_path: Path) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "slow:0.02"}
    with serving(tmp_path, env=env, daemon={"queue_limit": 8}) as server:
        server.wait_ready()
        found = asyncio.run(loads.crowd(server.port, 80))
        assert found["right"] == 80, found
        assert set(found["statuses"]) <= {"200", "429", "503"}
        assert found["statuses"]["200"] >= 8
        assert found["health_checks"] > 3
        assert server.stop() == 0


def test_mixed_requests_get_their_own_voice_each_and_leave_nothing_behind(tmp_path: Path) -> None:
    with serving(tmp_path, daemon={"queue_limit": 64}) as server:
        server.wait_ready()
        found = asyncio.run(loads.soak(server.port, server.process.pid, 1200))
        assert found["wrong_voice_or_samples"] == 0
        assert set(found["statuses"]) <= {"200", "404", "left"}
        assert sum(found["statuses"].values()) == 1200
        # Long soaks level off after thousands of requests; a leak of 20 kB each is past this.
        assert found["rss_at_the_end_mb"] - found["rss_after_a_fifth_mb"] < 18
        assert server.ready()["queue"]["depth"] == 0


def test_requests_at_a_steady_rate_are_all_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.wait_ready()
        found = asyncio.run(loads.overhead(server.port, rate=50, seconds=1))
        assert found["answered_200"] == found["requests"] == 50
        # What is measured is within what it is a part of.
        assert 0 < found["overhead"]["p50_ms"] < found["total"]["max_ms"]
