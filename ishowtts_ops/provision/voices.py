"""The daemon's manifest: which sources, weights and voices it uses, every path checked.

Voices come from the settings and from iShowTTS's configuration; a voice of the settings wins over
one of the same id. Where there is none, the example recording that comes with F5-TTS's sources is
the voice `default`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ishowtts_ops.config import DEFAULT_NFE, MANIFEST_PATH, Manifest, Settings, VoiceEntry
from ishowtts_ops.errors import ConfigError, OpsError, Problem
from ishowtts_ops.host import Host
from ishowtts_ops.provision import patch_last_good, weights
from ishowtts_ops.provision.f5_source import SourceState, locate
from ishowtts_ops.provision.ishowtts import IShowTTSConfig, read_ishowtts
from ishowtts_ops.steps import Change, Ledger, Recorder, file_diff

MIN_REFERENCE_S = 1.0
MAX_REFERENCE_S = 30.0
"""F5-TTS itself cuts a reference to 12 s; far longer ones are recordings given by mistake."""

RANDOM_ARCH = {
    "dim": 128,
    "depth": 2,
    "heads": 2,
    "ff_mult": 2,
    "text_dim": 64,
    "conv_layers": 2,
}
"""The small network of `f5.weights: random`: the whole real path at a thousandth of the work."""

RANDOM_SEED = 7

_EXAMPLE_AUDIO = "f5_tts/infer/examples/basic/basic_ref_en.wav"
_EXAMPLE_TEXT = "Some call me nature, others call me mother nature."
"""The example of F5-TTS's own package and its transcript, as its basic.toml has it."""


def manifest(host: Host, settings: Settings) -> Manifest:
    """What the daemon is to be told. Pure: reads, never writes.

    Raises:
        ConfigError: every voice that cannot be used, each with its reason.
        OpsError: iShowTTS's configuration cannot be read, or as `weights.resolve`.
    """
    theirs = read_ishowtts(host, settings)
    if theirs is not None and not theirs.readable:
        # With no voice of iShowTTS's and no setting, the daemon would be another one.
        raise OpsError(
            theirs.problems[0], "Correct the file: iShowTTS cannot start with it either."
        )
    found = weights.resolve(host, settings) if settings.engine.kind == "f5" else None
    place = locate(host, settings).path if settings.engine.kind == "f5" else None
    checkout = f"{place}/src" if place else None
    source = f"{patch_last_good.stand_in(host, place) or place}/src" if place else None
    voices = {voice.id: voice for voice in (theirs.voices if theirs else ())}
    voices.update({voice.id: voice for voice in settings.voices})
    if not voices and checkout is not None:
        example = f"{checkout}/{_EXAMPLE_AUDIO}"
        voices["default"] = VoiceEntry(
            id="default", audio=example, text=_EXAMPLE_TEXT, language="en"
        )
    default = settings.default_voice or (theirs.default_voice if theirs else None)
    problems = _problems(host, voices, pending=checkout)
    if default is None and voices:
        default = next(iter(voices))
    elif default is not None and voices and default not in voices:
        problems.append(Problem("default_voice", f"there is no voice {default!r}"))
    if problems:
        raise ConfigError("The configuration of voices", problems)
    random = settings.f5.weights == "random"
    named = settings.f5.model or (theirs.model if theirs else None) or weights.DEFAULT_MODEL
    return Manifest(
        source=source,
        model=dict(RANDOM_ARCH) if random else named,
        ckpt_file=found.ckpt_file if found else None,
        vocab_file=settings.f5.vocab_file or (theirs.vocab_file if theirs else None),
        vocoder_path=found.vocoder_path if found else None,
        random_seed=RANDOM_SEED if random else None,
        nfe=settings.f5.nfe or (theirs.default_nfe_step if theirs else None) or DEFAULT_NFE,
        cfg_strength=settings.f5.cfg_strength,
        device=_device(settings, theirs),
        voices=tuple(voices.values()),
        default_voice=default,
    )


def _device(settings: Settings, theirs: IShowTTSConfig | None) -> str:
    """iShowTTS's plain "cuda" is what `auto` finds by itself, and fails where there is no GPU."""
    told = theirs.device if theirs else None
    if settings.f5.device == "auto" and told and re.fullmatch(r"cpu|cuda:\d+", told):
        return told
    return settings.f5.device


def _problems(host: Host, voices: dict[str, VoiceEntry], pending: str | None) -> list[Problem]:
    problems = []
    for voice in voices.values():
        if pending and voice.audio.startswith(pending + "/") and not host.exists(pending):
            continue  # comes with sources that are yet to be fetched
        what = _audio_problem(host, voice.audio)
        if what:
            problems.append(Problem(f"voices.{voice.id}.audio", what))
    return problems


def _audio_problem(host: Host, box_path: str) -> str:
    import soundfile  # with numpy a tenth of a second, which only those who ask shall pay

    if not host.is_file(box_path):
        return f"{box_path} is not on the box"
    try:
        info = soundfile.info(str(host.path(box_path)))
    except (soundfile.SoundFileError, OSError):
        return f"{box_path} is no recording that can be read (wav, flac, ogg and mp3 can)"
    if info.duration < MIN_REFERENCE_S:
        return f"{box_path} is {info.duration:.1f} s long; 3 to 12 s of clean speech work well"
    if info.duration > MAX_REFERENCE_S:
        return f"{box_path} is {info.duration:.0f} s long; 3 to 12 s of clean speech work well"
    return ""


def render(wanted: Manifest) -> str:
    """The manifest as the text of its file."""
    return json.dumps(wanted.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def _not_taken_over(host: Host, settings: Settings) -> list[str]:
    """Problems of iShowTTS's configuration that are not gone once the sources are there."""
    theirs = read_ishowtts(host, settings)
    place = locate(host, settings)
    pending = place.path if place.state is not SourceState.PRESENT else None
    problems = theirs.problems if theirs else ()
    return [text for text in problems if pending is None or pending not in text]


def _unused(problems: Sequence[str]) -> str:
    """For the plan: what of iShowTTS's configuration is not taken over."""
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"; not used: {problems[0].rstrip('.')}{more}" if problems else ""


@dataclass(frozen=True)
class VoicesStep:
    """The manifest on the box is what settings, sources and voices say."""

    settings: Settings
    ledger: Ledger
    name: str = "voices"
    title: str = "voices and the engine's manifest"

    def diff(self, host: Host) -> Change | None:
        wanted = manifest(host, self.settings)
        text = render(wanted)
        preview = file_diff(host, MANIFEST_PATH, text)
        if not preview:
            return None
        unused = _not_taken_over(host, self.settings)
        preview += [f"# not used: {problem}" for problem in unused]
        names = ", ".join(voice.id for voice in wanted.voices) or "the engine's own"
        copied = (wanted.source or "").startswith(patch_last_good.LAST_GOOD)
        # The checkout was moved to a commit that the series does not fit.
        where = ", F5-TTS from its last good copy" if copied else ""
        return Change(
            self.name,
            f"write the engine's manifest (voices: {names}{where})" + _unused(unused),
            tuple(preview),
            lambda _: Recorder(host, self.ledger).write(MANIFEST_PATH, text),
        )
