"""A folder of wheels for a box without a network: made on any machine, used by `install --wheels`.

pip resolves for the box, not for the machine that it runs on. torch is taken from the Jetson index
alone and then handed to pip as a file, because the general index may have a build of the same
version without CUDA, which pip would find just as good.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.facts.python_env import REQUIRED
from ishowtts_ops.host import Host
from ishowtts_ops.steps import Progress

TIMEOUT_S = 3600.0

_TORCH = ("torch", "torchaudio")
_LOWEST = {"x_transformers": "x-transformers>=1.31.14", "vocos": "vocos>=0.1.0"}


@dataclass(frozen=True)
class Target:
    """What the wheels of a JetPack are built for.

    Attributes:
        python: as wheels write it ("310").
        glibc: newest minor version of glibc 2 that the box has.
        pins: what must not be newer.
    """

    python: str
    glibc: int
    pins: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """pip's words for it. A wheel may name any older glibc."""
        tags = ["linux_aarch64", "manylinux2014_aarch64"]
        tags += [f"manylinux_2_{minor}_aarch64" for minor in range(17, self.glibc + 1)]
        platforms = [word for tag in tags for word in ("--platform", tag)]
        which = ("--python-version", self.python, "--implementation", "cp", "--abi")
        return (*platforms, *which, f"cp{self.python}", "--only-binary=:all:")


TARGETS = {
    "6": Target("310", 35, ("numpy<2",)),  # Ubuntu 22.04; its torch is built against numpy 1
    "7": Target("312", 39),  # Ubuntu 24.04
}


def target_of(jetpack: str) -> Target:
    """The target of a JetPack release such as "6.2".

    Raises:
        UsageError: wheels cannot be had for it.
    """
    major = jetpack.split(".")[0]
    if major not in TARGETS:
        known = " and ".join(TARGETS)
        why = " Its Python is 3.8, and 3.10 is the oldest that works." if major == "5" else ""
        raise UsageError(
            f"There are no wheels to be made for JetPack {jetpack}.{why}", f"Known: {known}."
        )
    return TARGETS[major]


def make(host: Host, settings: Settings, target: Target, folder: Path, log: Progress) -> list[str]:
    """Fetch everything that the engine of such a box needs into `folder`.

    Returns:
        the names of the wheels that are there now.

    Raises:
        OpsError: the Jetson index is not named, or pip could not get something.
    """
    index = settings.engine.torch_index
    if index is None:
        raise OpsError(
            "Where torch built for this JetPack comes from is not said.",
            "Set engine.torch_index to the address of the Jetson AI Lab package index for it.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    pip = (sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check")
    head = (*pip, "--progress-bar", "off", "--dest", str(folder), *target.options)
    _fetch(host, (*head, "--no-deps", "--index-url", index, *_TORCH), log)
    torch = [str(_only(folder, name)) for name in _TORCH]
    others = [_LOWEST.get(name, name) for name in REQUIRED if name not in _TORCH]
    _fetch(host, (*head, *torch, *others, *target.pins), log)
    _fetch(host, (*head, "--no-deps", f"f5-tts=={settings.f5.version}"), log)
    return sorted(path.name for path in folder.glob("*.whl"))


def offline_options(folder: Path | None) -> tuple[str, ...]:
    """pip's words for "from this folder and nowhere else"; none without a folder.

    Raises:
        UsageError: the folder holds no wheel.
    """
    if folder is None:
        return ()
    if not any(folder.glob("*.whl")):
        raise UsageError(
            f"{folder} holds no wheels.", "Make them with `ishowtts-ops wheels make DIR`."
        )
    return ("--no-index", "--find-links", str(folder.resolve()))


def _fetch(host: Host, argv: Sequence[str], log: Progress) -> None:
    log(" ".join(argv[3:5]) + " … " + argv[-1])
    host.run_here(argv, timeout=TIMEOUT_S, on_line=log).check(
        "Look at the network and at engine.torch_index, then run again: what is there is kept."
    )


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.glob(f"{name}-*.whl"))
    if len(found) != 1:
        raise OpsError(
            f"{folder} holds {len(found)} wheels of {name}, and one is needed.",
            "Remove the others, or start with an empty folder.",
        )
    return found[0]
