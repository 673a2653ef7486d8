"""One cause, one entry: what merely follows from another finding is told under it.

A check that knows what its complaint may come from names those checks in `Finding.because`. Where
one of them complains too, and no less loudly, the finding is a consequence; else it stands alone.
Nothing is dropped: a consequence keeps its severity, its evidence and its remedy.
"""

from __future__ import annotations

from collections.abc import Sequence

from ishowtts_ops.doctor.finding import Finding


def cause_of(finding: Finding, findings: Sequence[Finding]) -> Finding | None:
    """The finding that this one comes from, which itself comes from no other; None when it stands
    alone."""
    seen, found = {finding.check}, finding
    while True:
        source = _source(found, findings, seen)
        if source is None:
            return None if found is finding else found
        seen.add(source.check)
        found = source


def _source(finding: Finding, findings: Sequence[Finding], seen: set[str]) -> Finding | None:
    for check in finding.because if finding.bad else ():
        for other in findings:
            louder = other.severity.rank >= finding.severity.rank
            if other.check == check and other.bad and louder and check not in seen:
                return other
    return None


def folded(findings: Sequence[Finding]) -> list[tuple[Finding, tuple[Finding, ...]]]:
    """The findings that stand alone, in their order, each with those that follow from it."""
    causes = {id(finding): cause_of(finding, findings) for finding in findings}
    return [
        (finding, tuple(other for other in findings if causes[id(other)] is finding))
        for finding in findings
        if causes[id(finding)] is None
    ]
