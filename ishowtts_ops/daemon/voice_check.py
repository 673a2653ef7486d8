"""Is this recording a voice? Decoded once, brought into one form, and judged with reasons.

Generated speech copies everything of its reference: its noise, its clipping and its pace. The pace
is that of the transcript over the clip, so a transcript that does not belong to its clip makes all
speech too slow or too fast; 6.7 characters a second instead of 15 is known from boxes in the field.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass, field

import av
import numpy as np
import numpy.typing as npt
import soundfile
import soxr  # type: ignore[import-untyped]

from ishowtts_ops.daemon.engine import SAMPLE_RATE, Samples
from ishowtts_ops.daemon.failures import BadVoice, Json
from ishowtts_ops.daemon.text import predict_spoken_seconds

LONGEST_FILE_S = 120.0
LONGEST_S = 12.0
"""F5-TTS cuts a longer reference here, and its transcript would then be too long for it."""
FULL_SCALE = 0.999
PAUSE_DB = -50.0
EDGE_DB = -42.0
EDGE_KEPT_S = 0.05
NORMAL_RATE = 15.0
"""Characters a second. A character of a syllabic script counts as 15 / 4.5 of them."""
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,mp3,aac,flac,wav,amr,aiff"
"""What FFmpeg may take an upload for. Not its playlists, which name other files to open."""
_FRAME = SAMPLE_RATE // 50


@dataclass(frozen=True)
class Limits:
    """What is still good.

    Attributes:
        shortest, longest: seconds that are not silence.
        quietest: dBFS.
        clipped, silent: parts of the whole.
        slowest, fastest: as NORMAL_RATE.
    """

    shortest: float
    longest: float
    quietest: float
    clipped: float
    silent: float
    slowest: float
    fastest: float


ACCEPTED = Limits(1.0, LONGEST_S, -45.0, 0.01, 0.6, 7.0, 28.0)
"""Beyond them a recording is refused."""
USUAL = Limits(2.5, LONGEST_S, -35.0, 0.001, 0.4, 10.0, 22.0)
"""Beyond them something is said."""


@dataclass(frozen=True)
class Problem:
    """One reason against a recording.

    Attributes:
        code: for programs: broken, too_short, too_long, too_quiet, clipped, mostly_silence,
            transcript_rate.
        param: the field to blame: `audio` or `text`.
    """

    code: str
    param: str
    message: str


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        samples: mono at SAMPLE_RATE, silent edges cut.
        rate: characters a second of the transcript, as NORMAL_RATE.
        level_db: RMS of what is not a pause, in dBFS.
        clipped: part of the samples at full scale.
        silence: part of the time that is a pause.
    """

    samples: Samples = field(repr=False)
    seconds: float
    rate: float
    level_db: float
    clipped: float
    silence: float
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    def figures(self) -> dict[str, float]:
        return {
            "seconds": round(self.seconds, 3),
            "characters_per_second": round(self.rate, 2),
            "level_dbfs": round(self.level_db, 1),
            "clipped_ratio": round(self.clipped, 5),
            "silence_ratio": round(self.silence, 3),
        }


def decode(data: bytes) -> tuple[Samples, int]:
    """Mono samples and their rate, of any audio file that libsndfile or FFmpeg reads.

    Raises:
        BadVoice: it is none, or far too long.
    """
    try:
        return _by_libsndfile(data)
    except (soundfile.SoundFileError, ValueError):
        pass
    try:
        return _by_ffmpeg(data)
    except (av.FFmpegError, ValueError, IndexError):
        raise _refused(
            Problem("broken", "audio", "`audio` is no recording that can be read."),
            "WAV, FLAC, Ogg, MP3, M4A and WebM can.",
        ) from None


def prepare(samples: Samples, rate: int) -> Samples:
    """The form that is kept: SAMPLE_RATE, silence cut from both edges."""
    if rate != SAMPLE_RATE:
        samples = np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), dtype=np.float32)
    loud = np.flatnonzero(_levels(samples) > EDGE_DB)
    if not loud.size:
        return samples
    kept = round(EDGE_KEPT_S * SAMPLE_RATE)
    first = max(0, int(loud[0]) * _FRAME - kept)
    last = (int(loud[-1]) + 1) * _FRAME + kept
    return np.ascontiguousarray(samples[first:last])


def examine(samples: Samples, rate: int, text: str) -> Report:
    """Judge a decoded recording and its transcript. Never raises; see `Report.problems`."""
    finite = bool(np.isfinite(samples).all())
    # Before resampling, which rounds the corners of clipped waves.
    clipped = float(np.mean(np.abs(samples) >= FULL_SCALE)) if finite and samples.size else 0.0
    mono = prepare(samples, rate) if finite and samples.size else np.zeros(0, np.float32)
    levels = _levels(mono)
    speech = levels[levels > PAUSE_DB]
    level = float(10 * np.log10(np.mean(10 ** (speech / 10)))) if speech.size else -120.0
    silence = 1 - speech.size / levels.size if levels.size else 1.0
    seconds = len(mono) / SAMPLE_RATE
    spoken = predict_spoken_seconds(" ".join(text.split())) * NORMAL_RATE
    report = Report(
        mono, seconds, spoken / seconds if seconds else 0.0, level, clipped, silence, (), ()
    )
    if not finite:
        broken = Problem("broken", "audio", "The recording holds values that are no numbers.")
        return _with(report, [broken], [])
    problems = _beyond(report, ACCEPTED)
    # What is hardly heard cannot be judged any further.
    quiet = [problem for problem in problems if problem.code == "too_quiet"]
    return _with(report, quiet or problems, _beyond(report, USUAL))


def check(data: bytes, text: str) -> Report:
    """Decode and judge.

    Raises:
        BadVoice: with every reason at once.
    """
    return judge(*decode(data), text)


def judge(samples: Samples, rate: int, text: str) -> Report:
    """Judge what is decoded already.

    Raises:
        BadVoice: with every reason at once.
    """
    report = examine(samples, rate, text)
    if report.problems:
        raise _refused(*report.problems)
    return report


def _refused(*found: Problem | str) -> BadVoice:
    problems = [problem for problem in found if isinstance(problem, Problem)]
    hints = [hint for hint in found if isinstance(hint, str)]
    reasons: list[Json] = [
        {"code": problem.code, "param": problem.param, "message": problem.message}
        for problem in problems
    ]
    return BadVoice(
        " ".join(problem.message for problem in problems),
        " ".join(hints) or "3 to 12 s of clean speech with exactly its words work well.",
        param=problems[0].param,
        code=problems[0].code,
        details={"reasons": reasons},
    )


def _with(report: Report, problems: list[Problem], warnings: list[Problem]) -> Report:
    return dataclasses.replace(report, problems=tuple(problems), warnings=tuple(warnings))


def _beyond(report: Report, limits: Limits) -> list[Problem]:
    found = []
    heard = f"{report.seconds:.1f} s of the recording is not silence"
    if report.level_db < limits.quietest:
        words = f"The recording is quiet: {report.level_db:.0f} dBFS; -25 is good."
        found.append(Problem("too_quiet", "audio", words))
    if report.seconds < limits.shortest:
        found.append(Problem("too_short", "audio", f"Only {heard}."))
    if report.seconds > limits.longest:
        words = f"{heard}; at most {limits.longest:.0f} s are used."
        found.append(Problem("too_long", "audio", words))
    if report.clipped > limits.clipped:
        words = f"{report.clipped:.2%} of the recording is clipped: it was too loud."
        found.append(Problem("clipped", "audio", words))
    if report.silence > limits.silent:
        words = f"{report.silence:.0%} of the recording is silence."
        found.append(Problem("mostly_silence", "audio", words))
    if not limits.slowest <= report.rate <= limits.fastest:
        found.append(Problem("transcript_rate", "text", _rate_words(report)))
    return found


def _rate_words(report: Report) -> str:
    pace = "more" if report.rate > NORMAL_RATE else "fewer"
    return (
        f"The transcript has {report.rate:.1f} characters for each second of the recording, where "
        f"{NORMAL_RATE:.0f} are normal: it has {pace} words than are spoken."
    )


def _levels(samples: Samples) -> npt.NDArray[np.float64]:
    """RMS of each 20 ms in dBFS; shape (frames,)."""
    count = len(samples) // _FRAME
    rows = samples[: count * _FRAME].reshape(count, _FRAME).astype(np.float64)
    power = np.mean(np.square(rows), axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 1e-12)), dtype=np.float64)


def _by_libsndfile(data: bytes) -> tuple[Samples, int]:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        rate = int(file.samplerate)
        if file.frames > LONGEST_FILE_S * rate:
            # Also what a streamed file says of itself, which FFmpeg reads.
            raise ValueError("too long")
        samples = file.read(dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples.mean(axis=1), dtype=np.float32), rate


def _by_ffmpeg(data: bytes) -> tuple[Samples, int]:
    parts: list[Samples] = []
    frames = 0
    with av.open(io.BytesIO(data), options={"format_whitelist": CONTAINERS}) as file:
        stream = file.streams.audio[0]
        rate = int(stream.rate or SAMPLE_RATE)
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        for frame in file.decode(stream):
            for mono in resampler.resample(frame):
                part = mono.to_ndarray()[0]
                parts.append(part)
                frames += len(part)
            if frames > LONGEST_FILE_S * rate:
                words = f"`audio` is longer than {LONGEST_FILE_S:.0f} s."
                raise _refused(Problem("too_long", "audio", words))
    if not parts:
        raise ValueError("no audio")
    return np.concatenate(parts).astype(np.float32, copy=False), rate
