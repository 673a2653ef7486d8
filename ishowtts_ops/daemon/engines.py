"""Which engine the settings ask for, and what speaks in its place."""

from __future__ import annotations

from pathlib import Path

from ishowtts_ops.config import Manifest, Settings
from ishowtts_ops.daemon import espeak
from ishowtts_ops.daemon.by_content import ByContent
from ishowtts_ops.daemon.engine import Engine
from ishowtts_ops.daemon.espeak import EspeakEngine
from ishowtts_ops.daemon.f5 import F5Engine
from ishowtts_ops.daemon.tone import ToneEngine
from ishowtts_ops.host import Host

PREPARED = "prepared"


def make_engine(
    settings: Settings, manifest: Manifest, host: Host, state: Path | None = None
) -> Engine:
    """The engine named by `engine.kind`, not yet loaded.

    Args:
        state: the daemon's folder of voices, where prepared ones are kept too; None keeps none.

    Raises:
        StartRefused: its settings make no sense.
    """
    kind = settings.engine.kind
    if kind == "f5":
        return ByContent(F5Engine(manifest, host, state / PREPARED if state else None))
    if kind == "espeak":
        return EspeakEngine(host)
    return ByContent(ToneEngine())


def make_fallback(engine: Engine, host: Host) -> Engine | None:
    """espeak-ng where it is installed and is not the engine itself already."""
    if isinstance(engine, EspeakEngine) or not espeak.available(host):
        return None
    return EspeakEngine(host)
