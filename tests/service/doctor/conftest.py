from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ishowtts_ops.facts.gather import Facts
from tests.service.doctor.healthy import Answers, HealthyBox, build, replay, restore


@dataclass(frozen=True)
class Template:
    """A healthy box, the same before install, a copy of the healthy one to be broken and restored,
    and its facts while it is healthy."""

    root: Path
    bare: Path
    copy: Path
    facts: Facts


@pytest.fixture(scope="session")
def answers() -> Answers:
    return Answers()


@pytest.fixture(scope="session")
def daemon_port(answers: Answers) -> Iterator[int]:
    with replay(answers) as port:
        yield port


MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Path]:
    """A folder in memory where there is such a thing: a box is a thousand tiny files."""
    where = str(MEMORY) if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="doctor-", dir=where) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def healthy_templates(in_memory: Path, daemon_port: int) -> Callable[[str], Template]:
    made: dict[str, Template] = {}

    def template(board: str) -> Template:
        if board not in made:
            folder = in_memory / board
            folder.mkdir()
            engine = "f5" if board.startswith("agx") else "tone"
            root, bare = folder / "template", folder / "bare"
            build(root, board, daemon_port, engine=engine, bare=bare)
            shutil.copytree(root, folder / "box", symlinks=True)
            facts = HealthyBox(folder / "box", Answers()).facts()
            made[board] = Template(root, bare, folder / "box", facts)
        return made[board]

    return template


@pytest.fixture
def healthy(
    healthy_templates: Callable[[str], Template], answers: Answers
) -> Iterator[Callable[[str], HealthyBox]]:
    """Healthy boxes by board, restored after the test."""
    used: list[tuple[Template, HealthyBox]] = []

    def take(board: str = "agx-orin-64") -> HealthyBox:
        template = healthy_templates(board)
        box = HealthyBox(template.copy, answers)
        used.append((template, box))
        return box

    vars(answers).update(vars(Answers()))
    yield take
    for template, box in used:
        box.clean_up()
        restore(template.root, template.copy)
    vars(answers).update(vars(Answers()))
