"""Boxes of the scenario tests: a simulated box with an iShowTTS-shaped checkout on it."""

from __future__ import annotations

from tests.unit.conftest import boxes, memory_path, templates

__all__ = ["boxes", "memory_path", "templates"]
