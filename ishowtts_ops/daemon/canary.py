"""The canary: a word the idle engine speaks to prove that it still can."""

from __future__ import annotations

import logging

from ishowtts_ops.daemon.endings import sentence
from ishowtts_ops.daemon.engine import (
    Cancel,
    Cancelled,
    DeviceLost,
    Engine,
    OutOfMemory,
    Progress,
    SynthesisRequest,
    Voice,
)
from ishowtts_ops.daemon.listen import audible
from ishowtts_ops.daemon.pulse import Condition

log = logging.getLogger(__name__)

CANARY_TEXT = "Ready."
FAILING = "engine"
"""The ailment of an engine that fails its canary."""


class Canary:
    """Canaries of one engine; on its thread.

    Attributes:
        passed: how many were spoken since the start.
        due: one should be spoken next.
        suspect: the engine just failed a caller, so the next one is spoken even if somebody waits.
    """

    def __init__(self, engine: Engine, condition: Condition) -> None:
        self.passed = 0
        self.due = False
        self.suspect = False
        self._engine = engine
        self._condition = condition

    @property
    def wanted(self) -> bool:
        return self.due or self.suspect

    def sing(self, voice: Voice, progress: Progress, unwanted: Cancel) -> bool:
        """Prove that the engine still works. A caller who comes in the middle goes first, unless
        the engine just failed: then the proof does.

        Args:
            unwanted: true when somebody waits, or the daemon ends.

        Returns:
            True when it was spoken.

        Raises:
            DeviceLost: nothing will work any more.
        """
        self.due = self.suspect = False
        request = SynthesisRequest(CANARY_TEXT, voice)
        try:
            for _ in audible(self._engine.stream(request, progress, unwanted), unwanted):
                pass
        except Cancelled:
            return False
        except DeviceLost:
            raise
        except OutOfMemory:
            # Not the end: a caller's request is tried in smaller pieces.
            log.warning("no memory for a canary")
            self._engine.free()
            return False
        except Exception as error:
            log.exception("the engine failed its canary")
            self._condition.ail(FAILING, f"the engine failed its canary: {sentence(error)}")
            return False
        self.passed += 1
        self._condition.heal(FAILING)
        return True
