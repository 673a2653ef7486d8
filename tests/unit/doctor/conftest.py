from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from healthy import Answers, HealthyBox, build, replay


@pytest.fixture(scope="session")
def answers() -> Answers:
    return Answers()


@pytest.fixture(scope="session")
def daemon_port(answers: Answers) -> Iterator[int]:
    with replay(answers) as port:
        yield port


@pytest.fixture(scope="session")
def healthy_templates(tmp_path_factory: pytest.TempPathFactory, daemon_port: int) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def template(board: str) -> Path:
        if board not in made:
            root = tmp_path_factory.mktemp("healthy") / "box"
            build(root, board, daemon_port)
            made[board] = root
        return made[board]

    return template


@pytest.fixture
def healthy(
    healthy_templates: Callable[[str], Path], answers: Answers, tmp_path: Path
) -> Iterator[Callable[[str], HealthyBox]]:
    """Copies of healthy boxes, by board."""
    fresh = Answers()

    def copy(board: str = "agx-orin-64") -> HealthyBox:
        root = tmp_path / "box"
        shutil.copytree(healthy_templates(board), root, symlinks=True)
        return HealthyBox(root, answers)

    vars(answers).update(vars(fresh))
    yield copy
    vars(answers).update(vars(Answers()))
