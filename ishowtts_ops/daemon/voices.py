"""The voices of this box for its engine: the recordings that install wrote down, what the engine
has built in, and those that were given to the daemon before."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import soundfile

from ishowtts_ops.config import Manifest, Settings, VoiceEntry
from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import Engine, StartRefused, Voice
from ishowtts_ops.daemon.voice_store import Aside, VoiceStore, keyed
from ishowtts_ops.daemon.voice_table import Base
from ishowtts_ops.daemon.voice_table import Voices as Voices
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host

log = logging.getLogger(__name__)

SHORTEST_REFERENCE_S = 0.5
STATE_DIR = "/var/lib/ishowtts-tts"
MEND = "Correct `voices` and `default_voice` in the configuration, then run `ishowtts-ops install`."


def load_voices(
    settings: Settings, manifest: Manifest, engine: Engine, host: Host, *, strict: bool = True
) -> Voices:
    """The voices of this box for this engine.

    Args:
        strict: one recording that cannot be used refuses them all; else it is put aside.

    Raises:
        StartRefused: there is no voice, or the default is none of them, or see `strict`; all
            problems at once.
    """
    folder = state_folder(settings, host)
    if folder is None:
        log.info(journal.line("no voices can be added: no writable folder"))
    store = VoiceStore(folder)
    added = store.load()
    ids, lost = [voice.id for voice in added], [aside.id for aside in store.asides]
    base = read_base(settings, manifest, engine, host, ids, lost, strict=strict)
    return Voices(base.voices, base.default, store, added, base.asides)


def read_base(
    settings: Settings,
    manifest: Manifest,
    engine: Engine,
    host: Host,
    added: list[str],
    lost: list[str],
    *,
    strict: bool = True,
) -> Base:
    """The voices that are always there, beside those that were `added`.

    Args:
        lost: added ones that were put aside: they may be the default one.

    Raises:
        StartRefused: as `load_voices`.
    """
    problems: list[str] = []
    asides: list[Aside] = []
    voices: list[Voice] = []
    for entry in manifest.voices or settings.voices:
        try:
            voices.append(_voice(entry, host) if engine.needs_reference else _name_only(entry))
        except OpsError as error:
            asides.append(Aside(entry.id, error.message))
    taken = {voice.id for voice in voices}
    voices += [voice for voice in engine.builtin if voice.id not in taken]
    known = [*(voice.id for voice in voices), *added]
    if asides and (strict or not known):
        problems += [aside.why for aside in asides]
    elif not known:
        problems.append(f"The engine `{engine.name}` speaks by recorded voices, and there is none.")
    wanted = settings.default_voice or manifest.default_voice
    missing = [*known, *lost, *(aside.id for aside in asides)]
    if wanted is not None and wanted not in missing and not problems:
        names = ", ".join(dict.fromkeys(known))
        problems.append(f"default_voice is {wanted!r}, which is none of the voices: {names}.")
    if problems:
        raise StartRefused(" ".join(problems), MEND)
    for aside in asides:
        log.error(journal.line("a voice is put aside", voice=aside.id, why=aside.why))
    return Base(tuple(voices), wanted or known[0], tuple(asides))


def state_folder(settings: Settings, host: Host) -> Path | None:
    """Where added voices are kept: `daemon.state_dir` of the configuration, else what systemd made
    for us (StateDirectory=), else its usual place, which is made on a box in a folder only.
    None where it takes no writes."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if settings.daemon.state_dir is not None:
        folder = host.path(settings.daemon.state_dir)
    else:
        folder = Path(given) if given else host.path(STATE_DIR)
    if not folder.is_dir() and (host.root != Path("/") or settings.daemon.state_dir is not None):
        try:
            folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            log.warning(journal.line("cannot make a folder for voices", why=error.strerror))
    if folder.is_dir() and os.access(folder, os.W_OK):
        return folder / "voices"
    return None


def _name_only(entry: VoiceEntry) -> Voice:
    return Voice(entry.id, entry.language)


def _voice(entry: VoiceEntry, host: Host) -> Voice:
    where = f"The recording of voice {entry.id!r}, {entry.audio},"
    try:
        samples, rate = soundfile.read(host.path(entry.audio), dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise OpsError(f"{where} cannot be read: {error}.") from None
    mono = np.ascontiguousarray(samples.mean(axis=1), dtype=np.float32)
    if len(mono) < SHORTEST_REFERENCE_S * rate:
        raise OpsError(f"{where} is {len(mono) / rate:.2f} s long; it must be at least 0.5 s.")
    if not np.isfinite(mono).all() or not np.abs(mono).max() > 1e-3:
        raise OpsError(f"{where} is silent or broken.")
    return Voice(entry.id, entry.language, keyed(mono, int(rate), entry.text))
