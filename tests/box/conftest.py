"""Boxes for tests. Everything here is marked `box` and skipped, with the reason, where no container
can be booted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import program, rootfs
from tests.support.container import Box, new_box

HERE = Path(__file__).parent
BOARD = "agx-orin-64"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; this hook is given those of all folders."""
    mine = [item for item in items if HERE in item.path.parents]
    reason = rootfs.why_not() if mine else None
    for item in mine:
        item.add_marker(pytest.mark.box)
        # The first fixture may have to build the base, which takes as long as the mirror does.
        item.add_marker(pytest.mark.timeout(300, func_only=True))
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def base() -> Path:
    """The root file system that all boxes start from; built when there is none in the cache."""
    root = rootfs.base_rootfs()
    reason = program.why_not(root)
    if reason is not None:
        pytest.skip(reason)
    return root


@pytest.fixture
def box(base: Path) -> Iterator[Box]:
    """A fresh AGX Orin that has booted, for tests that change it."""
    with new_box(BOARD) as fresh:
        fresh.boot()
        yield fresh


@pytest.fixture(scope="module")
def shared_box(base: Path) -> Iterator[Box]:
    """One AGX Orin for all the tests of a file that only look."""
    with new_box(BOARD) as fresh:
        fresh.boot()
        yield fresh
