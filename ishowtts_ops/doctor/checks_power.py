"""Is the box in the power mode that the policy asks for, and is that mode in force?"""

from __future__ import annotations

import math

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Severity, by_hand, known, mend
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.modules import Module
from ishowtts_ops.facts.nvpmodel import CONF_PATH, STATUS_PATH, Conf, Mode
from ishowtts_ops.facts.power import POLICY_LEAVE, shown, wanted_mode
from ishowtts_ops.facts.value import Unknown

_REINSTALL = ("sudo", "apt-get", "install", "--reinstall", "nvidia-l4t-nvpmodel")
_REBOOT = ("sudo", "systemctl", "reboot")
_TPCS = 8


def _mode(exam: Examination) -> list[Finding]:
    power = known(exam.facts.power)
    policy = exam.settings.power.mode
    if isinstance(power.conf, Unknown):
        return [] if policy == POLICY_LEAVE else [_no_conf(exam, power.conf)]
    if policy == POLICY_LEAVE:
        text = f"The power mode is {power.mode_name}; the configuration leaves it alone."
        return [Finding("power-mode", Severity.INFO, text)]
    try:
        wanted = wanted_mode(power.conf, policy)
    except OpsError as error:
        found = (Evidence("power.mode", policy), Evidence(CONF_PATH, power.conf.names))
        remedy = by_hand(error.hint)
        return [Finding("power-mode", Severity.ERROR, error.message, found, remedy)]
    assert wanted is not None
    if isinstance(power.mode, Unknown):
        text = f"Which power mode the box is in is not certain: {power.mode.reason}."
        remedy = mend("power", f"Set {wanted.name} anew.")
        status = (Evidence(STATUS_PATH, power.mode.reason),)
        return [Finding("power-mode", Severity.ERROR, text, status, remedy)]
    evidence = (Evidence(STATUS_PATH, f"{power.mode.name} ({power.mode.id})"),)
    if power.mode.id == wanted.id:
        text = f"The power mode is {wanted.name}, as asked for."
        return [Finding("power-mode", Severity.OK, text, evidence)]
    return [
        Finding(
            "power-mode",
            Severity.ERROR,
            f"The power mode is {power.mode.name}; the policy `{policy}` asks for {wanted.name}.",
            (*evidence, Evidence("power.mode", policy)),
            mend("power", f"Set {wanted.name} and lock the clocks at its limits."),
            _slowdown(exam, power.conf, power.mode, wanted),
            at_most=True,
        )
    ]


def _no_conf(exam: Examination, conf: Unknown) -> Finding:
    remedy = by_hand("Bring the file back with its package.", _REINSTALL, needs_root=True)
    if not exam.host.lexists(CONF_PATH) and exam.host.glob("/etc/nvpmodel/*.conf"):
        remedy = by_hand(
            "Restart the box: the link to one of the files in /etc/nvpmodel is made at boot.",
            _REBOOT,
            needs_root=True,
            needs_reboot=True,
        )
    return Finding(
        "power-mode",
        Severity.ERROR,
        f"The power modes of this box cannot be read: {conf.reason}.",
        (Evidence(CONF_PATH, conf.reason),),
        remedy,
    )


def _slowdown(exam: Examination, conf: Conf, here: Mode, wanted: Mode) -> float | None:
    """GPU rate times running units in the wanted mode, by that in this one: what speech, which is
    GPU work, loses at most. None when it loses nothing, or a rate is not known."""
    clocks = exam.facts.clocks
    gpu = clocks if isinstance(clocks, Unknown) else clocks.gpu
    hardware = gpu if isinstance(gpu, Unknown) else gpu.hw_max_hz
    # A mode without a cap has what the hardware has, or at the least what another mode allows.
    top = 0.0 if isinstance(hardware, Unknown) else float(hardware)
    top = max([top, *(cap for mode in conf.modes for cap in _finite(mode))])

    def work(mode: Mode) -> float:
        rate = min([*_finite(mode), top])
        return rate * max(1, _TPCS - (mode.tpc_pg_mask or 0).bit_count())

    before, after = work(here), work(wanted)
    return round(after / before, 2) if before and after > before else None


def _finite(mode: Mode) -> list[float]:
    return [cap for cap in mode.caps("GPU") if not math.isinf(cap)]


def _caps(exam: Examination) -> list[Finding]:
    power = known(exam.facts.power)
    if isinstance(power.mode, Unknown):
        return []  # power-mode says so
    if power.reboot_pending is True:
        masks = [cap for cap in power.off if cap.unit == "mask"]
        evidence = tuple(Evidence(c.path, shown(c.found, c.unit)) for c in masks or power.off)
        text = f"{power.mode.name} is set and takes effect with the next reboot."
        remedy = by_hand(
            "Restart the box when nobody is on air.",
            _REBOOT,
            needs_root=True,
            needs_reboot=True,
        )
        slower = None
        if isinstance(power.conf, Conf) and isinstance(power.effective, Mode):
            slower = _slowdown(exam, power.conf, power.effective, power.mode)
            text = f"{text[:-1]}; until then it is {power.effective.name}."
        return [Finding("power-caps", Severity.WARN, text, evidence, remedy, slower, at_most=True)]
    low = [cap for cap in power.off if cap.lower]
    thermal = exam.facts.thermal
    if low and not isinstance(thermal, Unknown) and thermal.active_throttles:
        return []  # heat lowers limits for a while, which heat-throttle says
    if not low:
        if power.off:
            text = f"Some limits are above those of {power.mode.name}: {power.off[0]}."
            return [Finding("power-caps", Severity.INFO, text)]
        clocks = exam.facts.clocks
        if not isinstance(clocks, Unknown) and isinstance(clocks.gpu, Unknown):
            return []  # a GPU that is not up has no limits, and clocks-gpu says so
        known(power.in_force)
        text = f"The kernel holds the limits of {power.mode.name}."
        return [Finding("power-caps", Severity.OK, text)]
    return [
        Finding(
            "power-caps",
            Severity.ERROR,
            f"The box is slower than its power mode {power.mode.name} allows: {low[0]}.",
            tuple(Evidence(cap.path, shown(cap.found, cap.unit)) for cap in low),
            mend("power", "Set the power mode again and lock the clocks."),
            next((_ratio(cap.wanted, cap.found) for cap in low if cap.what == "GPU"), None),
            at_most=True,
        )
    ]


def _ratio(wanted: int | Unknown, found: int | Unknown) -> float | None:
    if isinstance(wanted, Unknown) or isinstance(found, Unknown) or found <= 0:
        return None
    return round(wanted / found, 2)


def _conf(exam: Examination) -> list[Finding]:
    power = known(exam.facts.power)
    if isinstance(power.conf, Unknown):
        return []  # power-mode says so
    path = CONF_PATH if isinstance(power.conf_path, Unknown) else power.conf_path
    if power.conf.problems:
        return [
            Finding(
                "power-conf",
                Severity.WARN,
                f"The file of power modes is damaged: {power.conf.problems[0]}.",
                tuple(Evidence(path, str(problem)) for problem in power.conf.problems[:4]),
                by_hand("Bring it back with its package.", _REINSTALL, needs_root=True),
            )
        ]
    if power.conf_fits is False:
        return [
            Finding(
                "power-conf",
                Severity.WARN,
                f"{CONF_PATH} leads to {path}, which belongs to another module.",
                (Evidence(CONF_PATH, path),),
                by_hand(
                    "Restart the box: the link is made at boot from the device tree.",
                    _REBOOT,
                    needs_root=True,
                    needs_reboot=True,
                ),
            )
        ]
    return []


def _firmware(exam: Examination) -> list[Finding]:
    low = known(exam.facts.power).low_ceilings
    if not low:
        return []
    module = known(exam.facts.identity).module
    text = f"The firmware offers lower rates than this module has: {low[0]}."
    flash = "Flash the module anew for what it is (NVIDIA's flash tool, from another computer)."
    if isinstance(module, Module) and module.is_super:
        text = (
            f"The power mode promises super rates, and the firmware does not offer them: {low[0]}."
        )
        flash = (
            "Flash the module with the super configuration of JetPack 6.2 or later (NVIDIA's"
            " flash tool, from another computer)."
        )
    return [
        Finding(
            "power-firmware",
            Severity.ERROR,
            text,
            tuple(Evidence(cap.path, shown(cap.found, cap.unit)) for cap in low),
            by_hand(flash),
            next((_ratio(cap.wanted, cap.found) for cap in low if cap.what == "GPU"), None),
            at_most=True,
        )
    ]


CHECKS = (
    Check("power-mode", "power", "The power mode is the one asked for", _mode, jetson=True),
    Check("power-caps", "power", "The power mode is in force", _caps, jetson=True),
    Check("power-conf", "power", "The file of power modes fits the module", _conf, jetson=True),
    Check(
        "power-firmware", "power", "The firmware offers the module's rates", _firmware, jetson=True
    ),
)
