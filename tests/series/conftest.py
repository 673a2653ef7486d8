"""Fixtures of the series tests: each supported version of F5-TTS, patched and importable."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Test modules import their helpers by name, whatever import mode pytest runs in.
sys.path.insert(0, str(Path(__file__).parent))

from f5_sources import VERSIONS, apply_series, importing, unpack

HAS_TORCH = importlib.util.find_spec("torch") is not None
collect_ignore_glob = [] if HAS_TORCH else ["test_*.py"]


def pytest_report_header() -> str:
    return "series: torch found" if HAS_TORCH else "series: SKIPPED, torch is not installed"


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Patched `src` folder of a version, made once per session."""
    made: dict[str, Path] = {}

    def source(version: str) -> Path:
        if version not in made:
            root = unpack(version, tmp_path_factory.mktemp(f"f5-{version}"))
            apply_series(version, root)
            made[version] = root / "src"
        return made[version]

    return source


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture(scope="module")
def patched(version: str, sources: Callable[[str], Path]) -> Iterator[Path]:
    """Each version in turn, patched and importable."""
    with importing(sources(version)):
        yield sources(version)


@pytest.fixture(scope="module")
def newest(sources: Callable[[str], Path]) -> Iterator[Path]:
    """The newest version alone, for what upstream's version cannot change."""
    with importing(sources(VERSIONS[-1])):
        yield sources(VERSIONS[-1])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The network is tiny: more threads only wait for each other on a busy machine."""
    import torch

    torch.set_num_threads(1)
