"""An engine in this process for `bench run --in-process`: what the daemon would run, without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ishowtts_ops.cli.box import Box
from ishowtts_ops.cli.whereabouts import go_where_the_engine_is
from ishowtts_ops.config import DEFAULT_NFE, Manifest, Settings
from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Engine,
    Reference,
    Samples,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.engines import make_engine
from ishowtts_ops.daemon.voices import Voices, load_voices
from ishowtts_ops.measure.doors import EngineDoor
from ishowtts_ops.measure.fingerprint import read_manifest
from ishowtts_ops.measure.workloads import BYTES_PER_SECOND, Workload, passage
from ishowtts_ops.provision.f5_source import locate
from ishowtts_ops.steps import Progress

MODELS: dict[str, str | dict[str, Any]] = {
    "full": "F5TTS_v1_Base",
    "small": {
        "dim": 128, "depth": 2, "heads": 2, "ff_mult": 2, "text_dim": 64, "conv_layers": 2,
    },
}  # fmt: skip
"""By `--preset`; the small one has all of the path and speaks in a second on a CPU."""
RANDOM_SEED = 7


def open_engine(
    box: Box,
    kind: str | None,
    weights: str,
    workload: Workload,
    log: Progress,
    *,
    preset: str = "full",
) -> EngineDoor:
    """Load an engine and warm its voices.

    Args:
        kind: f5, espeak or tone; None is the configuration's.
        weights: `box` is what install found; `random` is the full-size network with seeded random
            weights and a made-up voice of the workload's length, which needs no download.
        preset: size of a random network, a key of MODELS.

    Raises:
        OpsError: it cannot be loaded.
    """
    if kind in (None, "f5"):
        go_where_the_engine_is(box)
    settings = _with_engine(box.settings, kind)
    host = box.host.read_only()
    if weights == "random":
        manifest = Manifest(
            source=f"{locate(host, settings).path}/src",
            model=MODELS[preset],
            random_seed=RANDOM_SEED,
            nfe=settings.f5.nfe or DEFAULT_NFE,
            cfg_strength=settings.f5.cfg_strength,
        )
    else:
        manifest = read_manifest(host) or Manifest()
    engine = make_engine(settings, manifest, host)
    log(f"loading {engine.name}")
    engine.load(log)
    if weights == "random" and engine.needs_reference:
        made = [made_voice(number, workload.reference_s) for number in range(3)]
        voices = Voices(made, made[0].id)
    else:
        voices = load_voices(settings, manifest, engine, host)
    for voice in voices:
        engine.warm(voice, log)
    own = manifest if weights == "random" else None
    return _door(engine, voices, own, workload.reference_s if own is not None else None)


def made_voice(number: int, seconds: float) -> Voice:
    """A voice of noise shaped like speech, with a transcript of 15 bytes a second: what it makes is
    no speech, and takes exactly the time that speech takes."""
    rng = np.random.default_rng(number)
    frames = round(seconds * SAMPLE_RATE)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4.0 * np.arange(frames) / SAMPLE_RATE + number)
    samples = (0.1 * syllables * rng.standard_normal(frames)).astype(np.float32)
    text = passage(round(seconds * BYTES_PER_SECOND), start=3 * number)
    return Voice(f"made-{number}", "en", Reference(samples, SAMPLE_RATE, text))


def _with_engine(settings: Settings, kind: str | None) -> Settings:
    if kind is None:
        return settings
    return settings.model_copy(
        update={"engine": settings.engine.model_copy(update={"kind": kind}), "default_voice": None}
    )


def _door(
    engine: Engine, voices: Voices, loaded: Manifest | None, reference_s: float | None
) -> EngineDoor:
    ids = [voices.default.id, *(v for v in voices.ids if v != voices.default.id)]

    def speak(text: str, voice: str, seed: int, nfe: int | None) -> Iterator[Samples]:
        request = SynthesisRequest(text, voices.get(voice), 1.0, nfe, seed)
        return engine.stream(request, lambda _: None, lambda: False)

    def peak() -> int | None:
        memory = engine.memory()
        return memory.peak if memory is not None else None

    return EngineDoor(
        engine.name,
        engine.device,
        ids,
        SAMPLE_RATE,
        speak,
        peak,
        loaded=loaded,
        reference_s=reference_s,
    )
