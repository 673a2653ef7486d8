"""F5_TTS_QUIET=1: nothing about progress on stdout and stderr.

Upstream prints every text it is given, and draws a bar for every request: in a service that is
another's words in the journal. What is wrong still comes out as a warning or an exception. The
variable is read whenever there is something to say, not at import.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable
from typing import Any

import tqdm as real_tqdm

VARIABLE = "F5_TTS_QUIET"
_ON = frozenset({"1", "on", "true", "yes"})


def quiet() -> bool:
    return os.environ.get(VARIABLE, "").strip().lower() in _ON


def print(*words: Any, **options: Any) -> None:  # noqa: A001 - it takes the place of the builtin
    """As the builtin; silent where that is asked for."""
    if not quiet():
        builtins.print(*words, **options)


class _Tqdm:
    """Stands where upstream has the module tqdm."""

    def tqdm(self, items: Iterable[Any], *args: Any, **options: Any) -> Iterable[Any]:
        if quiet():
            return items
        bar: Iterable[Any] = real_tqdm.tqdm(items, *args, **options)
        return bar

    def __getattr__(self, name: str) -> Any:
        return getattr(real_tqdm, name)


tqdm = _Tqdm()


def quietly(told: Any) -> Any:
    """What a caller gave to be told with; the builtin `print` and the module tqdm, which are
    upstream's own defaults, become those of this module."""
    if told is builtins.print:
        return print
    return tqdm if told is real_tqdm else told
