"""Does the patched network still say what the unpatched one says?

The series brings its own proof, `f5_tts.fast.verify`: seeded weights, the same noise through
upstream's modules and through the fast ones, and the distance in dB. It runs in the engine's own
interpreter, in a process of its own, so that it sees what the daemon sees and nothing is left
behind.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError, Undetermined
from ishowtts_ops.facts.engine_python import in_use
from ishowtts_ops.host import Host

MODULE = "f5_tts.fast.verify"
LIMIT_S = 600.0
STATES = ("ok", "failed", "unknown")


@dataclass(frozen=True)
class Proof:
    """One thing that was tried. `state` is ok, failed or unknown (it cannot be tried here)."""

    check: str
    state: str
    text: str


@dataclass(frozen=True)
class Fidelity:
    """All of it."""

    proofs: tuple[Proof, ...]

    @property
    def failed(self) -> tuple[Proof, ...]:
        return tuple(proof for proof in self.proofs if proof.state == "failed")

    @property
    def passed(self) -> bool:
        """True when the result itself was compared and nothing failed."""
        compared = any(p.check == "fidelity" and p.state == "ok" for p in self.proofs)
        return compared and not self.failed


def check(host: Host, settings: Settings, source: str) -> Fidelity:
    """Run the proof; takes seconds on a GPU and up to minutes on a CPU.

    Args:
        source: box path of the source tree (holds src/f5_tts).

    Raises:
        Undetermined: it could not be run.
    """
    env = {"PYTHONPATH": str(host.path(f"{source}/src")), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = (in_use(host, settings), "-m", MODULE)
    try:
        result = host.query(argv, timeout=LIMIT_S, env=env)
    except OpsError as error:
        raise Undetermined(f"The fidelity test could not be run: {error.message}") from None
    if result.timed_out:
        raise Undetermined(f"The fidelity test took more than {LIMIT_S:.0f} s.")
    found = parse(result.stdout)
    if found is None:
        last = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Undetermined(
            f"The fidelity test gave no answer: {last}",
            "`ishowtts-ops patch status` says whether the series is applied.",
        )
    return found


def parse(text: str) -> Fidelity | None:
    """The proof's JSON list; None where there is none. What stands before it is ignored."""
    start = text.find("[\n")
    try:
        rows = json.loads(text[start:] if start >= 0 else text)
        proofs = tuple(Proof(row["check"], row["state"], row["text"]) for row in rows)
    except (ValueError, KeyError, TypeError):
        return None
    return Fidelity(proofs) if all(proof.state in STATES for proof in proofs) else None
