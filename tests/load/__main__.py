"""Measures a daemon with the tone engine, clients in this process, the daemon in another:

python -m tests.load overhead --times 5 -o docs/measurements/daemon-overhead.json
python -m tests.load crowd              -o docs/measurements/daemon-crowd.json
python -m tests.load soak --requests 10000 -o docs/measurements/daemon-soak.json

Other work on the machine shows in the tail of every figure, so each run says how much there was.
Where there is much, `chrt -r 1 python -m tests.load …` runs both sides before all of it, which is
what two cores of their own would give; the document says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from tests.load import loads
from tests.load.machine import Surroundings, priority
from tests.service.daemon.daemon_server import serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("load", choices=["overhead", "crowd", "soak"])
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    runs = [_once(given) for _ in range(given.times)]
    text = json.dumps(
        {
            "what": given.load,
            "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": {
                "cpus": os.cpu_count(),
                "arch": platform.machine(),
                "python": platform.python_version(),
                "priority": priority(),
            },
            "runs": runs,
        },
        indent=1,
    )
    print(text)
    if given.output:
        given.output.write_text(text + "\n")


def _once(given: argparse.Namespace) -> dict[str, Any]:
    env = {"ISHOWTTS_TONE_FAULT": "slow:0.02"} if given.load == "crowd" else {}
    daemon = {"queue_limit": 16 if given.load == "crowd" else 64}
    surroundings = Surroundings()
    with (
        surroundings,
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "box", env=env, daemon=daemon) as server,
    ):
        server.wait_ready()
        if given.load == "overhead":
            work = loads.overhead(server.port, given.rate, given.seconds)
        elif given.load == "crowd":
            work = loads.crowd(server.port, given.callers)
        else:
            work = loads.soak(server.port, server.process.pid, given.requests)
        found = uvloop.run(work)
        assert server.stop() == 0, server.log
    return {**found, "surroundings": surroundings.found}


if __name__ == "__main__":
    main()
