"""SIGHUP: the configuration and the voices are read again, and taken over whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ishowtts_ops.config import Manifest, Settings
from ishowtts_ops.daemon.auth import Gate
from ishowtts_ops.daemon.boot import audition
from ishowtts_ops.daemon.by_content import content_voice
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.voice_table import Base
from ishowtts_ops.daemon.voices import read_base
from ishowtts_ops.daemon.worker import Worker
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host

Source = Callable[[], tuple[Settings, Manifest]]
"""Reads the configuration and the manifest; raises OpsError where they are off."""

WHILE_RUNNING = frozenset(
    {
        "daemon.queue_limit",
        "daemon.queue_seconds",
        "daemon.deadline_ms",
        "daemon.max_text_chars",
        "daemon.max_audio_seconds",
        "daemon.max_websockets",
        "daemon.max_websockets_per_client",
        "daemon.fallback",
        "daemon.normalize",
        "daemon.batch",
        "daemon.api_keys",
        "daemon.api_keys_for",
        "daemon.api_key_file",
        "daemon.requests_per_minute",
        "daemon.drain_seconds",
        "voices",
        "default_voice",
    }
)
"""Settings that are taken over. Sections that are other parts' business may change as they like."""

OF_THE_DAEMON = ("daemon", "engine", "f5", "voices", "default_voice")
MANIFEST_WHILE_RUNNING = frozenset({"voices", "default_voice"})


class ReloadRefused(OpsError):
    """Nothing was changed; says all reasons."""


class Reloader:
    """Takes over what changed.

    Args:
        source: reads settings and manifest; None where nobody knows where they are.
        workers: all of them.
        settle: decides anew how many requests are spoken at once; on the engine's thread.
    """

    def __init__(
        self,
        source: Source | None,
        settings: Settings,
        manifest: Manifest,
        host: Host,
        service: Service,
        workers: Sequence[Worker],
        gate: Gate,
        settle: Callable[[], None],
    ) -> None:
        self._source = source
        self._settings = settings
        self._manifest = manifest
        self._host = host
        self._service = service
        self._workers = tuple(workers)
        self._gate = gate
        self._settle = settle
        self._turn = asyncio.Lock()

    async def take_over(self) -> None:
        """All of it or nothing, one after another: the last SIGHUP's word is the last.

        Raises:
            OpsError: nothing was changed.
        """
        async with self._turn:
            await self._take_over()

    async def _take_over(self) -> None:
        service, primary = self._service, self._service.primary
        if self._source is None:
            raise ReloadRefused("This daemon was not told where its configuration is.")
        if not primary.condition.snapshot().ready:
            raise ReloadRefused("The daemon is not ready.", "Send SIGHUP again when it is.")
        settings, manifest = await asyncio.to_thread(self._source)
        refuse_unchangeable(self._settings, settings, self._manifest, manifest)
        base = await asyncio.to_thread(self._base, settings, manifest)
        await asyncio.wrap_future(primary.errand(lambda: self._hear(base)))
        # Voices may come and go all the while: the table stays the same one, and nothing of it is
        # lost. It is also the last that can refuse.
        service.voices.rebase(base)
        before, self._settings, self._manifest = self._settings, settings, manifest
        for worker in self._workers:
            worker.queue.limit = settings.daemon.queue_limit
            worker.queue.seconds = settings.daemon.queue_seconds
        self._gate.configure(settings.daemon)
        service.take_over(settings, manifest, service.voices)
        voices = service.voices
        primary.errand(lambda: primary.engine.keep(voices.contents))
        if settings.daemon.batch != before.daemon.batch:
            primary.errand(self._settle)

    def _base(self, settings: Settings, manifest: Manifest) -> Base:
        voices = self._service.voices
        added = [voice.id for voice in voices if voices.added(voice.id) is voice]
        lost = [aside.id for aside in voices.store.asides]
        engine = self._service.primary.engine
        return read_base(settings, manifest, engine, self._host, added, lost)

    def _hear(self, base: Base) -> None:
        """Let every voice that is new or different speak; on the engine's thread."""
        known = {content_voice(voice) for voice in self._service.voices.contents}
        for voice in base.voices:
            if content_voice(voice) not in known:
                audition(self._service.primary, voice)


def refuse_unchangeable(
    old: Settings, new: Settings, old_manifest: Manifest, new_manifest: Manifest
) -> None:
    """Raises ReloadRefused when something changed that a running daemon cannot take over."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    changed = [
        key
        for section in OF_THE_DAEMON
        for key in _changed(section, before[section], after[section])
        if key not in WHILE_RUNNING
    ]
    first, second = (one.model_dump(mode="json") for one in (old_manifest, new_manifest))
    changed += [
        f"{key} of the engine's manifest"
        for key in first
        if first[key] != second[key] and key not in MANIFEST_WHILE_RUNNING
    ]
    if changed:
        raise ReloadRefused(
            f"{', '.join(changed)} cannot be changed while the daemon runs.",
            "`systemctl restart ishowtts-tts` takes everything over.",
        )


def _changed(name: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(key for key in new if key not in old)]
        return [f"{name}.{key}" for key in keys if old.get(key) != new.get(key)]
    return [name] if old != new else []
