"""A stand-in for iShowTTS's Rust backend: its answers, and every way to go wrong. Not a fake of our
code: the real one needs a Jetson, weights and a Rust tool chain. It needs nothing but Python.

It answers as that does (GET /api/health, GET /api/voices, POST /api/tts), behind one mutex, with a
sine of a length that goes with the text's. Every answer has the header X-Stand-In.

    standin_backend.py --port 27121 [--warmup] [faults]

Faults at the start are options; later ones are told: POST /standin {"fault": "lie"}
    hang      no request is answered any more, /api/health among them
    lie       /api/health goes on to say ok, and synthesis is stuck
    error     synthesis answers 500
    silent    synthesis answers a recording of zeros
    empty     synthesis answers no recording
    busy      synthesis answers 503, and the processor is used all the time
    spin      the processor is used all the time, and all is well else
    crash     the process ends with status 3 at the next synthesis
    leak:N    another N MiB a second
    none      all is well again
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any

SAMPLE_RATE = 24_000
SECONDS_PER_CHARACTER = 0.02
VOICE = {"id": "default", "engine": "f5", "engine_label": "F5-TTS", "language": "en"}


class Backend:
    """What all requests share."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.synthesis = threading.Lock()
        self.never = threading.Event()
        self.spoken = 0
        self.began = time.monotonic()
        self.busy_until = 0.0
        self.leaked: list[bytearray] = []
        threading.Thread(target=self._misuse, daemon=True).start()

    def _misuse(self) -> None:
        while True:
            if self.fault in ("busy", "spin"):
                end = time.monotonic() + 0.02
                while time.monotonic() < end:
                    pass
                time.sleep(0.05)
            elif self.fault.startswith("leak:"):
                # Written to, or the kernel would not count it.
                self.leaked.append(bytearray(os.urandom(1)) * int(float(self.fault[5:]) * 104_858))
                time.sleep(0.1)
            else:
                time.sleep(0.05)

    def speak(self, text: str) -> tuple[int, dict[str, Any]]:
        """One synthesis: status and answer."""
        with self.synthesis:
            fault = self.fault
            if fault in ("lie", "hang"):
                self.never.wait()
            if fault == "crash":
                os._exit(3)
            if fault == "error":
                return 500, {"error": "CUDA error: device-side assert triggered"}
            if fault == "busy":
                return 503, {"error": "busy"}
            frames = 0 if fault == "empty" else int(len(text) * SECONDS_PER_CHARACTER * SAMPLE_RATE)
            wav = recording(frames, 0.0 if fault == "silent" else 0.3)
            self.spoken += 1
        return 200, {
            "request_id": str(uuid.uuid4()),
            "voice_id": VOICE["id"],
            "engine": VOICE["engine"],
            "engine_label": VOICE["engine_label"],
            "sample_rate": SAMPLE_RATE,
            "audio_base64": base64.b64encode(wav).decode(),
            "waveform_len": frames,
            "format": "audio/wav",
        }


def recording(frames: int, loudness: float) -> bytes:
    """A sine of 480 Hz as a WAV file of 16 bits."""
    period = [round(32767 * loudness * math.sin(2 * math.pi * n / 50)) for n in range(50)]
    data = (struct.pack("<50h", *period) * (frames // 50 + 1))[: frames * 2]
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt "
    form = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, SAMPLE_RATE * 2, 2, 16)
    return head + form + b"data" + struct.pack("<I", len(data)) + data


class Handler(BaseHTTPRequestHandler):
    """One request."""

    backend: Backend

    def do_GET(self) -> None:
        if self.backend.fault == "hang":
            self.backend.never.wait()
        if self.path == "/api/health":
            self._answer(200, {"status": "ok", "voices": 1, "default_voice": VOICE["id"]})
        elif self.path == "/api/voices":
            self._answer(200, [VOICE])
        elif self.path == "/standin":
            self._answer(200, {"spoken": self.backend.spoken, "pid": os.getpid()})
        else:
            self._answer(404, {"error": "not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
        if self.path == "/standin":
            self.backend.fault = body["fault"]
            say(f"stand-in: told to be {body['fault']}")
            self._answer(200, {})
        elif self.path == "/api/tts":
            if body.get("voice_id", VOICE["id"]) != VOICE["id"]:
                self._answer(400, {"error": f"unknown voice {body['voice_id']}"})
                return
            self._answer(*self.backend.speak(body["text"]))
        else:
            self._answer(404, {"error": "not found"})

    def _answer(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Stand-In", "iShowTTS backend")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """No line a request: the tests read what it says."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def say(text: str) -> None:
    """A line of output; it may come from a signal handler in the middle of another."""
    os.write(1, f"{text}\n".encode())


def start_slowly(seconds: float, *, idle: bool) -> None:
    """Be long about starting: at work, or standing still."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if idle:
            time.sleep(end - time.monotonic())
        else:
            sum(range(400_000))  # enough to be seen at work when others want the processor too
            time.sleep(0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description="a stand-in for iShowTTS's backend")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--warmup", action="store_true", help="accepted, as the real one does")
    parser.add_argument("--fault", default="none")
    parser.add_argument("--start-seconds", type=float, default=0.0)
    parser.add_argument("--start-idle", action="store_true", help="starting, it does nothing")
    parser.add_argument("--exit-at-start", type=int, default=None)
    parser.add_argument("--on-term", choices=("default", "ignore", "exit"), default="default")
    parser.add_argument("--exit-code", type=int, default=0, help="with --on-term exit")
    parser.add_argument("--child", action="store_true", help="have a process that runs on")
    given = parser.parse_args()
    say(f"stand-in for iShowTTS's backend pid={os.getpid()} port={given.port}")
    sys.stderr.write("stand-in: this is its stderr\n")

    def told(number: int, frame: FrameType | None) -> None:
        say(f"stand-in: got {signal.Signals(number).name}")
        if number != signal.SIGHUP and given.on_term == "exit":
            os._exit(given.exit_code)

    signal.signal(signal.SIGHUP, told)
    if given.on_term != "default":
        signal.signal(signal.SIGTERM, told)
        signal.signal(signal.SIGINT, told)
    if given.child:
        child = subprocess.Popen(["sleep", "600"])
        say(f"stand-in: child={child.pid}")
    start_slowly(given.start_seconds, idle=given.start_idle)
    if given.exit_at_start is not None:
        return int(given.exit_at_start)
    Handler.backend = Backend(given.fault)
    Server(("127.0.0.1", given.port), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
