"""What a box's own history says is noise, on made runs and on noise that was really recorded."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from ishowtts_ops.measure import regress
from ishowtts_ops.measure.compare import compare
from ishowtts_ops.measure.noise import MOST_TOLERATED, REFERENCE_RUNS, Noise, learn
from ishowtts_ops.measure.others import alone
from ishowtts_ops.measure.run import Run
from tests.support.terminal import REPOSITORY
from tests.unit.measure.made import make_run, moment, noisy, print_of

DATA = Path(__file__).parents[2] / "data"
LEAST = regress.TOLERANCE


def runs_of(levels: Sequence[float], **more: object) -> list[Run]:
    return [
        make_run([level] * 6, id=str(day), started=f"2026-01-{day + 1:02d}T00:00:00Z", **more)  # type: ignore[arg-type]
        for day, level in enumerate(levels)
    ]


# ---- what is learned -----------------------------------------------------------------------------


def test_with_the_baseline_alone_the_tolerance_is_wide() -> None:
    (baseline,) = runs_of([0.17])
    found = learn(baseline, [])
    assert (found.level, found.runs) == (pytest.approx(0.17), 1)
    assert found.tolerance(LEAST) == pytest.approx(0.087, abs=0.001)
    assert learn(baseline, [baseline]) == found, "it is counted once"


def test_a_steady_box_comes_down_to_the_configured_tolerance() -> None:
    history = runs_of([0.17 * (1 + 0.002 * (-1) ** n) for n in range(12)])
    wide = [learn(history[0], history[:n]).tolerance(LEAST) for n in (1, 4, 12)]
    assert wide == sorted(wide, reverse=True)
    assert wide[-1] == LEAST


def test_an_unsteady_box_is_given_more() -> None:
    levels = [0.17 * math.exp(0.06 * step) for step in (0, 1, -1, 1, -1, 0.5, -0.5, 1, -1, 0)]
    history = runs_of(levels)
    found = learn(history[0], history)
    assert 0.035 < found.spread < 0.07
    assert found.tolerance(LEAST) > 0.07


def test_the_level_is_that_of_the_first_runs_and_does_not_creep() -> None:
    """A box that gets slower by one percent a day must not take its baseline along."""
    creeping = [0.17 * 1.01**day for day in range(28)]
    history = runs_of(creeping)
    found = learn(history[0], history)
    assert found.runs == REFERENCE_RUNS
    assert found.level == pytest.approx(0.17 * 1.01 ** ((REFERENCE_RUNS - 1) / 2))


def test_a_lucky_baseline_is_corrected() -> None:
    history = runs_of([0.16, 0.17, 0.171, 0.169, 0.17])
    found = learn(history[0], history)
    assert found.level == pytest.approx(0.17)
    now = make_run(noisy(0.172, spread=0.004))
    assert not regress.judge(history[0], now, noise=found, tolerance=0.05).regressed
    assert regress.judge(history[0], now, noise=learn(history[0]), tolerance=0.05).regressed


def test_what_says_nothing_is_left_out() -> None:
    fine = runs_of([0.17, 0.171, 0.169])
    odd = [
        make_run([0.3] * 6, id="marked", marks=("clocks were not locked: GPU",)),
        make_run([0.3] * 2, id="quick"),
        make_run([0.3] * 6, id="other work", key="l-key"),
        make_run([0.3] * 6, id="other door", door="in-process"),
        make_run([0.3] * 6, id="other mode", found=print_of(moment(mode="MODE_30W"))),
        dataclasses.replace(make_run([0.3] * 6, id="slow"), extra={"regressed": True}),
    ]
    assert learn(fine[0], [*odd, *fine]) == learn(fine[0], fine)


def test_an_update_moves_the_level_and_keeps_what_is_known_of_the_noise() -> None:
    before = runs_of([0.20, 0.2004, 0.1996, 0.2002, 0.1998, 0.2, 0.2003, 0.1997])
    after = make_run(
        [0.1] * 6, id="new", started="2026-02-01T00:00:00Z", found=print_of(torch="3.0")
    )
    found = learn(after, [*before, after])
    assert (found.level, found.runs) == (pytest.approx(0.1), 1)
    assert found.tolerance(LEAST) < learn(after, [after]).tolerance(LEAST)


def test_a_new_baseline_at_another_level_keeps_its_eyes() -> None:
    """The owner accepted that the box is slower now, for a reason that no fingerprint knows. What
    it was before is no noise of what it is."""
    before = runs_of([0.100, 0.1002, 0.0998, 0.1001, 0.0999, 0.1, 0.1002, 0.0998])
    after = make_run([0.2] * 6, id="accepted", started="2026-02-01T00:00:00Z")
    found = learn(after, [*before, after], {before[0].id, after.id})
    assert (found.level, found.runs) == (pytest.approx(0.2), 1)
    assert found.tolerance(LEAST) == LEAST, "the noise of before is known, and small"
    slower = make_run(noisy(0.23, spread=0.01), started="2026-02-02T00:00:00Z")
    assert regress.judge(after, slower, noise=found).regressed


def test_several_levels_of_the_past_are_no_noise_either() -> None:
    levels = [0.1, 0.1, 0.1, 0.15, 0.15, 0.15, 0.22, 0.22, 0.22, 0.3]
    history = runs_of(levels)
    resets = {history[at].id for at in (0, 3, 6, 9)}
    found = learn(history[9], history, resets)
    assert found.tolerance(LEAST) == LEAST
    assert learn(history[9], history).tolerance(LEAST) > 0.3, "that is what the resets are for"


def test_who_lost_half_the_speed_has_regressed_however_restless_the_box() -> None:
    history = runs_of([0.1, 0.25, 0.12, 0.3, 0.1, 0.2, 0.35, 0.11])
    found = learn(history[0], history)
    assert found.spread > 0.3
    assert found.tolerance(LEAST) == MOST_TOLERATED
    assert found.tolerance(0.8) == 0.8, "the owner's own word is more"


def test_one_wild_day_is_no_reason_to_tolerate_everything() -> None:
    calm = [0.17 * (1 + 0.004 * (-1) ** n) for n in range(12)]
    wild = [*calm[:5], 0.34, *calm[6:]]
    found = learn(runs_of(wild)[0], runs_of(wild))
    assert found.level == pytest.approx(0.17, rel=0.01)
    assert found.tolerance(LEAST) < 0.06


# ---- on recorded noise ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Look:
    """Real-time factors of one process, and what others had of the processors meanwhile."""

    values: Sequence[float]
    others: float = 0.0


@cache
def recorded(sitting: str, kind: str) -> list[Look]:
    """One process after the other on one unchanged machine; see `tests.support.noise`."""
    body = json.loads((DATA / "session-noise.json").read_text(encoding="utf-8"))
    return [Look(row[kind], row.get("others", 0.0)) for row in body["sittings"][sitting]]


@cache
def one_process() -> list[list[float]]:
    """Longer sessions, for what happens within one process; see the file's `about`."""
    body = json.loads((DATA / "timing-noise.json").read_text(encoding="utf-8"))
    found: list[list[float]] = body["sessions"]
    return found


def is_alarm(history: Sequence[Run], looks: Iterator[Look], slower: float) -> bool:
    """What `regress` says of a box that has this history and becomes slower by a factor."""
    known: Noise = learn(history[0], history)
    tolerance = known.tolerance(LEAST)
    level = regress.at_level(history[0], known)

    def look(passes: int) -> list[float]:
        found = next(looks)
        values = [value * (1 + slower) for value in found.values[:passes]]
        return alone(values, found.others, known.others)

    first = look(regress.FIRST_PASSES + regress.MORE_PASSES)
    if not regress.is_suspicious(level, first[: regress.FIRST_PASSES], tolerance):
        return False
    return regress.vote(level, first, lambda: look(regress.MORE_PASSES), tolerance)


def as_runs(sessions: Sequence[Look]) -> list[Run]:
    """Each process as the run that it was."""
    return [
        dataclasses.replace(
            make_run(
                session.values[:20],
                id=str(n),
                started=f"2026-01-01T{n // 60:02d}:{n % 60:02d}:00Z",
            ),
            extra={"others": session.others},
        )
        for n, session in enumerate(sessions)
    ]


def from_start_to_start(sessions: list[Look], known: int, slower: float) -> tuple[int, int]:
    """(alarms, trials): every stretch of so many sessions as the history, the next ones as looks.
    Every look is of another process, as are the runs that the noise is learned from."""
    made = as_runs(sessions)
    starts = range(known, len(sessions) - regress.LOOKS + 1)
    alarms = [is_alarm(made[at - known : at], iter(sessions[at:]), slower) for at in starts]
    return sum(alarms), len(alarms)


def within_a_process(slower: float) -> tuple[int, int]:
    """(alarms, trials): the baseline is a stretch of a process' life, the looks are later ones."""
    trials = [
        is_alarm(
            [make_run(session[start : start + 20])],
            (Look(session[start + 20 + skip :]) for skip in (0, 4, 8)),
            slower,
        )
        for session in one_process()
        for start in range(0, 20, 4)
    ]
    return sum(trials), len(trials)


SLOWER = (0.0, 0.03, 0.1, 0.5)
KNOWN = (1, 4, 12, 30)


def told(name: str, slower: float, alarms: int, trials: int) -> str:
    share = alarms if slower == 0 else trials - alarms
    word = "false alarms" if slower == 0 else "missed"
    return (
        f"  {name}, {slower * 100:2.0f} % slower: {share / trials * 100:5.1f} % {word} of {trials}"
    )


def test_false_alarms_and_misses_on_recorded_noise(capsys: pytest.CaptureFixture[str]) -> None:
    """The processor time of a process, on a machine that has little else to do."""
    sessions = recorded("quiet", "cpu")
    found: dict[tuple[int, float], tuple[int, int]] = {}
    lines = [f"{len(sessions)} process starts of one machine, nothing changed between:"]
    for known in KNOWN:
        for slower in SLOWER:
            found[known, slower] = from_start_to_start(sessions, known, slower)
            lines.append(told(f"{known:2} runs known     ", slower, *found[known, slower]))
    for slower in SLOWER:
        found[0, slower] = within_a_process(slower)
        lines.append(told("within one process", slower, *found[0, slower]))
    with capsys.disabled():
        print("\n" + "\n".join(lines))

    def rate(slower: float, *cases: int) -> float:
        some = [found[known, slower] for known in cases]
        return sum(alarms for alarms, _ in some) / sum(trials for _, trials in some)

    assert rate(0.0, *KNOWN) <= 0.02
    assert rate(0.0, 0) <= 0.02
    assert rate(0.1, *KNOWN[1:]) >= 0.9
    assert rate(0.5, 0, *KNOWN) == 1.0
    for known in (0, *KNOWN):
        assert rate(0.0, known) <= rate(0.03, known) <= rate(0.1, known)

    page = (REPOSITORY / "docs/measuring.md").read_text(encoding="utf-8")
    for known in KNOWN:
        name = "the baseline alone" if known == 1 else str(known)
        alarms, trials = found[known, 0.0]
        shares = " | ".join(f"{rate(slower, known) * 100:.0f} %" for slower in SLOWER[1:])
        assert f"| {name} | {alarms} of {trials} | {shares} |" in page


def test_a_machine_that_others_use_is_no_source_of_alarms(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The clock on the wall, history and looks while other programs had most of the processors;
    and, which is worse, a history from quiet times and looks from busy ones."""
    quiet, busy = recorded("quiet", "wall"), recorded("busy", "wall")
    lines = [f"{len(busy)} more process starts while others used the machine, by the clock:"]
    cases = {"always busy   ": from_start_to_start(busy, 12, 0.0)}
    turned = [
        from_start_to_start([*quiet[-12:], *busy[n : n + 3]], 12, 0.0) for n in range(len(busy) - 2)
    ]
    cases["quiet till now"] = (sum(a for a, _ in turned), sum(t for _, t in turned))
    for name, (alarms, trials) in cases.items():
        lines.append(told(name, 0.0, alarms, trials))
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert cases["always busy   "][0] / cases["always busy   "][1] <= 0.05
    assert cases["quiet till now"][0] / cases["quiet till now"][1] <= 0.05
    unknown = [dataclasses.replace(look, others=0.0) for look in busy]
    blind = [
        from_start_to_start([*quiet[-12:], *unknown[n : n + 3]], 12, 0.0)[0]
        for n in range(len(busy) - 2)
    ]
    assert sum(blind) / len(blind) > 0.9, "it is the knowledge of the others that makes the quiet"


def differences(runs: Sequence[Run], known: int, slower: float) -> tuple[int, int]:
    """(called a difference, pairs): each run and the next, which is slower by a factor, where the
    history holds so many runs before them."""

    def slow(run: Run) -> Run:
        samples = [
            dataclasses.replace(one, engine_s=one.engine_s * (1 + slower)) for one in run.samples
        ]
        return dataclasses.replace(run, samples=tuple(samples))

    pairs = range(max(KNOWN), len(runs) - 1)
    verdicts = [
        compare(runs[at], slow(runs[at + 1]), runs[at - known : at]).figure("rtf").verdict
        for at in pairs
    ]
    return sum(verdict != "no difference" for verdict in verdicts), len(pairs)


def test_two_runs_of_an_unchanged_machine_are_not_called_different(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`bench compare` on pairs of neighbouring process starts. The rank test alone calls a third of
    them different, and it is right: the processes are. The box is not."""
    runs = as_runs(recorded("quiet", "cpu"))
    found = {
        (known, slower): differences(runs, known, slower)
        for known in (0, 4, 12, 30)
        for slower in (0.0, 0.1, 0.5)
    }
    lines = ["two runs compared, process starts of one machine, nothing changed between:"]
    for (known, slower), (different, pairs) in found.items():
        lines.append(
            f"  {known:2} runs known, {slower * 100:2.0f} % slower: {different} of {pairs} called"
            " different"
        )
    with capsys.disabled():
        print("\n" + "\n".join(lines))

    def rate(known: int, slower: float) -> float:
        different, pairs = found[known, slower]
        return different / pairs

    page = (REPOSITORY / "docs/measuring.md").read_text(encoding="utf-8")
    for known in (0, 4, 12, 30):
        shares = " | ".join("{} of {}".format(*found[known, slower]) for slower in (0.0, 0.1, 0.5))
        assert f"| {known or 'none'} | {shares} |" in page
    assert rate(0, 0.0) > 0.2, "else the history is not needed"
    for known in (4, 12, 30):
        assert rate(known, 0.0) <= 0.05
        assert rate(known, 0.1) >= 0.75
        assert rate(known, 0.5) == 1.0


# ---- what others take ----------------------------------------------------------------------------


def test_a_slow_look_at_a_crowded_machine_is_no_regression() -> None:
    baseline = make_run(noisy(0.17, spread=0.01, seed=1))
    slow = make_run(noisy(0.24, spread=0.01, seed=2))
    crowded = dataclasses.replace(slow, extra={"others": 0.4})
    assert regress.judge(baseline, slow).regressed
    found = regress.judge(baseline, crowded)
    assert not found.regressed
    assert "other programs had 40 % of the processors" in found.sentence
    much = dataclasses.replace(make_run(noisy(0.4, spread=0.01)), extra={"others": 0.4})
    assert regress.judge(baseline, much).regressed, "they cannot have slowed it that much"
    always = dataclasses.replace(baseline, extra={"others": 0.4})
    assert regress.judge(always, crowded).regressed, "the baseline had them as well"
