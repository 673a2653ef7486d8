"""Where the engine runs: in this process, and maybe with another interpreter."""

from __future__ import annotations

import os
import sys

from ishowtts_ops.cli.box import Box
from ishowtts_ops.errors import UsageError
from ishowtts_ops.facts.engine_python import OVERLAY_PYTHON, in_use, overlay_of

_INSIDE = "ISHOWTTS_ENGINE_PYTHON"
"""Set once we run in the engine's environment: what is there already does not go there again."""


def go_where_the_engine_is(box: Box) -> None:
    """Go on in our environment over iShowTTS's own, where install has made one.

    The same command line begins again there, in this very process, which a service manager knows
    by its number. Nothing happens where the engine runs with our own packages.

    Raises:
        UsageError: the environment was there and is gone.
    """
    host, settings = box.host, box.settings
    if settings.engine.kind != "f5" or _INSIDE in os.environ:
        return
    if in_use(host, settings) != OVERLAY_PYTHON:
        return
    if not host.exists(OVERLAY_PYTHON):
        raise UsageError(
            f"The interpreter that the engine ran in is gone: {overlay_of(host)}.",
            "Run `sudo ishowtts-ops install`, which looks for another one.",
        )
    python = str(host.path(OVERLAY_PYTHON, follow_last=False))
    argv = [python, "-I", "-m", "ishowtts_ops", *sys.argv[1:]]
    host.become_here(argv, env={_INSIDE: python})
