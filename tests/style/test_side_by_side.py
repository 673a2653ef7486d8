"""`pytest -n`: what may not run at the same time does not, and a failure is told as ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TEST = """
import os
import pytest

@pytest.mark.parametrize("number", range(4))
def test_where(number):
    with open({seen!r}, "a") as file:
        file.write(f"{name} {{os.environ['PYTEST_XDIST_WORKER']}}\\n")
    assert {good}, "wanted in vain"
"""


def test_containers_share_a_process_and_other_files_are_whole(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    names = ["box/test_a", "box/test_b", "unit/test_c", "unit/test_d", "whole/test_e"]
    for name in names:
        file = tmp_path / f"tests/{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        good = "number != 2" if name == "unit/test_d" else "True"
        file.write_text(TEST.format(seen=str(seen), name=name, good=good))
    argv = [sys.executable, "-m", "pytest", "--numprocesses=2", "--import-mode=importlib"]
    argv += [
        "-p",
        "xdist",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tmp_path}",
        "tests",
    ]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_ADDOPTS"):
        env.pop(name, None)
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED tests/unit/test_d.py::test_where[2] - AssertionError: wanted" in done.stdout
    assert "1 failed, 19 passed" in done.stdout
    rows = [row.split() for row in seen.read_text().splitlines()]
    where = {name: {worker for each, worker in rows if each == name} for name in names}
    assert len(where["box/test_a"]) == 1 and where["box/test_a"] == where["box/test_b"]
    assert all(len(workers) == 1 for workers in where.values())
    assert len(set.union(*where.values())) > 1, "nothing ran side by side"
