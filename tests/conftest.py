"""Fixtures of several test files: boxes with a real F5-TTS as a submodule."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from ishowtts_ops.provision.series import Series
from tests.support.f5 import Box, build_template, cache_folder, copy_box, wheel
from tests.support.patching import small_series

# How long an example takes is the machine's doing: other processes test at the same time.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`pytest -n` gives out whole files; every other `--dist` is pytest-xdist's own."""
    if config.getoption("dist") != "load":
        return None
    from tests.support.scheduling import ByFile

    return ByFile(config, log)


@pytest.fixture(scope="session")
def f5_cache() -> Path:
    """The folder of F5-TTS wheels; each is fetched once and then used offline."""
    return cache_folder()


@pytest.fixture(scope="session")
def f5_wheel() -> Callable[[str], Path]:
    """The wheel of a version."""
    return wheel


def _memory() -> str | None:
    """A file system in memory, where there is one: a box is written with an fsync for each file,
    which on a busy disk takes most of a test's time."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.fixture(scope="session")
def templates() -> Iterator[Callable[[str], Path]]:
    """Box roots by version, built when first asked for. That of 1.1.9 knows 1.1.22 as well."""
    built: dict[str, Path] = {}
    folder = Path(tempfile.mkdtemp(prefix="ishowtts-templates-", dir=_memory()))

    def template(version: str) -> Path:
        if version not in built:
            also = ("1.1.22",) if version == "1.1.9" else ()
            built[version] = build_template(folder / version, version, also)
        return built[version]

    yield template
    shutil.rmtree(folder)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """Like tmp_path, in memory where possible."""
    folder = Path(tempfile.mkdtemp(prefix="ishowtts-boxes-", dir=_memory()))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def boxes(templates: Callable[[str], Path], memory_path: Path) -> Callable[[str], Box]:
    """Makes a box with F5-TTS of the wanted version as iShowTTS has it, to be changed at will."""

    def make(version: str) -> Box:
        number = len(os.listdir(memory_path))
        return copy_box(templates(version), memory_path / f"{version}-{number}")

    return make


@pytest.fixture
def box(boxes: Callable[[str], Box]) -> Box:
    """A box with F5-TTS 1.1.9, the version that iShowTTS boxes have."""
    return boxes("1.1.9")


@pytest.fixture
def series(box: Box, tmp_path: Path) -> Series:
    """A small series for the sources of `box`: two hooks and three added files."""
    return small_series(box, tmp_path)
