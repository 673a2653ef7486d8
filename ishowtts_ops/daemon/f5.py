"""The F5-TTS engine: the patched sources on the box, through their `f5_tts.fast` package.

The only module of the package that imports torch or f5_tts, and it does so when it loads, so that
the daemon's HTTP side answers meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ishowtts_ops.config import Manifest
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
    Tuning,
    Voice,
)
from ishowtts_ops.daemon.f5_files import (
    ENTRY,
    MEND,
    file_of,
    source_digest,
    source_folder,
    weights_cache,
)
from ishowtts_ops.daemon.f5_voices import F5Voices, speech_seconds
from ishowtts_ops.daemon.failures import BadInput
from ishowtts_ops.daemon.pauses import shorten_pauses
from ishowtts_ops.daemon.text import predict_spoken_seconds
from ishowtts_ops.host import Host

OUT_OF_MEMORY = (
    "out of memory",
    "NvMapMemAlloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "can't allocate memory",
    "could not create a primitive",
    "bad_alloc",
)
"""On a Jetson an allocation also fails below torch, in nvmap or in cuBLAS. The last three are what
the CPU's allocator, oneDNN and C++ say."""
DEVICE_LOST = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "cuFFT error", "CUFFT_")
ROOM_FOR_BATCHES = 4_000_000_000
"""Bytes. Graphs of batches hold 2.3 GB on an H200 (docs/measurements), and an Orin's memory is the
whole box's."""
MOST_PADDING = 1.1
"""All parts of a batch cost as much as its longest: what is much shorter gains nothing there."""


class F5Engine(Engine):
    """See the module. What it needs to know is in the manifest that install wrote."""

    name = "f5"
    builtin: tuple[Voice, ...] = ()
    needs_reference = True
    honours = frozenset({"nfe", *(field.name for field in dataclasses.fields(Tuning))})

    def __init__(self, manifest: Manifest, host: Host, prepared: Path | None = None) -> None:
        """Args:
            prepared: a folder in which prepared voices are kept; None keeps none.

        Raises:
            StartRefused: the manifest names sources or weights that are not there.
        """
        self._manifest = manifest
        self._prepared = prepared
        self.device = manifest.device
        self._folder = source_folder(manifest, host)
        self._files = {
            key: file_of(manifest, key, host) for key in ("ckpt_file", "vocab_file", "vocoder_path")
        }
        self._cache = weights_cache(host)
        self.source: dict[str, str | int | float | None] = {
            "kind": "f5-tts",
            "path": manifest.source,
            "sha256": source_digest(self._folder / "f5_tts"),
            "weights": "random" if manifest.random_seed is not None else manifest.ckpt_file,
        }
        self._synthesizer: Any = None
        self._settings: Any = None
        self._cancelled: type[BaseException] = Cancelled
        self._voices: Any = None
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
        with self._failures():
            try:
                self._synthesizer = self._load(fast, progress)
            except ValueError as error:
                raise StartRefused(f"The F5 engine refuses to load: {error}.", MEND) from None
        self.device = str(self._synthesizer.engine.weights.device)
        if self._synthesizer.sample_rate != SAMPLE_RATE:
            raise StartRefused(
                f"The model speaks at {self._synthesizer.sample_rate} Hz, not at {SAMPLE_RATE} Hz.",
                "Choose another f5.model.",
            )
        self._voices = self._make_voices(fast.Voice)
        with self._failures():
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

    def _make_voices(self, kind: Any) -> F5Voices:
        weights = self._synthesizer.engine.weights

        def to_device(array: Samples) -> Any:
            return self._torch.from_numpy(array).to(weights.device, weights.dtype)

        sources = str(self.source["sha256"])
        usual = self._settings.target_rms
        return F5Voices(self._synthesizer, kind, to_device, usual, self._prepared, sources)

    def warm(self, voice: Voice, progress: Progress) -> None:
        progress(f"voice {voice.id}")
        with self._failures():
            self._voices.prepare(voice)
        progress(f"voice {voice.id}")

    def keep(self, voices: Sequence[Voice]) -> None:
        self._voices.keep(voices)

    def stream(
        self, request: SynthesisRequest, progress: Progress, cancelled: Cancel
    ) -> Iterator[Samples]:
        # All of it: the noise is drawn, and the device found lost, before the first piece.
        with self._failures():
            try:
                pieces = self._synthesizer.stream(
                    request.text,
                    self._voices.of(request),
                    self._settings_of(request),
                    cancelled=cancelled,
                    progress=lambda: progress("denoising"),
                )
            except ValueError as error:
                why = f"The F5 engine cannot speak this: {error}."
                raise BadInput(why, param="input") from None
            if request.tuning.remove_silence:
                pieces = shorten_pauses(pieces)
            for samples in pieces:
                yield np.asarray(samples, dtype=np.float32)

    def alone(self) -> str | None:
        if not self.device.startswith("cuda"):
            return f"one request keeps the {self.device.upper()} busy"
        free, _ = self._torch.cuda.mem_get_info(self.device)
        if free < ROOM_FOR_BATCHES:
            return f"{free / 1e9:.1f} GB of the device are free; batches want more than they gain"
        return None

    def fingerprint(self) -> str:
        torch = self._torch
        gpu = self.device
        if gpu.startswith("cuda"):
            gpu = torch.cuda.get_device_name(gpu)
        return f"{gpu}, torch {torch.__version__}, sources {self.source['sha256']}"

    def together(self, request: SynthesisRequest, other: SynthesisRequest) -> bool:
        lengths = sorted(self._frames(each) for each in (request, other))
        one, two = ((each.nfe, each.speed, each.tuning) for each in (request, other))
        return (
            one == two
            and lengths[1] <= MOST_PADDING * lengths[0]
            and self._short(request)
            and self._short(other)
        )

    def _short(self, request: SynthesisRequest) -> bool:
        """Spoken in one chunk, alone as well as in a batch: else the two would not sound alike."""
        voice = self._voices.of(request)
        settings = self._settings_of(request)
        return len(self._synthesizer.chunks(request.text, voice, settings)) == 1

    def _frames(self, request: SynthesisRequest) -> float:
        """About how long it is for the network, reference included."""
        voice = self._voices.of(request)
        seconds = self._synthesizer.predict_seconds(request.text, voice, request.speed)
        return float(voice.frames + seconds * voice.frames / voice.seconds)

    def _settings_of(self, request: SynthesisRequest) -> Any:
        tuning = request.tuning
        asked = {
            "cfg_strength": tuning.cfg_strength,
            "sway": tuning.sway_sampling_coef,
            "target_rms": tuning.target_rms,
            "cross_fade_s": tuning.cross_fade_duration,
            "fix_duration_s": tuning.fix_duration,
        }
        ours = {"cfg_strength": self._manifest.cfg_strength}
        return self._settings(
            nfe=request.nfe or self._manifest.nfe,
            speed=request.speed,
            seed=request.seed,
            **ours | {name: value for name, value in asked.items() if value is not None},
        )

    def speak_together(
        self, requests: Sequence[SynthesisRequest], progress: Progress, cancelled: Cancel
    ) -> list[Samples]:
        seeds = [secrets.randbits(62) if r.seed is None else r.seed for r in requests]
        with self._failures():
            made = self._synthesizer.batch(
                [(request.text, self._voices.of(request)) for request in requests],
                self._settings_of(requests[0]),
                seeds=seeds,
                cancelled=cancelled,
                progress=lambda: progress("denoising"),
            )
        waves = [np.asarray(samples, dtype=np.float32) for samples in made]
        if requests[0].tuning.remove_silence:
            waves = [np.concatenate([wave[:0], *shorten_pauses([wave])]) for wave in waves]
        return waves

    def warm_rest(self, progress: Progress) -> None:
        with self._failures():
            self._synthesizer.warm(full=True, progress=progress)

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

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Errors of the series and of torch become those of `Engine`."""
        try:
            yield
        except self._cancelled:
            raise Cancelled from None
        except MemoryError as error:
            raise OutOfMemory("There is no memory left.") from error
        except RuntimeError as error:
            raise self._device_error(error) from error

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

    def predict_seconds(
        self, text: str, voice: Voice, speed: float, fixed: float | None = None
    ) -> float:
        # From any thread, so the voice may be forgotten meanwhile.
        prepared = self._voices.find(voice.id) if self._voices else None
        if prepared is None:
            return predict_spoken_seconds(text) / speed
        if fixed is not None:
            return speech_seconds(fixed, prepared.seconds)
        try:
            return float(self._synthesizer.predict_seconds(text, prepared, speed))
        except ValueError as error:
            raise BadInput(f"The F5 engine cannot speak this: {error}.", param="input") from None

    def close(self) -> None:
        self._voices = None
        self._synthesizer = None
