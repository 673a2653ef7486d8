"""Boxes without a network, and environments that are not ours: real pip, small real wheels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import CommandFailed, OpsError, UsageError
from ishowtts_ops.facts.python_env import REQUIRED
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision import engine_pip, wheels
from ishowtts_ops.provision.engine_env import TORCH, EngineStep
from ishowtts_ops.steps import Ledger
from tests.support.package_index import served
from tests.support.wheels import tiny_wheel, wheel_of

CONDA = "/opt/miniforge3/envs/ishowtts/bin/python"
SETTINGS = Settings.model_validate({"engine": {"python": CONDA}})
JETSON = "cp310-cp310-linux_aarch64"


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything the engine imports: small, but for what our daemon imports as well."""
    folder = tmp_path_factory.mktemp("index")
    for module in REQUIRED:
        name = module.replace("_", "-")
        if module in ("torch", "torchaudio"):
            tiny_wheel(folder, name, TORCH)
        elif module == "vocos":
            tiny_wheel(folder, name, "0.1.0", requires=("numpy>=1.26", "torch"))
        elif module == "x_transformers":
            tiny_wheel(folder, name, "2.0.0", requires=("torch", "einops"))
        elif module not in ("numpy", "soundfile"):
            tiny_wheel(folder, name, "1.0")
    tiny_wheel(folder, "einops", "0.8.0")
    for version in ("1.20", "1.26.4"):
        tiny_wheel(folder, "numpy", version)
    for name in ("numpy", "soundfile"):
        wheel_of(folder, name)
    return folder


@pytest.fixture(scope="module")
def conda(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Path:
    """A real environment with an old numpy and a package that is nobody's business."""
    folder = tmp_path_factory.mktemp("conda")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    mine = tiny_wheel(folder, "rust-glue", "3.0")
    argv = [folder / "env/bin/python", "-m", "pip", "install", "-q", "--no-index"]
    subprocess.run([*argv, f"--find-links={index}", "numpy==1.20", mine], check=True)
    return folder / "env"


@pytest.fixture
def box(tmp_path: Path, index: Path, conda: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A box with iShowTTS's conda environment."""
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "box"
    real = root / "opt/miniforge3/envs/ishowtts/real"
    shutil.copytree(conda, real, symlinks=True)
    host = Host.at(root)
    host.write(SIM_MARKER, "{}")
    host = Host.at(root)
    host.write(CONDA, f'#!/bin/sh\nexec {real}/bin/python "$@"\n', mode=0o755)
    return host


def test_a_foreign_environment_is_completed_offline_and_given_back(
    box: Host, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = engine_pip.packages(box, CONDA)
    assert before["numpy"] == "1.20" and "torch" not in before
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)  # --wheels alone must do
    change = EngineStep(SETTINGS, Ledger.open(box), index).diff(box.read_only())
    assert change is not None
    pip = [line for line in change.preview if " -m pip " in line]
    assert len(pip) == 3 and all("--no-index" in line for line in pip)
    assert engine_pip.packages(box, CONDA) == before, "a plan changes nothing"
    change = EngineStep(SETTINGS, Ledger.open(box), index).diff(box)
    assert change is not None
    change.apply(quiet)
    assert EngineStep(SETTINGS, Ledger.open(box), index).diff(box) is None
    now = engine_pip.packages(box, CONDA)
    assert (now["torch"], now["rust-glue"], now["einops"]) == (TORCH, "3.0", "0.8.0")
    assert now["numpy"] != "1.20", "vocos needs a newer one"

    lines = engine_pip.changed(Ledger.open(box))
    assert f"torch {TORCH} -> gone" in lines
    assert f"numpy {now['numpy']} -> 1.20" in lines
    assert not any("rust-glue" in line for line in lines)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert engine_pip.undo(box, Ledger.open(box), quiet) == ()
    assert engine_pip.packages(box, CONDA) == before


def test_what_its_owner_changed_since_stays(box: Host, index: Path) -> None:
    before = engine_pip.packages(box, CONDA)
    engine_pip.record(Ledger.open(box), CONDA, {**before, "numpy": "1.0"}, before)
    argv = (*engine_pip.install(CONDA), "numpy==1.26.4")
    box.run(argv, timeout=60).check()
    assert engine_pip.undo(box, Ledger.open(box), quiet) == ()
    assert engine_pip.packages(box, CONDA)["numpy"] == "1.26.4"


def test_a_failed_second_command_leaves_the_first_in_the_ledger(
    box: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    few = tmp_path / "few"
    for name in ("torch", "torchaudio"):
        tiny_wheel(few, name, TORCH)
    change = EngineStep(SETTINGS, Ledger.open(box), few).diff(box)
    assert change is not None
    with pytest.raises(CommandFailed):
        change.apply(quiet)
    note = Ledger.open(box).notes[engine_pip.NOTE]
    assert set(note["packages"]) == {"torch", "torchaudio"}


def test_what_was_there_first_is_remembered_through_two_repairs(tmp_path: Path) -> None:
    ledger = Ledger.open(Host.at(tmp_path))
    engine_pip.record(ledger, CONDA, {"numpy": "1.20"}, {"numpy": "1.26.4", "torch": "2.8"})
    engine_pip.record(ledger, CONDA, {"numpy": "1.26.4", "torch": "2.8"}, {"numpy": "2.2.0"})
    rows = json.loads(json.dumps(Ledger.open(Host.at(tmp_path)).notes))[engine_pip.NOTE]["packages"]
    assert rows["numpy"] == {"was": "1.20", "now": "2.2.0"}
    assert rows["torch"] == {"was": None, "now": None}


def test_our_own_environment_goes_with_us(tmp_path: Path) -> None:
    ledger = Ledger.open(Host.at(tmp_path))
    engine_pip.record(ledger, "/opt/ishowtts-ops/venv/bin/python", {}, {"torch": "2.8"})
    assert engine_pip.changed(ledger) == ()


def test_wheels_for_a_jetson_are_made_on_any_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "jetson-index"
    for name in ("torch", "torchaudio"):
        for tag in (JETSON, "cp310-cp310-manylinux_2_28_x86_64", "cp312-cp312-linux_aarch64"):
            tiny_wheel(source, name, "2.8.0", tag=tag)
    for module in set(REQUIRED) - {"torch", "torchaudio", "numpy", "vocos", "x_transformers"}:
        tiny_wheel(source, module.replace("_", "-"), "1.0")
    tiny_wheel(source, "vocos", "0.1.0", requires=("torch", "numpy"))
    tiny_wheel(source, "x-transformers", "2.0.0", requires=("torch>=2.0", "einops"))
    tiny_wheel(source, "einops", "0.8.0")
    for version in ("1.26.4", "2.2.0"):
        tag = "cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64"
        tiny_wheel(source, "numpy", version, tag=tag)
    tiny_wheel(source, "f5-tts", "1.1.22", requires=("gradio",))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    settings = Settings.model_validate({"engine": {"torch_index": "https://jetson.invalid/jp6"}})
    folder = tmp_path / "out"
    target = wheels.target_of("6.2")
    names = wheels.make(Host.at(tmp_path), settings, target, folder, quiet)
    assert f"torch-2.8.0-{JETSON}.whl" in names and "f5_tts-1.1.22-py3-none-any.whl" in names
    assert [n.split("-")[1] for n in names if n.startswith("numpy")] == ["1.26.4"]
    assert any(n.startswith("einops") for n in names), "what they need is there too"
    assert not any("gradio" in n or "x86_64" in n for n in names)
    assert wheels.make(Host.at(tmp_path), settings, target, folder, quiet) == names, "again"


@pytest.mark.parametrize(
    ("jetpack", "python", "numpy"), [("6.2", "cp310", "1.26.4"), ("7.2", "cp312", "2.2.0")]
)
def test_wheels_come_from_two_indexes_over_http_torch_from_the_jetsons_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    jetpack: str,
    python: str,
    numpy: str,
) -> None:
    """The general index also has torch for aarch64, and a newer one: built without CUDA."""
    jetson, general = tmp_path / "jetson", tmp_path / "general"
    for name in ("torch", "torchaudio"):
        for tag in ("cp310-cp310-linux_aarch64", "cp312-cp312-linux_aarch64"):
            tiny_wheel(jetson, name, "2.8.0", tag=tag)
        for tag in ("cp310-cp310-manylinux_2_28_aarch64", "cp312-cp312-manylinux_2_28_aarch64"):
            tiny_wheel(general, name, "2.11.0", tag=tag)
    for module in set(REQUIRED) - {"torch", "torchaudio", "numpy", "vocos", "x_transformers"}:
        tiny_wheel(general, module.replace("_", "-"), "1.0")
    tiny_wheel(general, "vocos", "0.1.0", requires=("torch", "numpy"))
    tiny_wheel(general, "x-transformers", "2.0.0", requires=("torch>=2.0", "einops"))
    tiny_wheel(general, "einops", "0.8.0")
    for version in ("1.26.4", "2.2.0"):
        for tag in ("cp310-cp310", "cp312-cp312"):
            tiny_wheel(general, "numpy", version, tag=f"{tag}-manylinux_2_17_aarch64")
            tiny_wheel(general, "numpy", version, tag=f"{tag}-manylinux_2_17_x86_64")
    tiny_wheel(general, "f5-tts", "1.1.22", requires=("gradio",))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "out"
    with served(tmp_path / "www") as index:
        index.publish("jetson", jetson)
        index.publish("general", general)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", index.url("general"))
        config = tmp_path / "config.yaml"
        config.write_text(f"engine: {{torch_index: '{index.url('jetson')}'}}\n")
        verb = ["wheels", "make", str(folder), "--jetpack", jetpack, "--json"]
        argv = [sys.executable, "-m", "ishowtts_ops", *verb, "--config", str(config)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout)["data"]["wheels"]
    assert sorted(path.name for path in folder.iterdir()) == names
    torch = {
        f"{name}-2.8.0-{python}-{python}-linux_aarch64.whl" for name in ("torch", "torchaudio")
    }
    assert index.fetched("jetson") == torch
    assert not any("torch-" in name for name in index.fetched("general"))
    assert [name.split("-")[1] for name in names if name.startswith("numpy")] == [numpy]
    assert {name for name in names if name.startswith("torch-")} <= torch
    assert not any("x86_64" in name or "gradio" in name for name in names)
    modules = {name.split("-")[0] for name in names}
    assert modules == {*REQUIRED, "einops", "f5_tts"}


def test_where_wheels_cannot_be_had_it_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"JetPack 5\.1\.2.*Python is 3\.8"):
        wheels.target_of("5.1.2")
    with pytest.raises(OpsError, match="is not said"):
        wheels.make(Host.at(tmp_path), Settings(), wheels.target_of("6.2"), tmp_path, quiet)
    with pytest.raises(UsageError, match="holds no wheels"):
        wheels.offline_options(tmp_path)
