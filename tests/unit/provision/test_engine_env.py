from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.engine_python import faults
from ishowtts_ops.facts.python_env import REQUIRED, Package, PythonEnv, read_python_env
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision.engine_env import TORCH, EngineStep
from ishowtts_ops.steps import Ledger

INDEX = "https://jetson.invalid/jp6/cu126"


def environment(*, cuda: str | None, without: tuple[str, ...] = (), minor: int = 10) -> PythonEnv:
    packages = {name: Package(version="1.0") for name in REQUIRED if name not in without}
    if "numpy" in packages:
        packages["numpy"] = Package(version="1.26.4")
    if "torch" in packages:
        packages["torch"] = Package(version="2.8.0", cuda=cuda)
    return PythonEnv("/opt/x/bin/python", (3, minor, 0), "aarch64", packages, Unknown("not tried"))


@pytest.fixture
def jetson(tmp_path: Path) -> Host:
    host = Host.at(tmp_path)
    host.write("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.3\n")
    return host


def commands(host: Host, env: PythonEnv, **engine: str) -> list[tuple[str, ...]]:
    step = EngineStep(Settings.model_validate({"engine": engine}), Ledger.open(host))
    return step.commands(host, env)


def test_a_whole_environment_needs_nothing(jetson: Host) -> None:
    assert commands(jetson, environment(cuda="12.6"), torch_index=INDEX) == []


def test_on_a_jetson_torch_comes_only_from_its_own_index(jetson: Host) -> None:
    missing = environment(cuda=None, without=("torch", "torchaudio", "vocos"))
    torch, others = commands(jetson, missing, torch_index=INDEX)
    assert torch[-4:] == ("--index-url", INDEX, "torch", "torchaudio")
    assert "torch" not in others
    assert "numpy<2" in others, "JetPack 6's torch needs numpy 1"


def test_a_cpu_only_wheel_over_the_jetson_one_is_replaced(jetson: Host) -> None:
    (torch,) = commands(jetson, environment(cuda=None), torch_index=INDEX)
    assert "--force-reinstall" in torch


def test_without_an_index_a_jetson_gets_no_torch_by_accident(jetson: Host) -> None:
    with pytest.raises(OpsError, match="torch built for this Jetson") as caught:
        commands(jetson, environment(cuda=None, without=("torch",)))
    assert "engine.torch_index" in caught.value.hint


def test_elsewhere_torch_comes_from_the_general_index(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    host.write(SIM_MARKER, "{}")
    (torch,) = commands(host, environment(cuda=None, without=("torch", "torchaudio")))
    assert torch[-2:] == (f"torch=={TORCH}", f"torchaudio=={TORCH}")


def test_a_real_empty_interpreter_is_asked_and_a_plan_is_made(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", tmp_path / "box/opt/env"], check=True
    )
    host = Host.at(tmp_path / "box")
    host.write(SIM_MARKER, "{}")
    host = Host.at(tmp_path / "box")
    host.write(
        "/opt/env/bin/ours", f'#!/bin/sh\nexec {tmp_path}/box/opt/env/bin/python "$@"\n', mode=0o755
    )
    settings = Settings.model_validate({"engine": {"python": "/opt/env/bin/ours"}})
    change = EngineStep(settings, Ledger.open(host)).diff(host)
    assert change is not None
    assert all(name in change.summary for name in REQUIRED)
    ours = [line for line in change.preview if line.startswith("$ /opt/env/bin/ours -m")]
    assert [line.split()[3] for line in ours] == ["pip", "pip", "venv"]


def test_an_interpreter_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    host.write(SIM_MARKER, "{}")
    with pytest.raises(OpsError, match="is not on the box") as caught:
        EngineStep(Settings(), Ledger.open(Host.at(tmp_path))).diff(Host.at(tmp_path))
    assert "install.sh" in caught.value.hint


def test_what_is_wrong_is_said_in_words_and_mended_by_the_same_rule(jetson: Host) -> None:
    """`auto` passes an environment over for exactly what install would have pip mend in it."""
    env = environment(cuda="12.6")
    rows: list[tuple[PythonEnv, str]] = [
        (environment(cuda=None), "torch is built without CUDA"),
        (environment(cuda="12.6", without=("vocos", "rjieba")), "it lacks vocos, rjieba"),
        (_with_numpy(env, "2.2.0"), "numpy is 2.2.0, and JetPack 6's torch is built for numpy 1"),
        (_with_numpy(env, "1.24.1"), "numpy is 1.24.1, and 1.26 is the oldest"),
    ]
    for wrong, words in rows:
        (said,) = faults(jetson, Settings(), wrong)
        assert words in said
        assert commands(jetson, wrong, torch_index=INDEX) != []
    assert faults(jetson, Settings(), env) == ()
    on_the_cpu = Settings.model_validate({"f5": {"device": "cpu"}})
    assert faults(jetson, on_the_cpu, environment(cuda=None)) == (), "as its owner wants it"
    (old,) = commands(jetson, _with_numpy(env, "1.24.1"), torch_index=INDEX)
    assert old[-1] == "numpy>=1.26,<2"


def test_a_real_wheel_without_cuda_is_known_for_one(jetson: Host, tmp_path: Path) -> None:
    """Asked of a real interpreter: the general index's aarch64 wheel says so in version.py."""
    folder = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (module,) = folder.glob("lib/python*/site-packages")
    (module / "torch").mkdir()
    (module / "torch/__init__.py").write_text("")
    (module / "torch/version.py").write_text("__version__ = '2.8.0+cpu'\ncuda = None\n")
    env = read_python_env(Host.at("/").read_only(), str(folder / "bin/python"))
    assert isinstance(env, PythonEnv) and env.package("torch").version == "2.8.0+cpu"
    assert "its torch is built without CUDA" in faults(jetson, Settings(), env)


def _with_numpy(env: PythonEnv, version: str) -> PythonEnv:
    return replace(env, packages={**env.packages, "numpy": Package(version=version)})


def test_numpy_2_on_jetpack_6_is_taken_back(jetson: Host) -> None:
    env = environment(cuda="12.6")
    wrong = {**env.packages, "numpy": Package(version="2.2.0")}
    (only,) = commands(jetson, replace(env, packages=wrong), torch_index=INDEX)
    assert only[-1] == "numpy<2" and "torch" not in only
    for fine in (environment(cuda="12.6", minor=12), environment(cuda="13.0")):
        packages = {**fine.packages, "numpy": Package(version="2.2.0")}
        assert commands(jetson, replace(fine, packages=packages), torch_index=INDEX) == []
