"""Real F5-TTS sources from the package index, with the series applied to them.

Each version is downloaded once into a cache folder (`ISHOWTTS_TEST_CACHE`, by default
`~/.cache/ishowtts-ops-tests`), unpacked to `<tmp>/<version>/src`, and patched there. Upstream's
code runs in the same process under the module name `f5_tts`, one version at a time.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VERSIONS = ("1.1.9", "1.1.17", "1.1.22")
SERIES = Path(__file__).resolve().parents[2] / "patches" / "f5-tts"


def cache_folder() -> Path:
    default = Path.home() / ".cache" / "ishowtts-ops-tests"
    return Path(os.environ.get("ISHOWTTS_TEST_CACHE") or default)


def wheel(version: str) -> Path:
    """The wheel of this version, downloaded if it is not in the cache."""
    folder = cache_folder()
    found = sorted(folder.glob(f"f5_tts-{version}-*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        done = subprocess.run([*command, f"f5-tts=={version}"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"f5-tts {version} could not be downloaded: {done.stderr.strip()[-200:]}")
        found = sorted(folder.glob(f"f5_tts-{version}-*.whl"))
    return found[0]


def unpack(version: str, target: Path) -> Path:
    """An unpatched checkout's layout: `target/src/f5_tts`."""
    with zipfile.ZipFile(wheel(version)) as archive:
        names = [name for name in archive.namelist() if name.startswith("f5_tts/")]
        archive.extractall(target / "src", names)
    return target


def series_for(version: str) -> list[Path]:
    """The patches of the series that are for this version, in order."""
    chosen = []
    for line in (SERIES / "series").read_text().splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        only = [
            word.partition("=")[2].split(",") for word in words[1:] if word.startswith("versions=")
        ]
        if not only or version in only[0]:
            chosen.append(SERIES / words[0])
    return chosen


def apply_series(version: str, root: Path) -> None:
    """Copy the added files and apply the hooks; a hook that does not fit fails the test."""
    shutil.copytree(
        SERIES / "files", root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    for patch in series_for(version):
        done = subprocess.run(
            ["git", "apply", "-p1", "--whitespace=nowarn", str(patch)],
            cwd=root, capture_output=True, text=True,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)},
        )  # fmt: skip
        assert done.returncode == 0, f"{patch.name} on {version}: {done.stderr}"


def forget_f5() -> None:
    for name in [name for name in sys.modules if name == "f5_tts" or name.startswith("f5_tts.")]:
        del sys.modules[name]


@contextmanager
def importing(source: Path) -> Iterator[None]:
    """Within this block `import f5_tts...` means the tree at `source`, freshly imported."""
    forget_f5()
    sys.path.insert(0, str(source))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(source))
        forget_f5()
