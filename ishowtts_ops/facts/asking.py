"""Asking a program of the box: its answer, or why there is none. Nothing here raises."""

from __future__ import annotations

from collections.abc import Sequence

from ishowtts_ops.errors import CommandFailed, OpsError
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host, Result


def ask(host: Host, argv: Sequence[str], limit_s: float) -> Maybe[Result]:
    """What a program answered, whatever its status; Unknown when it could not be asked."""
    try:
        result = host.query(argv, timeout=limit_s)
    except CommandFailed as error:
        # Its message repeats the whole command line, which hides the reason.
        what = error.message.splitlines()[0].rpartition("` ")[2]
        return Unknown(f"{argv[0]} {clause(what)}")
    except OpsError as error:
        return Unknown(clause(error.message))
    if result.timed_out:
        return Unknown(f"{argv[0]} gave no answer in {limit_s:g} s")
    return result


def failure(result: Result, words: int = 1, last: bool = False) -> Unknown:
    """Why a bad status is no answer.

    Args:
        words: how much of the command line names it.
        last: the reason is in the last line it printed, not in the first.
    """
    lines = [line for line in result.output.splitlines() if line.strip()] or ["no reason given"]
    name = " ".join(result.argv[:words])
    shown = clause(lines[-1 if last else 0])[:160]
    return Unknown(f"{name} ended with status {result.rc}: {shown}")


def clause(sentence: str) -> str:
    """The first line of a sentence, fit to stand in another one."""
    return (sentence.strip().splitlines() or ["no reason given"])[0].rstrip(". ")
