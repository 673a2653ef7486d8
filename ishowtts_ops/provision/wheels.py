"""A folder of wheels for a box without a network: made on any machine, used by `./install.sh
--wheels` for the program and by `ishowtts-ops install --wheels` for the engine.

torch is taken from the Jetson index alone, because the general index may have a build of the same
version without CUDA, which pip would find just as good.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.facts.python_env import REQUIRED
from ishowtts_ops.host import Host
from ishowtts_ops.provision.wheel_set import Target, WheelSet
from ishowtts_ops.steps import Progress

TIMEOUT_S = 3600.0

DISTRIBUTION = "ishowtts-ops"
BUILD_BACKEND = "hatchling>=1.24"
"""What pip needs to install this program from its checkout; pyproject.toml says so too."""

TORCH_MODULES = ("torch", "torchaudio")
_LOWEST = {"x_transformers": "x-transformers>=1.31.14", "vocos": "vocos>=0.1.0"}

TARGETS = {
    # Ubuntu 22.04; its torch is built against numpy 1.
    "6": Target((3, 10), 35, pins=("numpy<2",)),
    "7": Target((3, 12), 39),  # Ubuntu 24.04
}

_QUIET = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
_SHOWN_LINES = 4


def requirement_of(module: str) -> str:
    """What pip is asked for where a module is missing: its distribution, and the lowest version."""
    return _LOWEST.get(module, module)


def program_requirements() -> list[str]:
    """What this program needs beside the engine, as its own metadata says."""
    listed = importlib.metadata.requires(DISTRIBUTION) or []
    return [text for text in listed if "extra ==" not in text]


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


def make(
    host: Host,
    target: Target,
    folder: Path,
    log: Progress,
    torch_index: str | None,
    f5_version: str,
) -> list[str]:
    """Fetch everything that this program and the engine need on such a box into `folder`.

    Args:
        torch_index: the address of the index for its JetPack, the only one torch comes from.

    Returns:
        the names of the wheels that make up the set.

    Raises:
        OpsError: the Jetson index is not named, or something cannot be had.
    """
    if torch_index is None:
        raise OpsError(
            "Where torch built for this JetPack comes from is not said.",
            "Give --torch-index (or set engine.torch_index): the address of the Jetson AI Lab"
            " package index for it.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be made: {error.strerror}.", "Name another folder."
        ) from None
    pip = _Pip(host, target, torch_index, log)
    roots = [*program_requirements(), *map(requirement_of, REQUIRED), BUILD_BACKEND]
    wheels = WheelSet(target, folder, pip.fetch, pip.build)
    # F5-TTS is sources to us: what it would bring (gradio, wandb …) is not wanted.
    f5_tts = _f5_tts(wheels, pip, f5_version)
    names = wheels.complete(roots)
    return sorted([*names, f5_tts])


def offline_options(folder: Path | None) -> tuple[str, ...]:
    """pip's words for "from this folder and nowhere else"; none without a folder.

    Raises:
        UsageError: the folder holds no wheel.
    """
    if folder is None:
        return ()
    if not any(folder.glob("*.whl")):
        raise UsageError(
            f"{folder} holds no wheels." if folder.is_dir() else f"There is no folder {folder}.",
            "Make it on a machine with a network: `ishowtts-ops wheels make DIR`.",
        )
    return ("--no-index", "--find-links", str(folder.resolve()))


def only_index(index: str) -> dict[str, str]:
    """What makes pip ask one index alone, beside `--index-url`, which leaves further indexes and
    folders of its configuration files in force; only another value of the same key takes their
    place."""
    return {"PIP_EXTRA_INDEX_URL": index, "PIP_FIND_LINKS": index}


def _f5_tts(wheels: WheelSet, pip: _Pip, version: str) -> str:
    """F5-TTS itself, in the one version that is installed."""
    here = wheels.wheels().get("f5-tts")
    if here is not None and str(parse_wheel_filename(here.path.name)[1]) != version:
        here.path.unlink()
    why = pip.fetch([f"f5-tts=={version}"], wheels.folder)
    if why is not None:
        raise OpsError(
            f"F5-TTS {version} cannot be had. pip says:\n{why}",
            "Look at the network and at f5.version.",
        )
    return wheels.wheels()["f5-tts"].path.name


class _Pip:
    """pip of this machine, told for whom it fetches."""

    def __init__(self, host: Host, target: Target, torch_index: str, log: Progress) -> None:
        self.host = host
        self.target = target
        self.torch_index = torch_index
        self.log = log

    def fetch(self, requirements: Sequence[str], folder: Path) -> str | None:
        """Wheels alone, and torch from its own index alone."""
        torch = [text for text in requirements if _is_torch(text)]
        others = [text for text in requirements if not _is_torch(text)]
        options = ("--no-deps", "--dest", str(folder), *self.target.options)
        why = None
        if torch:
            argv = ("download", *options, "--index-url", self.torch_index, *torch)
            why = self._run(argv, only_index(self.torch_index))
        if others and why is None:
            why = self._run(("download", *options, *others))
        return why

    def build(self, requirements: Sequence[str], folder: Path) -> str | None:
        """From sources. Never torch: what would come out is not the Jetson's."""
        if any(map(_is_torch, requirements)):
            return f"{self.torch_index} has no wheel of it"
        names = ",".join(Requirement(text).name for text in requirements)
        options = ("--no-deps", "--wheel-dir", str(folder), f"--no-binary={names}")
        return self._run(("wheel", *options, *requirements))

    def _run(self, words: Sequence[str], env: Mapping[str, str] | None = None) -> str | None:
        """pip's own words where it could not; its progress goes to the log."""
        argv = (sys.executable, "-m", "pip", *words, *_QUIET)
        done = self.host.run_here(argv, timeout=TIMEOUT_S, env=env, on_line=self._tell)
        if done.ok:
            return None
        lines = [line for line in done.output.splitlines() if line.startswith("ERROR:")]
        return "\n".join((lines or done.output.splitlines())[-_SHOWN_LINES:])

    def _tell(self, line: str) -> None:
        # What pip calls an error may be the next attempt's business; the last word is ours.
        if line.startswith(("Collecting", "  Downloading", "  Building", "Building")):
            self.log(line.strip())


def _is_torch(requirement: str) -> bool:
    return canonicalize_name(Requirement(requirement).name) in TORCH_MODULES
