"""The words in which a cause is written: what can be broken on a box, one function each.

A function takes the box and what stands behind its word in the file: a mapping as keywords, a list
or a single value as the one argument, nothing where the word stands alone. `READS` says which facts
are asked of programs and have to be asked anew afterwards; what is read from files always is.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import soundfile

from ishowtts_ops.provision.units import DAEMON
from ishowtts_ops.sim.checkout import VOICES
from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.sim.tools.unitstate import LOGS
from tests.service.doctor.healthy import SOURCE, HealthyBox
from tests.support.f5 import UTILS, git

ISHOWTTS = "/opt/ishowtts/config/ishowtts.toml"
GUEST = "/opt/ishowtts/data/voices/guest.wav"


# ---- files -----------------------------------------------------------------------------------


def fault(box: HealthyBox, name: str) -> None:
    """A fault of the simulated Jetson, by its name in `sim/faults.py`."""
    apply_fault(box.root, name)


def edit(box: HealthyBox, path: str, old: str, new: str) -> None:
    text = box.host.read_text(path)
    assert old in text, f"{path} does not hold {old!r}"
    box.host.write(path, text.replace(old, new))


def write(box: HealthyBox, path: str, text: str = "", copy: str = "") -> None:
    box.host.write(path, box.host.read_text(copy) if copy else text)


def cut(box: HealthyBox, path: str, bytes: int) -> None:
    """A file loses its end, as on a full disk or when the power goes."""
    box.host.write(path, box.host.read_bytes(path)[:bytes])


def remove(box: HealthyBox, path: str) -> None:
    assert box.host.lexists(path), f"the box has no {path}"
    box.host.remove(path)


def link(box: HealthyBox, path: str, to: str) -> None:
    box.host.remove(path)
    box.host.symlink(to, path)


def sysfs(box: HealthyBox, path: str, value: str) -> None:
    found = box.host.glob(path)
    assert found, f"the box has no {path}"
    for each in found:
        box.host.write_sysfs(each, value)


def file_system(box: HealthyBox, path: str, mebibytes: int) -> None:
    """A file system of its own, so small that it is full."""
    box.host.mkdir(path)
    where = str(box.host.path(path))
    box.mounts.append(where)
    argv = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", where]
    subprocess.run(argv, check=True, timeout=20)


# ---- settings and what install made ----------------------------------------------------------


def configure(box: HealthyBox, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Other settings, as install leaves them: the daemon knows them."""
    for section, keys in sections.items():
        box.configure(section, **keys)


def step(box: HealthyBox, name: str) -> None:
    """A step of install is run again."""
    box.run_step(name)


def restarted(box: HealthyBox) -> None:
    """The daemon is restarted, so that it runs what is there."""
    box.note_started()


def package(box: HealthyBox, name: str, version: str, cuda: str | None = None) -> None:
    """Another version of one of the engine's packages."""
    box.package(name, version, cuda=cuda)


def no_package(box: HealthyBox, name: str) -> None:
    box.no_package(name)


# ---- services --------------------------------------------------------------------------------


def unit(box: HealthyBox, name: str, **state: Any) -> None:
    """What the service manager says of a unit."""
    box.unit_state(name, **state)


def journal(box: HealthyBox, unit: str, text: str) -> None:
    """Lines more in a unit's log."""
    log = box.root / f"{LOGS}/{unit}.log".lstrip("/")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(text)


def daemon(box: HealthyBox, state: Mapping[str, Any]) -> None:
    """What the service manager says of the daemon's unit."""
    box.unit_state(DAEMON, **state)


def health(box: HealthyBox, changes: Mapping[str, Any]) -> None:
    """What the daemon says of itself."""
    box.answers.tell(**changes)


def answers(box: HealthyBox, values: Mapping[str, Any]) -> None:
    """How the daemon answers."""
    for name in values:
        assert hasattr(box.answers, name), name
    vars(box.answers).update(values)


def daemon_reload(box: HealthyBox) -> None:
    box.host.run(["systemctl", "daemon-reload"]).check()


def real_systemd_analyze(box: HealthyBox) -> None:
    """The box's units are judged by this machine's systemd-analyze; but not whether their program
    is there, which it is on the box only."""
    script = (
        '#!/bin/sh\nfor a; do shift; case "$a" in /etc/*) a="$ISHOWTTS_BOX_ROOT$a";; esac;'
        f' set -- "$@" "$a"; done\n{shutil.which("systemd-analyze")} "$@" 2>&1 >/dev/null |'
        ' grep -v "is not executable" >&2 || true\n'
    )
    box.host.write("/usr/bin/systemd-analyze", script, mode=0o755)


# ---- the checkout ----------------------------------------------------------------------------


def submodule(box: HealthyBox, what: str) -> None:
    """What happens to F5-TTS's sources."""
    source = box.host.path(SOURCE)
    if what == "updated":
        # What `git submodule update --force` does: the series is gone, and nobody is told.
        git(source, "checkout", "-q", "--force", "HEAD")
        shutil.rmtree(source / "src/f5_tts/fast")
    elif what == "hook-lost":
        git(source, "checkout", "-q", "--force", "HEAD", "--", UTILS)
    elif what == "edited":
        (source / UTILS).open("a").write("\n# a quick try\n")
    elif what == "conflict":
        # Upstream's own file is another one in the commit that is checked out.
        submodule(box, "updated")
        (source / UTILS).write_text("def infer_process():\n    raise NotImplementedError\n")
        git(source, "commit", "-q", "-a", "-m", "rewritten upstream")
    elif what == "gone":
        shutil.rmtree(source)
        source.mkdir()
    else:
        raise AssertionError(f"no way to break a submodule: {what}")


def recording(box: HealthyBox, seconds: float, level: float = 0.3, sound: float = 1.0) -> None:
    """The voice `guest` is recorded anew: noise as loud as `level`, for a share of its time."""
    rng = np.random.default_rng(7)
    samples = rng.uniform(-level, level, round(seconds * 24000)).astype(np.float32)
    samples[round(len(samples) * sound) :] = 0.0
    soundfile.write(box.host.path(GUEST), np.clip(samples, -1, 1), 24000)


def transcript(box: HealthyBox, text: str) -> None:
    """The transcript of `guest` is another one, and install has told the daemon."""
    old = next(voice.text for voice in VOICES if voice.id == "guest")
    edit(box, ISHOWTTS, old, text)
    box.run_step("voices")
    box.note_started()


def measured(box: HealthyBox, runs: Sequence[tuple[float, float]]) -> None:
    """The history is (RTF, days ago) of these, the first the baseline."""
    box.host.remove("/var/lib/ishowtts-ops/history.db")
    for number, (rtf, days) in enumerate(runs):
        box.measured(rtf, days, baseline=number == 0)


_ALL_PROGRAMS = ("gpu", "systemd", "rivals", "python_env", "daemon", "voices", "history")

READS: dict[Callable[..., None], tuple[str, ...]] = {
    fault: (),  # see `reads`
    edit: (),
    write: ("systemd", "rivals", "history"),
    cut: ("history",),
    remove: _ALL_PROGRAMS,
    link: ("systemd", "rivals"),
    sysfs: (),
    file_system: ("disk",),
    configure: ("daemon",),
    step: (),
    restarted: (),
    package: ("python_env",),
    no_package: ("python_env",),
    unit: ("systemd",),
    journal: (),
    daemon: ("systemd",),
    health: ("daemon",),
    answers: ("daemon",),
    daemon_reload: ("systemd",),
    real_systemd_analyze: (),
    submodule: ("voices",),
    recording: ("voices",),
    transcript: ("voices",),
    measured: ("history",),
}
_FAULT_READS = {"rival": ("rivals", "systemd"), "desktop": ("gpu", "systemd"), "gpu": ("gpu",)}
WORDS = {function.__name__: function for function in READS}


def act(box: HealthyBox, what: str | Mapping[str, Any]) -> None:
    """Do one thing of a cause's list to a box."""
    if isinstance(what, str):
        WORDS[what](box)
        return
    ((word, given),) = what.items()
    function = WORDS[word]
    takes_all = function in (configure, daemon, health, answers)
    if isinstance(given, Mapping) and not takes_all:
        function(box, **given)
    else:
        function(box, given)


def act_all(box: HealthyBox, ways: Sequence[str | Mapping[str, Any]]) -> None:
    """Do all of a cause's list to a box."""
    for what in ways:
        act(box, what)


@functools.cache
def _fault_reads(name: str) -> tuple[str, ...]:
    return _FAULT_READS.get(name.split("-")[0], ())


def reads(what: str | Mapping[str, Any]) -> tuple[str, ...]:
    """The facts that have to be asked of programs anew after this."""
    if isinstance(what, str):
        return READS[WORDS[what]]
    ((word, given),) = what.items()
    if word == "fault":
        return _fault_reads(given)
    path = str(given.get("path", "")) if isinstance(given, Mapping) else str(given)
    systemd = ("systemd",) if path.startswith("/etc/systemd/") else ()
    return (*READS[WORDS[word]], *systemd)
