"""A daemon with the F5 engine for `bench_daemon`: full-size network, seeded weights, two voices."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from ishowtts_ops.config import Manifest, VoiceEntry
from tests.gpu.saboteur import SABOTAGED, Saboteur
from tests.service.daemon.daemon_server import NotifySocket, Server, eventually

SMALL = {"dim": 64, "depth": 2, "heads": 1, "ff_mult": 2, "text_dim": 32, "conv_layers": 1}
SENTENCE = "Some call me nature, others call me mother nature, and I have been here for a while. "
PACE = 15
"""Bytes a second, as usual speech has."""
WATCHDOG_S = 6.0


def words(seconds: float) -> str:
    size = int(seconds * PACE)
    return (SENTENCE * (size // len(SENTENCE) + 1))[:size].strip() + "."


@dataclasses.dataclass
class Bench:
    """A daemon, and the folder it lives in."""

    folder: Path
    source: Path
    device: str
    small: bool
    scale: float

    def __post_init__(self) -> None:
        self.manager = NotifySocket()
        self.saboteur = Saboteur(self.folder)
        (self.folder / "cache").mkdir()
        (self.folder / "state").mkdir()
        voices = []
        for number, (name, seconds) in enumerate((("anna", 6.0), ("bob", 3.0))):
            path = self.folder / f"{name}.wav"
            time_s = np.arange(int(seconds * 24_000)) / 24_000
            noise = np.random.default_rng(number).standard_normal(time_s.size)
            soundfile.write(path, 0.2 * noise * (0.6 + 0.3 * np.sin(9 * time_s)), 24_000)
            voices.append(VoiceEntry(id=name, audio=str(path), text=words(seconds), language="en"))
        self.manifest = Manifest(
            source=str(self.source),
            model=SMALL if self.small else "F5TTS_v1_Base",
            random_seed=1,
            device=self.device,
            voices=tuple(voices),
        )

    def count(self, full: int) -> int:
        return max(3, round(full * self.scale))

    def start(self) -> Server:
        env = {
            **self.saboteur.env,
            "NOTIFY_SOCKET": self.manager.address,
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
            "CACHE_DIRECTORY": str(self.folder / "cache"),
            "STATE_DIRECTORY": str(self.folder / "state"),
        }
        return Server(
            self.folder, "f5", manifest=self.manifest, env=env, program=SABOTAGED,
            daemon={"queue_limit": 16, "fallback": "never"},
        )  # fmt: skip

    def reload(self, server: Server, **daemon: Any) -> None:
        """Change the configuration with SIGHUP."""
        path = self.folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["daemon"].update(daemon)
        path.write_text(yaml.safe_dump(config))
        done = server.metric("ishowtts_reloads_total", outcome="done")
        server.process.send_signal(1)
        eventually(lambda: server.metric("ishowtts_reloads_total", outcome="done") > done)
