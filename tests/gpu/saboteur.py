"""Faults of a real GPU, made from inside the daemon's process by a thread that is not the daemon's:
it reads orders from a pipe. Nothing of the daemon is replaced."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from tests.service.daemon.daemon_server import PROGRAM

PIPE = "ISHOWTTS_SABOTAGE"
SABOTAGED = (
    """
import os, threading
def sabotage():
    while True:
        with open(os.environ["ISHOWTTS_SABOTAGE"]) as orders:
            for order in orders:
                import torch
                word, _, value = order.strip().partition(" ")
                if word == "sleep":
                    # The default stream is the engine's too: its work waits behind these kernels.
                    for _ in range(int(value)):
                        torch.cuda._sleep(1_000_000_000)
                elif word == "memory":
                    torch.cuda.set_per_process_memory_fraction(float(value))
                elif word == "assert":
                    torch.zeros(1, device="cuda")[torch.tensor([9], device="cuda")]
threading.Thread(target=sabotage, daemon=True).start()
"""
    + PROGRAM
)
"""The daemon's program, with the thread."""


class Saboteur:
    """The pipe's other end.

    Args:
        folder: where the pipe is made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "sabotage"
        os.mkfifo(self._path)
        self.env = {PIPE: str(self._path)}

    def __enter__(self) -> Saboteur:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._path.unlink()

    def order(self, words: str) -> None:
        with self._path.open("w") as pipe:
            pipe.write(words + "\n")
