"""Fixtures of several test files: boxes with a real F5-TTS as a submodule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.f5 import Box, build_template, cache_folder, copy_box, wheel


@pytest.fixture(scope="session")
def f5_cache() -> Path:
    """The folder of F5-TTS wheels; each is fetched once and then used offline."""
    return cache_folder()


@pytest.fixture(scope="session")
def f5_wheel() -> Callable[[str], Path]:
    """The wheel of a version."""
    return wheel


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Box roots by version, built when first asked for. That of 1.1.9 knows 1.1.22 as well."""
    built: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("templates")

    def template(version: str) -> Path:
        if version not in built:
            also = ("1.1.22",) if version == "1.1.9" else ()
            built[version] = build_template(folder / version, version, also)
        return built[version]

    return template


@pytest.fixture
def box(templates: Callable[[str], Path], tmp_path: Path) -> Box:
    """A box with F5-TTS 1.1.9 as iShowTTS has it, to be changed at will."""
    return copy_box(templates("1.1.9"), tmp_path / "box")
