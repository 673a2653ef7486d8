"""What the daemon asks of anything that turns text into speech.

An engine is driven by exactly one thread (`worker.Worker`), with one exception: `predict_seconds`
is arithmetic and may be called from any thread at any time after `warm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ishowtts_ops.errors import OpsError

SAMPLE_RATE = 24_000
"""Hz of everything the daemon sends: what F5-TTS makes and what OpenAI's `pcm` format means."""

Samples = npt.NDArray[np.float32]
"""Mono audio, shape (frames,), full scale is ±1."""

Progress = Callable[[str], None]
"""Told that work moved on, and what is being done. The watchdog lives on these calls, so an engine
calls it from inside its work, never from a timer. It may raise `Cancelled`."""

Cancel = Callable[[], bool]
"""Asked between units of work: true when nobody wants the result any more."""


class Cancelled(OpsError):
    """Work ended early because it was no longer wanted."""

    def __init__(self) -> None:
        super().__init__("Nobody waits for this speech any more.")


class StartRefused(OpsError):
    """The daemon cannot start and trying again will not help: a setting, a file or a program of the
    box has to change first. 78 is EX_CONFIG of sysexits.h, which the unit lists in
    RestartPreventExitStatus=."""

    exit_code = 78


class OutOfMemory(OpsError):
    """The device has no memory left for this piece of work; smaller ones may still do."""


class DeviceLost(OpsError):
    """The device answers with errors, and will until the process is another one: after a CUDA error
    the context is lost. 75 is EX_TEMPFAIL of sysexits.h: try again."""

    exit_code = 75


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of the device's memory that the engine holds, and has held at most."""

    held: int
    peak: int


@dataclass(frozen=True)
class Reference:
    """A voice's recording and the words spoken in it.

    Attributes:
        sample_rate: Hz of `samples`, as recorded.
    """

    samples: Samples = field(repr=False, compare=False)
    sample_rate: int
    text: str

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class Voice:
    """Who speaks. Built-in voices have no reference.

    Attributes:
        language: a BCP 47 tag such as `en` or `zh`; None when it is not known.
    """

    id: str
    language: str | None = None
    reference: Reference | None = None
    builtin: bool = False


@dataclass(frozen=True)
class Tuning:
    """How one request is spoken, by the names of F5-TTS; None takes the engine's setting. Engines
    obey what they list in `Engine.honours`.

    Attributes:
        target_rms: level that a quiet reference is lifted to.
        cross_fade_duration: seconds over which two chunks of a long text overlap.
        sway_sampling_coef: bends the time grid of the denoising steps; -1 is usual.
        cfg_strength: classifier-free guidance; 0 switches it off.
        fix_duration: seconds of reference and speech together, whatever the text's length.
        remove_silence: shorten pauses of more than a second.
    """

    target_rms: float | None = None
    cross_fade_duration: float | None = None
    sway_sampling_coef: float | None = None
    cfg_strength: float | None = None
    fix_duration: float | None = None
    remove_silence: bool | None = None


@dataclass(frozen=True)
class SynthesisRequest:
    """Text that was checked and a voice that exists.

    Attributes:
        speed: 1 is the voice's own pace, 2 is twice as fast.
        nfe: denoising steps; None takes the engine's setting. Engines without steps ignore it.
        seed: of the noise; None draws one. Engines without noise ignore it.
        tuning: see `Tuning`.
    """

    text: str
    voice: Voice
    speed: float = 1.0
    nfe: int | None = None
    seed: int | None = None
    tuning: Tuning = Tuning()


@dataclass(frozen=True)
class Audio:
    """Finished speech."""

    samples: Samples = field(repr=False)
    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class Timings:
    """One request measured once, in seconds; headers, metrics and the journal all read this.

    Attributes:
        queue: from admission until the engine took it.
        infer: in the engine.
        first_audio: from admission until the first audio left the engine.
        total: from admission until the last audio left the engine.
        audio_seconds: length of the speech.
    """

    queue: float
    infer: float
    first_audio: float
    total: float
    audio_seconds: float

    @property
    def rtf(self) -> float:
        """Real-time factor: engine seconds per second of speech, below 1 is faster than life."""
        return self.infer / self.audio_seconds if self.audio_seconds else 0.0


class Engine(Protocol):
    """Text to speech.

    Attributes:
        name: what callers see (`f5`, `espeak`, `tone`).
        device: where it computes (`cpu`, `cuda:0`); known after `load`.
        builtin: voices it has without any recording.
        needs_reference: true when a voice is no use to it without its recording.
        source: what is loaded, for `/readyz`; JSON values only.
        honours: which of `nfe` and the fields of `Tuning` it obeys; callers are told of the others.
    """

    name: str
    device: str
    builtin: tuple[Voice, ...]
    needs_reference: bool
    source: dict[str, str | int | float | None]
    honours: frozenset[str] = frozenset()

    def load(self, progress: Progress) -> None:
        """Make ready to speak.

        Raises:
            StartRefused: something must be changed on the box first.
        """

    def warm(self, voice: Voice, progress: Progress) -> None:
        """Prepare one voice, so that its first request is as fast as its tenth."""

    def stream(
        self, request: SynthesisRequest, progress: Progress, cancelled: Cancel
    ) -> Iterator[Samples]:
        """Speech in order, in pieces, at SAMPLE_RATE.

        Raises:
            Cancelled: `cancelled()` was true.
            OutOfMemory: a shorter text may still work.
            DeviceLost: nothing will work any more.
        """

    def predict_seconds(
        self, text: str, voice: Voice, speed: float, fixed: float | None = None
    ) -> float:
        """About how many seconds of speech the text will be. Cheap, and safe from any thread.

        Args:
            fixed: the request's `fix_duration`.

        Raises:
            BadInput: the engine cannot speak this.
        """

    def close(self) -> None:
        """Let go of everything."""

    # ---- what not every engine has -----------------------------------------------------------

    def keep(self, voices: Sequence[Voice]) -> None:
        """Forget what was prepared for any voice but these."""
        return

    def free(self) -> None:
        """Give back the memory that can be spared, at the price of speed."""
        return

    def memory(self) -> DeviceMemory | None:
        """What it holds of the device's memory; None where it has none of its own. From any
        thread."""
        return None

    def warm_rest(self, progress: Progress) -> None:
        """Prepare what the first requests did not need (all lengths of text). Called when nothing
        waits; `progress` raises `Cancelled` as soon as something does, and then it is called again
        later."""
        return

    def alone(self) -> str | None:
        """Why speaking several requests in one go cannot gain anything here, in words; None where
        it may, which a measurement decides. Known after `load`."""
        return f"the {self.name} engine speaks one at a time"

    def fingerprint(self) -> str:
        """Everything that such a measurement depends on: device, libraries, sources."""
        return self.name

    def together(self, request: SynthesisRequest, other: SynthesisRequest) -> bool:
        """May both be spoken in one go by `speak_together`?"""
        return False

    def speak_together(
        self, requests: Sequence[SynthesisRequest], progress: Progress, cancelled: Cancel
    ) -> list[Samples]:
        """The whole speech of several requests, each as it would be alone.

        Raises:
            Cancelled, OutOfMemory, DeviceLost: as `stream`.
        """
        raise RuntimeError(f"`together` of {self.name} is never true")
