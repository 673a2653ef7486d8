"""SIGHUP: the configuration and the voices are read again, and taken over whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ishowtts_ops.config import Manifest, Settings
from ishowtts_ops.errors import OpsError

Source = Callable[[], tuple[Settings, Manifest]]
"""Reads the configuration and the manifest; raises OpsError where they are off."""

WHILE_RUNNING = frozenset(
    {
        "daemon.queue_limit",
        "daemon.queue_seconds",
        "daemon.deadline_ms",
        "daemon.max_text_chars",
        "daemon.max_audio_seconds",
        "daemon.fallback",
        "daemon.normalize",
        "daemon.batch",
        "daemon.api_keys",
        "daemon.api_keys_for",
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
