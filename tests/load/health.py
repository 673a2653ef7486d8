"""Asks for a daemon's health every 5 ms until its standard input ends, then prints how long each
answer took, in seconds: `python -m tests.load.health PORT`."""

from __future__ import annotations

import http.client
import json
import select
import sys
import time


def main(port: int) -> None:
    taken = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    print("begun", flush=True)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        began = time.perf_counter()
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        taken.append(time.perf_counter() - began)
    print(json.dumps(taken))


if __name__ == "__main__":
    main(int(sys.argv[1]))
