"""What shows only while the box works; asked with `--under-load`."""

from __future__ import annotations

from ishowtts_ops.doctor.checks_heat import COOLING, NEAR_MC, PASSIVE_MC
from ishowtts_ops.doctor.checks_speed import SLOW, SLOWER
from ishowtts_ops.doctor.checks_supply import HALVED, SUPPLY
from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Severity, by_hand, known
from ishowtts_ops.doctor.under_load import Load
from ishowtts_ops.facts.load import Watched
from ishowtts_ops.facts.rails import MEANING, SERIOUS
from ishowtts_ops.facts.value import Unknown

DROPPED = 0.95
"""A locked GPU below this share of its rate was held down."""


def _speed(exam: Examination) -> list[Finding]:
    load = _load(exam)
    if load is None:
        return []
    evidence = _evidence(load)
    if load.trouble:
        text = f"The load ended early: {load.trouble}."
        remedy = by_hand("Its log says more.", ("journalctl", "-u", "ishowtts-tts", "-n", "40"))
        return [Finding("load-speed", Severity.WARN, text, evidence, remedy)]
    history, health = exam.facts.history, exam.facts.daemon
    if load.rtf is None or isinstance(history, Unknown) or isinstance(health, Unknown):
        return [Finding("load-speed", Severity.OK, _did(load), evidence)]
    baseline = history.baselines.get(health.engine)
    if baseline is None or load.rtf <= baseline.rtf * SLOWER:
        return [Finding("load-speed", Severity.OK, _did(load), evidence)]
    ratio = load.rtf / baseline.rtf
    return [
        Finding(
            "load-speed",
            Severity.WARN,
            f"Under load its RTF is {load.rtf:.3g}, and that of its baseline {baseline.rtf:.3g}.",
            (*evidence, Evidence(f"baseline {baseline.id[:12]}", f"RTF {baseline.rtf:.4g}")),
            by_hand(
                "Measure it with care when nobody is on air: that names the likely cause.",
                ("sudo", "ishowtts-ops", "regress"),
            ),
            round(ratio, 2),
            because=("load-heat", "load-supply", "load-clocks", *SLOW),
        )
    ]


def _did(load: Load) -> str:
    seconds = load.watched.seconds
    if load.kind == "burn" and load.burnt is not None:
        return (
            f"The GPU ({load.burnt.device}) was kept busy for {load.burnt.seconds:.0f} s, at"
            f" {load.burnt.tflop_per_s:.1f} TFLOP/s."
        )
    if load.kind == "live":
        return f"Somebody was being served; their speech was watched for {seconds:.0f} s."
    rtf = "" if load.rtf is None else f", RTF {load.rtf:.3g}"
    return f"The daemon made {load.audio_s:.0f} s of speech in {seconds:.0f} s{rtf}."


def _evidence(load: Load) -> tuple[Evidence, ...]:
    watched = load.watched
    found = [Evidence("watched", f"{watched.seconds:.1f} s, {len(watched.samples)} samples")]
    hottest = watched.hottest()
    if hottest is not None:
        found.append(Evidence(f"hottest zone ({hottest.hottest})", _celsius(hottest.hottest_mc)))
    watts = watched.peak_milliwatt()
    if watts is not None:
        found.append(Evidence("most power drawn", f"{watts / 1000:.1f} W"))
    return tuple(found)


def _heat(exam: Examination) -> list[Finding]:
    load = _load(exam)
    if load is None:
        return []
    known(exam.facts.thermal)  # what gave no answer before was not watched
    if _already_throttled(exam):
        return []
    watched = load.watched
    first = watched.first_throttle()
    if first is not None:
        names = ", ".join(first.throttles)
        return [
            Finding(
                "load-heat",
                Severity.ERROR,
                f"Under load the box gets too hot and slows its clocks down after"
                f" {first.at_s:.0f} s, at {_celsius(first.hottest_mc)}: {names}.",
                (Evidence(f"cooling devices after {first.at_s:.1f} s", names), *_evidence(load)),
                COOLING,
            )
        ]
    hottest = watched.hottest()
    if hottest is None or not isinstance(hottest.hottest_mc, int):
        return []
    if hottest.hottest_mc >= PASSIVE_MC - NEAR_MC and not _already_hot(exam):
        text = (
            f"A few seconds of load bring the box to {_celsius(hottest.hottest_mc)}; it slows down"
            f" at {_celsius(PASSIVE_MC)}."
        )
        return [Finding("load-heat", Severity.WARN, text, _evidence(load), COOLING)]
    text = f"Under load the hottest part came to {_celsius(hottest.hottest_mc)}."
    return [Finding("load-heat", Severity.OK, text)]


def _supply(exam: Examination) -> list[Finding]:
    load = _load(exam)
    if load is None:
        return []
    known(exam.facts.rails)
    watched = load.watched
    alarm = watched.first_alarm()
    if alarm is not None and not _already_alarmed(exam):
        names = ", ".join(alarm.alarms)
        text = f"Under load the current of {names} goes above its limit, and clocks are cut."
        evidence = (Evidence(f"rail alarms after {alarm.at_s:.1f} s", names), *_evidence(load))
        return [Finding("load-supply", Severity.ERROR, text, evidence, SUPPLY)]
    if isinstance(watched.events, Unknown):
        return []  # supply-events says so
    seen = {number: count for number, count in watched.events.items() if count}
    counted = tuple(
        Evidence(
            f"{watched.events_path}/oc{n}_event_cnt ({MEANING[n]}) in {watched.seconds:.0f} s",
            f"+{c}",
        )
        for n, c in sorted(seen.items())
    )
    serious = [number for number in SERIOUS if number in seen]
    if serious:
        names = " and ".join(f"{MEANING[n]} ({seen[n]} times)" for n in serious)
        text = f"Under load the supply is too weak: the chip slowed itself down for {names}."
        return [Finding("load-supply", Severity.ERROR, text, (*counted, *_evidence(load)), SUPPLY)]
    if seen:
        text = "Short current peaks were cut off under load; that is common and costs little."
        return [Finding("load-supply", Severity.INFO, text, counted)]
    return [Finding("load-supply", Severity.OK, "The supply held under load.")]


def _clocks(exam: Examination) -> list[Finding]:
    load = _load(exam)
    if load is None or load.watched.first_throttle() is not None or _already_throttled(exam):
        return []  # heat-throttle or load-heat says why
    slow = [*_cpu(load.watched), *_gpu(exam, load.watched)]
    if slow or isinstance(exam.facts.clocks, Unknown):
        return slow
    return [Finding("load-clocks", Severity.OK, "The locked clocks held under load.")]


def _cpu(watched: Watched) -> list[Finding]:
    slowest = watched.slowest_cpu()
    if slowest is None or not isinstance(slowest.cpu_share, float):
        return []
    if slowest.cpu_share >= HALVED or _already_halved(watched):
        return []
    share = slowest.cpu_share
    return [
        Finding(
            "load-clocks",
            Severity.ERROR,
            f"Under load the CPU falls to {share:.0%} of the rate it is locked at: the chip"
            " throttles itself for over-current.",
            (Evidence(f"cpuinfo_cur_freq after {slowest.at_s:.1f} s", f"{slowest.cpu_khz} kHz"),),
            SUPPLY,
            round(1 / share, 2),
            at_most=True,
            because=("supply-measured", "load-supply"),
        )
    ]


def _gpu(exam: Examination, watched: Watched) -> list[Finding]:
    clocks = exam.facts.clocks
    gpu = clocks if isinstance(clocks, Unknown) else clocks.gpu
    slowest, top = watched.slowest_gpu(), watched.gpu_max_hz
    if isinstance(gpu, Unknown) or gpu.locked is not True or slowest is None:
        return []  # not locked, which clocks-gpu says
    locked_hz, rate = gpu.max_hz, slowest.gpu_hz
    if not isinstance(locked_hz, int) or not isinstance(rate, int) or isinstance(top, Unknown):
        return []
    if rate >= locked_hz * DROPPED:
        return []
    return [
        Finding(
            "load-clocks",
            Severity.ERROR,
            f"Under load the GPU falls from {locked_hz / 1e6:.0f} to {rate / 1e6:.0f} MHz although"
            " it is locked.",
            (Evidence(f"{gpu.path}/cur_freq after {slowest.at_s:.1f} s", f"{rate} Hz"),),
            by_hand("See who writes to it.", ("ishowtts-ops", "power", "status")),
            round(locked_hz / rate, 2),
            at_most=True,
        )
    ]


def _load(exam: Examination) -> Load | None:
    """The load; None when none was asked for.

    Raises:
        NotKnown: nothing could load the box.
    """
    return None if exam.load is None else known(exam.load)


def _already_throttled(exam: Examination) -> bool:
    thermal = exam.facts.thermal
    return not isinstance(thermal, Unknown) and bool(thermal.active_throttles)


def _already_hot(exam: Examination) -> bool:
    """Is it that hot without a load, which heat-margin says?"""
    thermal = exam.facts.thermal
    hottest = thermal if isinstance(thermal, Unknown) else thermal.hottest
    now = hottest if isinstance(hottest, Unknown) else hottest.temperature_mc
    return isinstance(now, int) and now >= PASSIVE_MC - NEAR_MC


def _already_alarmed(exam: Examination) -> bool:
    rails = exam.facts.rails
    return not isinstance(rails, Unknown) and bool(rails.alarms)


def _already_halved(watched: Watched) -> bool:
    """Was it so before, which supply-measured says?"""
    share = watched.before.cpu_share
    return isinstance(share, float) and share < HALVED


def _celsius(millidegrees: object) -> str:
    return f"{millidegrees / 1000:.1f} °C" if isinstance(millidegrees, int) else "not known"


CHECKS = (
    Check("load-speed", "load", "The box speaks under load (--under-load)", _speed),
    Check("load-heat", "load", "It stays cool under load", _heat, jetson=True),
    Check("load-supply", "load", "The supply holds under load", _supply, jetson=True),
    Check("load-clocks", "load", "Clocks hold under load", _clocks, jetson=True),
)
