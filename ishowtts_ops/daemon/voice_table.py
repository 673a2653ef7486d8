"""The voices a daemon offers: those install wrote down, those an engine has built in, and those
that were given to it while it ran. The last win over the others of the same id, and when they are
deleted the others are back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import Voice
from ishowtts_ops.daemon.failures import UnknownVoice, VoiceConflict
from ishowtts_ops.daemon.voice_store import MOST_VOICES, Aside, KeyedReference, VoiceStore

log = logging.getLogger(__name__)

STOCK = frozenset(
    {
        "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx",
        "sage", "shimmer", "verse",
    }
)  # fmt: skip
"""OpenAI's voices, which its clients ask for by default: here they mean the default voice, unless
there is one of that name."""


@dataclass(frozen=True)
class Base:
    """The voices that are always there.

    Attributes:
        default: the id of the default voice.
        asides: those of the configuration that cannot be used, and why.
    """

    voices: tuple[Voice, ...]
    default: str
    asides: tuple[Aside, ...] = field(default=())


class Voices:
    """Voices by id, in order; the default one is always among them. Safe from every thread: each
    change makes a new table, and whoever walks the old one ends with it.

    Args:
        voices: those that are always there.
        default: the id of the default voice. Where it is one that was put aside, the first voice
            takes its place.
        store: keeps those that are added; None keeps none.
        added: what was in it.
        asides: those that should be there and cannot be used.

    Raises:
        UnknownVoice: there is no such voice at all.
    """

    def __init__(
        self,
        voices: Iterable[Voice],
        default: str,
        store: VoiceStore | None = None,
        added: Iterable[Voice] = (),
        asides: Iterable[Aside] = (),
    ) -> None:
        self.store = store or VoiceStore(None)
        self._lock = threading.Lock()
        self._silent: dict[str, str] = {}
        known = {voice.id: voice for voice in added}
        self._take(Base(tuple(voices), default, tuple(asides)), known)

    def __iter__(self) -> Iterator[Voice]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    @property
    def ids(self) -> list[str]:
        return list(self._all)

    @property
    def default(self) -> Voice:
        table = self._all
        return table.get(self._default) or next(iter(table.values()))

    @property
    def contents(self) -> list[Voice]:
        """All of them, and those behind others of the same id."""
        return [*self._base.values(), *self._added.values()]

    @property
    def asides(self) -> list[Aside]:
        """What should be on offer and is not, and why."""
        table = self._all
        silent = [Aside(voice_id, why) for voice_id, why in self._silent.items()]
        found = {one.id: one for one in (*self._asides, *self.store.asides, *silent)}
        return [one for one in found.values() if one.id not in table or one in silent]

    def get(self, voice_id: str | None) -> Voice:
        """The voice of that name, the default one for None.

        Raises:
            UnknownVoice: with the voices there are.
        """
        if voice_id is None:
            return self.default
        try:
            return self._all[voice_id]
        except KeyError:
            raise UnknownVoice(voice_id, self.ids) from None

    def speaker(self, voice_id: str | None) -> Voice:
        """As `get`, for those who want to hear one: OpenAI's own names are known too."""
        return self.get(None if self.is_stock(voice_id) else voice_id)

    def is_stock(self, voice_id: str | None) -> bool:
        """One of OpenAI's names, which is none of ours."""
        return voice_id in STOCK and voice_id not in self._all

    def baseline(self, voice_id: str) -> Voice | None:
        """The voice that is always there under this id."""
        return self._base.get(voice_id)

    def added(self, voice_id: str) -> Voice | None:
        """The voice that was added under this id."""
        return self._added.get(voice_id)

    def admit(self, voice_id: str, *, new: bool = False) -> None:
        """Raises VoiceConflict where one more voice is one too many, or a new one is none."""
        if new and voice_id in self._all:
            raise VoiceConflict(
                f"There is a voice {voice_id!r} already.",
                f"PUT /v1/voices/{voice_id} replaces it, as `voices add --replace` does.",
                param="id",
                code="voice_exists",
            )
        if voice_id not in self._all and len(self._all) >= MOST_VOICES:
            raise VoiceConflict(
                f"There are {MOST_VOICES} voices, which is the limit.",
                "Delete one first.",
                code="too_many_voices",
            )

    def put(
        self,
        voice_id: str,
        language: str | None,
        reference: KeyedReference,
        *,
        new: bool = False,
    ) -> Voice:
        """Keep a voice and offer it from now on, in place of the one of the same id.

        Raises:
            VoiceConflict: as `admit`.
            StoreFailed: nothing was changed.
        """
        with self._lock:
            self.admit(voice_id, new=new)
            voice = self.store.put(voice_id, language, reference)
            self._silent.pop(voice_id, None)
            self._offer(self._base, {**self._added, voice_id: voice})
        return voice

    def remove(self, voice_id: str) -> Voice | None:
        """Take an added voice back; returns the one that is there instead.

        Raises:
            UnknownVoice: there is none of this id.
            VoiceConflict: it belongs to the box's configuration, or is the default one.
            StoreFailed: nothing was changed.
        """
        with self._lock:
            aside = voice_id in {one.id for one in self.store.asides}
            if not aside:
                self._refuse_removal(voice_id)
            self.store.remove(voice_id)
            self._offer(self._base, {key: v for key, v in self._added.items() if key != voice_id})
            return self._base.get(voice_id)

    def _refuse_removal(self, voice_id: str) -> None:
        voice = self.get(voice_id)
        if voice.builtin and voice_id not in self._added:
            raise VoiceConflict(
                f"The voice {voice_id!r} is built into the engine.",
                "Only added voices can be deleted.",
                code="voice_read_only",
            )
        if voice_id not in self._added:
            raise VoiceConflict(
                f"The voice {voice_id!r} belongs to the box's configuration.",
                "Take it out of `voices` there; only added voices can be deleted here.",
                code="voice_read_only",
            )
        if voice_id == self._default and voice_id not in self._base:
            raise VoiceConflict(
                f"The voice {voice_id!r} is the default one.",
                "Choose another default_voice first.",
                code="voice_is_default",
            )

    def rebase(self, base: Base) -> None:
        """Other voices that are always there, from now on; those that were added stay.

        Raises:
            UnknownVoice: the default one is none of them; nothing was changed.
        """
        with self._lock:
            self._take(base, self._added)
            self._silent = {key: why for key, why in self._silent.items() if key not in self._all}

    def put_aside(self, voice: Voice, why: str) -> bool:
        """Offer a voice no longer, since the engine cannot speak with it; one of the box's that it
        stood for takes its place.

        Returns:
            False when it is the last one, which stays.
        """
        with self._lock:
            base = {key: v for key, v in self._base.items() if v is not voice}
            added = {key: v for key, v in self._added.items() if v is not voice}
            if not base and not added:
                return False
            self._silent[voice.id] = why
            self._offer(base, added)
        log.error(journal.line("a voice is put aside", voice=voice.id, why=why))
        return True

    def _take(self, base: Base, added: Mapping[str, Voice]) -> None:
        table = {voice.id: voice for voice in base.voices}
        lost = {one.id for one in (*base.asides, *self.store.asides)}
        known = {**table, **added}
        if not known or (base.default not in known and base.default not in lost):
            raise UnknownVoice(base.default, list(known))
        self._default = base.default
        self._asides = base.asides
        self._offer(table, added)
        if base.default in lost and base.default not in known:
            log.error(
                journal.line(
                    "the default voice is put aside",
                    voice=base.default,
                    speaks_instead=self.default.id,
                )
            )

    def _offer(self, base: Mapping[str, Voice], added: Mapping[str, Voice]) -> None:
        self._base, self._added = dict(base), dict(added)
        self._all = {**base, **added}
