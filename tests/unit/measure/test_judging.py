"""Fingerprints, comparisons and regressions, on runs whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ishowtts_ops.facts.modules import ALL_MODULES, module_by_key
from ishowtts_ops.measure import fingerprint, regress, roofline
from ishowtts_ops.measure.compare import NotComparable, compare
from ishowtts_ops.measure.regress import Cause
from ishowtts_ops.measure.run import Run
from tests.unit.measure.made import make_run, moment, noisy, print_of

NOISE = Path(__file__).parents[2] / "data" / "timing-noise.json"


# ---- fingerprints --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (moment(loose=("GPU",)), moment(), "clocks were not locked: GPU"),
        (moment(), moment(loose=("CPU", "EMC")), "clocks were not locked: CPU, EMC"),
        (moment(lock_unknown="reading emc needs root"), moment(), "not known whether"),
        (moment(), moment(throttles=("gpu-throttle-alert",)), "heat held clocks down"),
        (moment(), moment(events={"OC3": 6}), "OC3 2x"),
        (moment(), moment(mode="MODE_15W"), "changed from MAXN to MODE_15W"),
        (moment(), moment(staged=True), "staged"),
    ],
)
def test_a_spoiled_run_is_marked(
    before: fingerprint.Moment, after: fingerprint.Moment, said: str
) -> None:
    (mark,) = fingerprint.marks(print_of(before, after))
    assert said in mark


def test_a_clean_run_is_not_marked() -> None:
    assert fingerprint.marks(print_of()) == ()
    desktop = moment(jetson=False, mode="not a Jetson", lock_unknown="")
    assert fingerprint.marks(print_of(desktop)) == ()


def test_what_was_seen_between_passes_is_a_mark() -> None:
    found = fingerprint.Fingerprint({}, moment(), moment(), ("GPU clock not locked",))
    assert fingerprint.marks(found) == ("between passes: GPU clock not locked",)


# ---- compare -------------------------------------------------------------------------------------


def test_noise_is_no_difference() -> None:
    found = compare(make_run(noisy(0.17, seed=1)), make_run(noisy(0.17, seed=2)))
    assert {figure.verdict for figure in found.figures} == {"no difference"}
    assert found.verdict.startswith("No difference")


def test_a_difference_has_a_size_and_a_direction() -> None:
    slow, fast = make_run(noisy(0.352, seed=1)), make_run(noisy(0.169, seed=2))
    there = compare(fast, slow).figure("rtf")
    assert there.verdict == "slower"
    assert there.shift.ratio == pytest.approx(2.08, rel=0.05)
    back = compare(slow, fast)
    assert back.figure("rtf").verdict == "faster"
    assert "faster" in back.verdict
    assert back.figure("rtf").shift.p < 1e-6


def test_quick_runs_are_too_few_to_tell() -> None:
    found = compare(make_run([0.17]), make_run([0.35]))
    assert found.verdict == "Too few samples (1 and 1) to tell a difference from noise."


def test_different_work_is_refused() -> None:
    run = make_run(noisy(0.1))
    with pytest.raises(NotComparable, match=r"M \(m-key\) and L \(l-key\)"):
        compare(run, make_run(noisy(0.1), workload="L", key="l-key"))
    with pytest.raises(NotComparable, match="in-process"):
        compare(run, make_run(noisy(0.1), door="in-process"))


def test_every_difference_of_the_fingerprints_is_named() -> None:
    other = print_of(moment(mode="MODE_30W", loose=("GPU",)), torch="2.9.1", voice_anna="ff00")
    found = compare(make_run(noisy(0.1)), make_run(noisy(0.1, seed=1), found=other))
    assert [str(item) for item in found.differences] == [
        "torch: 2.8.0 → 2.9.1",
        "power mode: MAXN → MODE_30W",
        "clocks locked: yes → no: GPU",
        "voice anna: None → ff00",
    ]


# ---- regress -------------------------------------------------------------------------------------


def test_a_regression_comes_with_its_likely_causes() -> None:
    baseline = make_run(noisy(0.169, seed=1))
    slow = make_run(noisy(0.352, seed=2), found=print_of(moment(loose=("GPU",))))
    causes = [Cause("The disk is full."), Cause("Clocks are not locked.", 2.1, "Lock them.")]
    found = regress.judge(baseline, slow, causes=causes)
    assert found.regressed
    assert found.percent == pytest.approx(108, abs=8)
    assert "95 % sure of" in found.sentence
    assert found.causes[0].text == "Clocks are not locked."
    assert [str(item) for item in found.changed] == ["clocks locked: yes → no: GPU"]


def test_getting_faster_is_no_regression() -> None:
    found = regress.judge(make_run(noisy(0.3)), make_run(noisy(0.1)), causes=[Cause("x")])
    assert not found.regressed
    assert found.causes == ()


def test_what_looks_slow_is_measured_again() -> None:
    baseline = make_run(noisy(0.17, seed=1))
    asked: list[int] = []

    def take(values: Callable[[int], list[float]]) -> Callable[[int], Run]:
        def measure(count: int) -> Run:
            asked.append(count)
            return make_run(values(count))

        return measure

    fine = regress.check(baseline, take(lambda n: noisy(0.17, n, seed=5)))
    assert (fine.regressed, asked) == (False, [regress.FIRST_PASSES])
    asked.clear()
    slow = regress.check(baseline, take(lambda n: noisy(0.25, n, seed=6)))
    assert (slow.regressed, asked) == (True, [regress.FIRST_PASSES, regress.MORE_PASSES])
    assert len(slow.run.samples) == regress.FIRST_PASSES + regress.MORE_PASSES
    asked.clear()
    # A hiccup in the first look, as when another program starts: the second look clears it.
    hiccup = regress.check(
        baseline, take(lambda n: noisy(0.19 if len(asked) == 1 else 0.17, n, seed=len(asked)))
    )
    assert (hiccup.regressed, len(asked)) == (False, 2)


def sessions() -> list[list[float]]:
    """Real-time factors of one unchanged machine, by daemon start; see the file's `about`."""
    body = json.loads(NOISE.read_text(encoding="utf-8"))
    found: list[list[float]] = body["sessions"]
    return found


def alarms(slowdown: float, rounds: int, seed: int, *, across: bool) -> float:
    """How often the rule calls a machine that is `slowdown` slower a regression.

    A baseline is a stretch of real noise, the look a later stretch (or, `across`, one of another
    process start): what drifts from minute to minute is in it, not only what independent draws
    would have.
    """
    rng = np.random.default_rng(seed)
    recorded = sessions()
    many = regress.FIRST_PASSES + regress.MORE_PASSES
    found = 0
    for _ in range(rounds):
        one, other = rng.choice(len(recorded), 2, replace=False)
        if across:
            baseline = _stretch(recorded[one], 0, 60, 20, rng)
            look = _stretch(recorded[other], 0, 60, many, rng)
        else:
            baseline = _stretch(recorded[one], 0, 30, 20, rng)
            look = _stretch(recorded[one], 30, 60, many, rng)
        now = [value * (1 + slowdown) for value in look]
        if regress.is_suspicious(baseline, now[: regress.FIRST_PASSES]):
            found += regress.is_regression(baseline, now)
    return found / rounds


def _stretch(
    values: list[float], low: int, high: int, count: int, rng: np.random.Generator
) -> list[float]:
    start = int(rng.integers(low, high - count + 1))
    return values[start : start + count]


SLOWDOWNS = (0.0, 0.03, 0.1, 0.5)


def test_false_alarms_and_misses_on_real_noise(capsys: pytest.CaptureFixture[str]) -> None:
    rounds = 300
    rates = {
        name: {slow: alarms(slow, rounds, int(slow * 100), across=across) for slow in SLOWDOWNS}
        for name, across in (("in one process", False), ("from start to start", True))
    }
    with capsys.disabled():
        print(f"\n{len(sessions())} sessions of real noise, {rounds} rounds each:")
        for name, found in rates.items():
            for slow, rate in found.items():
                word, share = ("false alarms", rate) if slow == 0 else ("missed", 1 - rate)
                print(f"  {name:<20} {slow * 100:3.0f} % slower: {share * 100:5.1f} % {word}")
    same, drifting = rates["in one process"], rates["from start to start"]
    assert same[0.0] <= 0.02
    assert same[0.1] >= 0.8
    assert same[0.5] == drifting[0.5] == 1.0
    assert same[0.0] <= same[0.03] <= same[0.1], "below the tolerance it is a matter of chance"
    # That machine's clock is not locked: from start to start it really is up to 11 % slower, which
    # no statistics of single runs can tell from a regression.
    assert drifting[0.0] <= 0.3


# ---- roofline ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "reference", "generated", "milliseconds"),
    [
        ("agx-orin-64", 6, 8, 215),
        ("agx-orin-64", 6, 2, 110),
        ("agx-orin-64", 3, 2, 65),
        ("agx-orin-32", 6, 8, 344),
        ("agx-orin-32", 3, 2, 104),
    ],
)
def test_floors_are_those_of_the_arithmetic(
    key: str, reference: float, generated: float, milliseconds: float
) -> None:
    module = module_by_key(key)
    assert module is not None
    bounds = roofline.orin(module)
    assert bounds is not None
    found = roofline.floor_seconds(bounds, reference, generated, 7)
    assert found * 1000 == pytest.approx(milliseconds, rel=0.01)


def test_the_h200s_floor_and_an_unknown_gpu() -> None:
    h200 = roofline.by_name("NVIDIA H200")
    assert h200 is not None
    assert roofline.floor_seconds(h200, 6, 8, 7) * 1000 == pytest.approx(11.6, rel=0.01)
    assert roofline.by_name("NVIDIA GeForce RTX 3090") is None


def test_a_lower_clock_and_a_longer_text_raise_the_floor() -> None:
    module = module_by_key("orin-nano-8-super")
    assert module is not None
    fast, slow = roofline.orin(module), roofline.orin(module, 612_000_000)
    assert fast is not None and slow is not None
    assert fast.flops / slow.flops == pytest.approx(1020 / 612)
    one = roofline.floor_seconds(fast, 6, 15, 7)
    two = roofline.floor_seconds(fast, 6, 30, 7)
    assert two == pytest.approx(2 * one), "two pieces of 15 s"
    assert roofline.floor_seconds(fast, 6, 8, 7, guided=False) < 0.51 * roofline.floor_seconds(
        fast, 6, 8, 7
    )


def test_every_orin_has_bounds_and_a_projection_says_what_it_is() -> None:
    counted = roofline.Counted(flops=9.17e12, bytes=7 * 4.5e9, launches=7 * 279)
    h200 = roofline.by_name("NVIDIA H200")
    assert h200 is not None
    measured = roofline.calibrate(counted, h200, 0.020)
    assert measured.compute == pytest.approx(9.17e12 / 790e12 / 0.020)
    for module in ALL_MODULES:
        if "orin" not in module.key:
            continue
        bounds = roofline.orin(module)
        assert bounds is not None, module.key
        found = roofline.project(counted, bounds, measured)
        assert found.text.startswith(f"projection for {module.name}: ")
        assert found.seconds >= roofline.floor_seconds(bounds, 6, 8, 7) * 0.99
