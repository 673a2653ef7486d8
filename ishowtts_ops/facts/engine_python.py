"""Which interpreter runs the engine: iShowTTS's own where it is sound, else ours.

iShowTTS's environment is `/opt/miniforge3/envs/ishowtts` or the checkout's `.venv` (facts read from
its documentation and scripts). Whether it is sound is found out by running its interpreter; its
files are only looked at. The daemon then runs in a small environment of ours that is made from that
interpreter and reads its packages (provision/engine_overlay.py).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from ishowtts_ops.config import PREFIX, Settings
from ishowtts_ops.facts.python_env import NoInterpreter, PythonEnv, read_python_env
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host

AUTO = "auto"
OWN = f"{PREFIX}/venv/bin/python"
"""The interpreter that the program itself runs in."""
OVERLAY = f"{PREFIX}/engine"
"""Our environment over somebody else's."""
OVERLAY_PYTHON = f"{OVERLAY}/bin/python"
OVERLAY_MADE = f"{OVERLAY}/made.json"
"""What it was made from; see `provision/engine_overlay.py`."""

OLDEST, NEWEST = (3, 10), (3, 13)
OLDEST_NUMPY = (1, 26)
"""What this program's own requirements ask for."""

CONDA_FOLDERS = ("miniforge3", "mambaforge", "miniconda3", "anaconda3", "conda")
CONDA_NAME = "ishowtts"


@dataclass(frozen=True)
class PassedOver:
    """An environment of iShowTTS's that is not used, and why: clauses."""

    python: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.python} is iShowTTS's and not used: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class Choice:
    """What install settles on.

    Attributes:
        python: box path of the interpreter whose packages the engine uses.
        passed_over: environments that were looked at first.
    """

    python: str
    passed_over: tuple[PassedOver, ...] = ()

    @property
    def foreign(self) -> bool:
        return not is_own(self.python)


def is_own(python: str) -> bool:
    """Is this an environment of ours, that goes with us?"""
    return python.startswith(f"{PREFIX}/")


def candidates(host: Host, settings: Settings) -> list[str]:
    """Interpreters that may be iShowTTS's and are on the box, the likeliest first."""
    found = [
        path
        for base in ("/opt", "/home/*", "/root")
        for folder in CONDA_FOLDERS
        for path in host.glob(f"{base}/{folder}/envs/{CONDA_NAME}/bin/python")
    ]
    own_venv = f"{settings.ishowtts.path.rstrip('/')}/.venv/bin/python"
    return [path for path in (*found, own_venv) if host.exists(path)]


def choose(host: Host, settings: Settings) -> Choice:
    """What `engine.python` comes to: a path as it is; `auto`, the first sound environment of
    iShowTTS's, else ours. Runs interpreters, changes nothing."""
    told = settings.engine.python
    if told != AUTO:
        return Choice(told)
    passed: list[PassedOver] = []
    for python in candidates(host, settings):
        reasons = judge(host, settings, python)
        if not reasons:
            return Choice(python, tuple(passed))
        passed.append(PassedOver(python, reasons))
    return Choice(OWN, tuple(passed))


def in_use(host: Host, settings: Settings) -> str:
    """The interpreter that the daemon runs in now, read from files: our environment over another
    one where install has made it, else the configured one, else ours."""
    told = settings.engine.python
    if is_own(told):
        return told
    made_from = overlay_of(host)
    if made_from is not None and told in (AUTO, made_from):
        return OVERLAY_PYTHON
    return OWN if told == AUTO else told


def overlay_of(host: Host) -> str | None:
    """Whose packages our environment at `OVERLAY` reads; None when it is not there."""
    if not host.is_file(OVERLAY_MADE):
        return None
    try:
        made = json.loads(host.read_text(OVERLAY_MADE))
        return str(made["python"])
    except (ValueError, KeyError, TypeError):
        return None


def judge(host: Host, settings: Settings, python: str) -> tuple[str, ...]:
    """What keeps an environment from being used as it is, as clauses; empty when it is sound."""
    env = read_python_env(host, python)
    if isinstance(env, NoInterpreter):
        return ("it is not there",)
    if isinstance(env, Unknown):
        return (f"its interpreter gives no answer ({env.reason})",)
    version = ".".join(map(str, env.python[:2]))
    wrong = []
    if not OLDEST <= env.python[:2] <= NEWEST:
        fits = " to ".join(".".join(map(str, end)) for end in (OLDEST, NEWEST))
        wrong.append(f"its Python is {version}, and {fits} work")
    closed = _closed_folder(host, python)
    if closed is not None:
        wrong.append(f"the daemon's user may not enter {closed}")
    return (*wrong, *faults(host, settings, env))


def faults(host: Host, settings: Settings, env: PythonEnv) -> tuple[str, ...]:
    """What of its packages pip would have to mend, as clauses."""
    wrong = []
    if env.missing:
        wrong.append(f"it lacks {', '.join(env.missing)}")
    if needs_cuda(host, settings) and env.cpu_only:
        wrong.append("its torch is built without CUDA")
    version = env.package("numpy").version
    if wants_numpy_1(host, env) and (env.numpy_major or 0) >= 2:
        wrong.append(f"its numpy is {version}, and JetPack 6's torch is built for numpy 1")
    elif numpy_too_old(env):
        oldest = ".".join(map(str, OLDEST_NUMPY))
        wrong.append(f"its numpy is {version}, and {oldest} is the oldest that works")
    return tuple(wrong)


def needs_cuda(host: Host, settings: Settings) -> bool:
    """Is a torch without CUDA a mistake here?"""
    return is_real_jetson(host) and settings.f5.device != "cpu"


def wants_numpy_1(host: Host, env: PythonEnv) -> bool:
    """JetPack 6's own torch wheels (for its CUDA 12) are built against numpy 1; newer JetPacks
    bring Python 3.12, and torch for another CUDA knows numpy 2."""
    cuda = env.package("torch").cuda or "12."  # missing or CPU-only: JetPack's own will be put in
    return is_real_jetson(host) and env.python < (3, 12) and cuda.startswith("12.")


def numpy_too_old(env: PythonEnv) -> bool:
    """An unreadable version is no reason to replace anything."""
    numbers = re.match(r"(\d+)\.(\d+)", env.package("numpy").version or "")
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST_NUMPY


def is_real_jetson(host: Host) -> bool:
    return host.exists("/etc/nv_tegra_release") and not host.simulated


def _closed_folder(host: Host, python: str) -> str | None:
    """The first folder on the way that a user of no group may not enter."""
    for folder in reversed(PurePosixPath(python).parents):
        if host.is_dir(str(folder)) and not host.is_symlink(str(folder)):
            mode = host.stat(str(folder)).mode
            if str(folder) != "/" and not mode & 0o001:
                return str(folder)
    return None
