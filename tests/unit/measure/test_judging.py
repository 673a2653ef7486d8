"""Fingerprints, comparisons and regressions, on runs whose truth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from ishowtts_ops.facts.modules import ALL_MODULES, module_by_key
from ishowtts_ops.measure import fingerprint, regress, roofline
from ishowtts_ops.measure.compare import NotComparable, compare
from ishowtts_ops.measure.fingerprint import Moment
from ishowtts_ops.measure.regress import Cause
from ishowtts_ops.measure.run import Run
from tests.unit.measure.made import make_run, moment, noisy, print_of

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


@pytest.mark.parametrize(
    ("bad", "step"),
    [
        (moment(loose=("GPU",)), "power lock"),
        (moment(loose=("GPU",), staged=True), "reboot"),
        (moment(lock_unknown="reading emc needs root"), "power status"),
        (moment(throttles=("gpu-throttle-alert",)), "cool"),
        (moment(), "quiet moment"),
    ],
)
def test_what_spoils_a_run_has_its_own_way_out(bad: Moment, step: str) -> None:
    assert step in fingerprint.way_out(print_of(moment(), bad))


def test_over_current_and_glances_have_theirs() -> None:
    assert "draws so much power" in fingerprint.way_out(print_of(after=moment(events={"OC3": 9})))
    lost = dataclasses.replace(print_of(), during=("GPU clock not locked",))
    assert "power lock" in fingerprint.way_out(lost)
    hot = dataclasses.replace(print_of(), during=("heat throttles gpu-throttle-alert",))
    assert "cool" in fingerprint.way_out(hot)


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


def test_what_runs_of_the_box_differ_by_anyway_is_no_difference() -> None:
    first = make_run(noisy(0.170, spread=0.005, seed=1), id="first")
    second = make_run(noisy(0.178, spread=0.005, seed=2), id="second")
    alone = compare(first, second)
    assert alone.figure("rtf").verdict == "slower"
    assert "not known yet: it takes 4 other runs" in alone.caveat

    levels = (0.165, 0.178, 0.171, 0.182, 0.168, 0.176)
    restless = [make_run([level] * 6, id=str(level)) for level in levels]
    found = compare(first, second, restless)
    assert found.figure("rtf").verdict == "no difference"
    assert found.verdict.startswith("No difference that means anything: the second run is 4.")
    assert "apart with nothing changed (by 6 runs)" in found.verdict
    assert found.caveat == ""

    steady = [make_run([0.17 + n / 1e5] * 6, id=str(n)) for n in range(12)]
    found = compare(first, second, steady)
    assert found.figure("rtf").verdict == "slower"
    assert (found.caveat, found.verdict.startswith("The second run is 4.")) == ("", True)


def test_a_real_difference_in_the_history_is_no_noise() -> None:
    """Twenty calm runs, then the two that are asked about: one of them is twice as slow."""
    calm = [make_run([0.17 + n % 3 / 1e4] * 6, id=str(n)) for n in range(20)]
    slow, fine = make_run(noisy(0.34, seed=1), id="slow"), make_run(noisy(0.17), id="fine")
    for pair in ((slow, fine), (fine, slow)):
        assert compare(*pair, [*calm, *pair]).figure("rtf").verdict in ("faster", "slower")


def test_runs_of_another_mode_say_nothing_of_this_one() -> None:
    first = make_run(noisy(0.170, spread=0.005, seed=1), id="first")
    second = make_run(noisy(0.178, spread=0.005, seed=2), id="second")
    other = print_of(moment(mode="MODE_30W"))
    restless = [make_run([level] * 6, id=str(level), found=other) for level in (0.3, 0.5, 0.4, 0.6)]
    assert compare(first, second, restless).figure("rtf").verdict == "slower"


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
    found = regress.judge(baseline, slow, causes=lambda: causes)
    assert found.regressed
    assert found.percent == pytest.approx(108, abs=8)
    assert "95 % sure of" in found.sentence
    assert found.causes[0].text == "Clocks are not locked."
    assert [str(item) for item in found.changed] == ["clocks locked: yes → no: GPU"]


def test_getting_faster_is_no_regression() -> None:
    asked: list[str] = []

    def causes() -> list[Cause]:
        asked.append("doctor")
        return [Cause("x")]

    found = regress.judge(make_run(noisy(0.3)), make_run(noisy(0.1)), causes=causes)
    assert not found.regressed
    assert (found.causes, asked) == ((), []), "doctor is asked only when there is something to ask"


def takes(asked: list[int], *levels: float) -> Callable[[int], Run]:
    """Measures a box that is at another level each time it is measured."""

    def measure(count: int) -> Run:
        level = levels[min(len(asked), len(levels) - 1)]
        asked.append(count)
        return make_run(noisy(level, count, spread=0.01, seed=len(asked)))

    return measure


FIRST, MORE = regress.FIRST_PASSES, regress.MORE_PASSES


@pytest.mark.parametrize(
    ("levels", "passes", "rests", "regressed"),
    [
        ((0.17,), [FIRST], 0, False),
        ((0.25,), [FIRST, MORE, MORE], 1, True),
        # A hiccup in the first passes, as when another program starts.
        ((0.19, 0.17), [FIRST, MORE], 0, False),
        # A neighbour's burst as long as a look: two looks against one.
        ((0.25, 0.25, 0.17, 0.17), [FIRST, MORE, MORE, MORE], 2, False),
        ((0.25, 0.25, 0.17, 0.25), [FIRST, MORE, MORE, MORE], 2, True),
    ],
)
def test_what_looks_slow_is_measured_again(
    levels: tuple[float, ...], passes: list[int], rests: int, regressed: bool
) -> None:
    asked: list[int] = []
    rested: list[int] = []
    baseline = make_run(noisy(0.17, spread=0.01, seed=9))
    found = regress.check(baseline, takes(asked, *levels), rest=lambda: rested.append(len(asked)))
    assert (asked, len(rested), found.regressed) == (passes, rests, regressed)
    assert len(found.run.samples) == sum(passes), "every look is kept"
    assert bool(found.run.extra.get("regressed")) is regressed
    assert found.to_json()["looks"][0] == pytest.approx((found.looks[0] - 1) * 100, abs=0.01)


def test_a_given_tolerance_is_taken_as_it_is() -> None:
    baseline = make_run(noisy(0.17, spread=0.005, seed=1))
    slower = make_run(noisy(0.17 * 1.04, spread=0.005, seed=2))
    assert not regress.judge(baseline, slower).regressed
    assert regress.judge(baseline, slower, tolerance=0.02).regressed


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
