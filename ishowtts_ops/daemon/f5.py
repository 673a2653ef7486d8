"""The F5-TTS engine: the patched sources on the box, through their `f5_tts.fast` package.

The only module of the package that imports torch or f5_tts, and it does so when it loads, so that
the daemon's HTTP side answers meanwhile.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ishowtts_ops.config import CACHE_DIR, Manifest
from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import (
    SAMPLE_RATE,
    Cancel,
    Cancelled,
    DeviceLost,
    DeviceMemory,
    Engine,
    OutOfMemory,
    Progress,
    Samples,
    StartRefused,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.failures import BadInput
from ishowtts_ops.host import Host

log = logging.getLogger(__name__)

ENTRY = "f5_tts/fast/synthesizer.py"
OUT_OF_MEMORY = ("out of memory", "NvMapMemAlloc", "CUBLAS_STATUS_ALLOC_FAILED")
"""On a Jetson an allocation also fails below torch, in nvmap or in cuBLAS."""
DEVICE_LOST = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "cuFFT error", "CUFFT_")
MEND = "Run `ishowtts-ops install`, which brings the sources and applies the series."


class F5Engine(Engine):
    """See the module. What it needs to know is in the manifest that install wrote."""

    name = "f5"
    builtin: tuple[Voice, ...] = ()
    needs_reference = True

    def __init__(self, manifest: Manifest, host: Host) -> None:
        """Raises:
        StartRefused: the manifest names sources or weights that are not there.
        """
        self._manifest = manifest
        self.device = manifest.device
        self._folder = _source_folder(manifest, host)
        self._files = {
            key: _file(manifest, key, host) for key in ("ckpt_file", "vocab_file", "vocoder_path")
        }
        self._cache = _cache_folder(host)
        self.source: dict[str, str | int | float | None] = {
            "kind": "f5-tts",
            "path": manifest.source,
            "sha256": source_digest(self._folder / "f5_tts"),
            "weights": "random" if manifest.random_seed is not None else manifest.ckpt_file,
        }
        self._synthesizer: Any = None
        self._settings: Any = None
        self._cancelled: type[BaseException] = Cancelled
        self._voices: dict[str, Any] = {}
        self._torch: Any = None

    def load(self, progress: Progress) -> None:
        progress("importing torch and f5_tts")
        if str(self._folder) not in sys.path:
            sys.path.insert(0, str(self._folder))
        try:
            from f5_tts.fast import synthesizer as fast
        except ImportError as error:
            raise StartRefused(
                f"The F5 engine cannot be imported: {error}.",
                "Run `ishowtts-ops doctor`, which looks at the engine's environment and the patch.",
            ) from None
        imported = Path(fast.__file__).resolve()
        if imported != (self._folder / ENTRY).resolve():
            raise StartRefused(
                f"f5_tts was imported from {imported}, not from the patched sources.", MEND
            )
        import torch

        self._torch = torch
        self._settings = fast.SynthesisSettings
        self._cancelled = fast.Cancelled
        try:
            self._synthesizer = self._load(fast, progress)
        except ValueError as error:
            raise StartRefused(f"The F5 engine refuses to load: {error}.", MEND) from None
        except RuntimeError as error:
            raise self._device_error(error) from error
        self.device = str(self._synthesizer.engine.weights.device)
        if self._synthesizer.sample_rate != SAMPLE_RATE:
            raise StartRefused(
                f"The model speaks at {self._synthesizer.sample_rate} Hz, not at {SAMPLE_RATE} Hz.",
                "Choose another f5.model.",
            )
        self._synthesizer.warm(progress=progress)

    def _load(self, fast: Any, progress: Progress) -> Any:
        manifest = self._manifest
        return fast.Synthesizer.load(
            model=manifest.model,
            ckpt_file=self._files["ckpt_file"],
            vocab_file=self._files["vocab_file"],
            vocoder_dir=self._files["vocoder_path"],
            device=manifest.device,
            dtype="auto",
            random_weights_seed=manifest.random_seed,
            cache_dir=self._cache,
            progress=progress,
        )

    def warm(self, voice: Voice, progress: Progress) -> None:
        reference = voice.reference
        assert reference is not None, "needs_reference is set"
        progress(f"voice {voice.id}")
        try:
            prepared = self._synthesizer.voice(
                reference.samples, reference.sample_rate, reference.text
            )
        except ValueError as error:
            raise StartRefused(
                f"Voice {voice.id!r} cannot be used: {error}.", "Correct `voices`, then `install`."
            ) from None
        for odd in prepared.warnings:
            log.warning(journal.line("odd voice", voice=voice.id, why=odd))
        self._voices[voice.id] = prepared
        progress(f"voice {voice.id}")

    def stream(
        self, request: SynthesisRequest, progress: Progress, cancelled: Cancel
    ) -> Iterator[Samples]:
        try:
            settings = self._settings_of(request)
            pieces = self._synthesizer.stream(
                request.text,
                self._voices[request.voice.id],
                settings,
                cancelled=cancelled,
                progress=lambda: progress("denoising"),
            )
        except ValueError as error:
            raise BadInput(f"The F5 engine cannot speak this: {error}.", param="input") from None
        try:
            for samples in pieces:
                yield np.asarray(samples, dtype=np.float32)
        except self._cancelled:
            raise Cancelled from None
        except RuntimeError as error:
            raise self._device_error(error) from error

    def together(self, request: SynthesisRequest, other: SynthesisRequest) -> bool:
        return (
            (request.nfe, request.speed) == (other.nfe, other.speed)
            and self._short(request)
            and self._short(other)
        )

    def _short(self, request: SynthesisRequest) -> bool:
        """Spoken in one chunk, as `Synthesizer.batch` wants it."""
        voice = self._voices[request.voice.id]
        settings = self._settings_of(request)
        return len(self._synthesizer.chunks(request.text, voice, settings, streaming=False)) == 1

    def _settings_of(self, request: SynthesisRequest) -> Any:
        return self._settings(
            nfe=request.nfe or self._manifest.nfe,
            cfg_strength=self._manifest.cfg_strength,
            speed=request.speed,
            seed=request.seed,
        )

    def speak_together(
        self, requests: Sequence[SynthesisRequest], progress: Progress, cancelled: Cancel
    ) -> list[Samples]:
        pairs = [(request.text, self._voices[request.voice.id]) for request in requests]
        seeds = [secrets.randbits(62) if r.seed is None else r.seed for r in requests]
        try:
            made = self._synthesizer.batch(
                pairs,
                self._settings_of(requests[0]),
                seeds=seeds,
                cancelled=cancelled,
                progress=lambda: progress("denoising"),
            )
        except self._cancelled:
            raise Cancelled from None
        except RuntimeError as error:
            raise self._device_error(error) from error
        return [np.asarray(samples, dtype=np.float32) for samples in made]

    def warm_rest(self, progress: Progress) -> None:
        try:
            self._synthesizer.warm(full=True, progress=progress)
        except RuntimeError as error:
            raise self._device_error(error) from error

    def free(self) -> None:
        if self._torch is not None and self._torch.cuda.is_available():
            gc.collect()
            self._torch.cuda.empty_cache()

    def memory(self) -> DeviceMemory | None:
        torch, device = self._torch, self.device
        if torch is None or not device.startswith("cuda"):
            return None
        return DeviceMemory(
            int(torch.cuda.memory_reserved(device)), int(torch.cuda.max_memory_reserved(device))
        )

    def _device_error(self, error: RuntimeError) -> Exception:
        """What an error of torch means for those who come after. Its own types are not the same in
        all its releases; its words are."""
        text = str(error)
        first = text.splitlines()[0] if text else type(error).__name__
        if isinstance(error, self._torch.cuda.OutOfMemoryError) or any(
            words in text for words in OUT_OF_MEMORY
        ):
            return OutOfMemory(first)
        if any(words in text for words in DEVICE_LOST):
            return DeviceLost(first, "The daemon is started again, which makes a new CUDA context.")
        return error

    def predict_seconds(self, text: str, voice: Voice, speed: float) -> float:
        try:
            return float(self._synthesizer.predict_seconds(text, self._voices[voice.id], speed))
        except ValueError as error:
            raise BadInput(f"The F5 engine cannot speak this: {error}.", param="input") from None

    def close(self) -> None:
        self._voices.clear()
        self._synthesizer = None


def source_digest(package: Path) -> str:
    """One SHA-256 over the names and contents of a package's Python files: which sources a running
    daemon has loaded, to be compared with those on the disk."""
    total = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        total.update(f"{file.relative_to(package)}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _source_folder(manifest: Manifest, host: Host) -> Path:
    if manifest.source is None:
        raise StartRefused("The engine manifest names no F5-TTS sources.", MEND)
    folder = host.path(manifest.source)
    if not (folder / "f5_tts").is_dir():
        raise StartRefused(f"There is no f5_tts package in {manifest.source}.", MEND)
    if not (folder / ENTRY).is_file():
        raise StartRefused(f"The series is not applied to {manifest.source}.", MEND)
    return folder


def _file(manifest: Manifest, key: str, host: Host) -> Path | None:
    box_path: str | None = getattr(manifest, key)
    if box_path is None:
        return None
    real = host.path(box_path)
    if not real.exists():
        raise StartRefused(f"{key} is {box_path}, which is not there.", MEND)
    return real


def _cache_folder(host: Host) -> Path | None:
    """Where folded weights are kept: the folder systemd made for us (CacheDirectory=), else the
    toolkit's own; None when neither can be written, which only makes starts slower."""
    given = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    folder = Path(given) if given else host.path(CACHE_DIR)
    if folder.is_dir() and os.access(folder, os.W_OK):
        return folder
    log.warning(journal.line("folded weights are not kept: no writable folder", folder=str(folder)))
    return None
