"""Boxes without a network, and environments that are not ours: real pip, small real wheels."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import CommandFailed, OpsError, UsageError
from ishowtts_ops.facts.python_env import REQUIRED
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision import engine_pip, wheels
from ishowtts_ops.provision.engine_env import TORCH, EngineStep
from ishowtts_ops.steps import Ledger
from tests.support.package_index import PackageIndex, served
from tests.support.wheels import tiny_sdist, tiny_wheel, wheel_of

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


def test_torch_comes_from_the_named_index_alone(
    box: Host, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip's configuration names a folder with a newer one, and pip would take it."""
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    for name in ("torch", "torchaudio"):
        tiny_wheel(tmp_path / "jetson", name, "2.8.0")
    with served(tmp_path / "www") as jetson:
        jetson.publish("jetson", tmp_path / "jetson")
        jetson.publish("general", index)
        url = jetson.url("general")
        text = f"[global]\nindex-url = {url}\nextra-index-url = {url}\nfind-links = {index}\n"
        (tmp_path / "pip.conf").write_text(text)
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        told = {"engine": {"python": CONDA, "torch_index": jetson.url("jetson")}}
        change = EngineStep(Settings.model_validate(told), Ledger.open(box)).diff(box)
        assert change is not None
        change.apply(quiet)
    now = engine_pip.packages(box, CONDA)
    assert (now["torch"], now["torchaudio"]) == ("2.8.0", "2.8.0")
    assert "vocos" in now, "the others come from where pip is told to look"


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


PROGRAM = {
    "prometheus-client",
    "pyyaml",
    "soxr",
    "websockets",
    "matplotlib",
    "soundfile",
    "python-multipart",
    "psutil",
    "av",
    "packaging",
    "jetson-stats",
    "rich",
    "typer",
    "huggingface-hub",
    "fastapi",
    "uvicorn",
    "httpx",
    "httptools",
    "tomlkit",
    "uvloop",
    "pydantic",
}
"""What pyproject.toml asks for beside numpy and, before Python 3.11, tomli."""

PYTHONS = ("cp310", "cp312")


class Indexes:
    """Two package indexes: the Jetson's, and the general one, which also has torch for aarch64, and
    a newer one: built without CUDA."""

    def __init__(self, folder: Path) -> None:
        self.jetson, self.general = folder / "jetson", folder / "general"
        for python in PYTHONS:
            for name, needs in (("torch", ("filelock",)), ("torchaudio", ("torch==2.8.0",))):
                tag = f"{python}-{python}-linux_aarch64"
                tiny_wheel(self.jetson, name, "2.8.0", tag=tag, requires=needs)
                newer = tag.replace("linux", "manylinux_2_28")
                tiny_wheel(self.general, name, "2.11.0", tag=newer)
            # The newest torch of the index has no torchaudio of its own yet.
            tiny_wheel(self.jetson, "torch", "2.9.0", tag=f"{python}-{python}-linux_aarch64")
            for version in ("1.26.4", "2.2.0"):
                for machine in ("aarch64", "x86_64"):
                    tag = f"{python}-{python}-manylinux_2_17_{machine}"
                    tiny_wheel(self.general, "numpy", version, tag=tag)
        special = {"torch", "torchaudio", "numpy", "vocos", "x_transformers", "soundfile"}
        for module in set(REQUIRED) - special:
            self.add(module.replace("_", "-"), "1.0")
        for name in PROGRAM - {"httpx", "uvicorn"}:
            self.add(name, "99.0")
        self.add("vocos", "0.1.0", "torch", "numpy", "encodec==0.1.1")
        self.add("x-transformers", "2.0.0", "torch>=2.0", "einops>=0.8.0")
        self.add("f5-tts", "1.1.22", "gradio")
        self.add("httpx", "99.0", "anyio")
        self.add("uvicorn", "99.0", "h11>=0.8", "colorama; sys_platform == 'win32'")
        self.add("anyio", "4.0", "exceptiongroup; python_version < '3.11'", "idna>=2.8")
        self.add("hatchling", "1.27", "pluggy", "tomli; python_version < '3.11'", "einops<0.9")
        for name in ("exceptiongroup", "idna", "h11", "pluggy", "tomli", "filelock"):
            self.add(name, "3.0")
        for version in ("0.8.0", "0.8.1", "0.9.0"):
            self.add("einops", version)

    def add(self, name: str, version: str, *requires: str) -> None:
        tiny_wheel(self.general, name, version, requires=requires)


@pytest.fixture
def indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Indexes, Made]]:
    """The two, over HTTP; and `wheels make` with them, as a person types it."""
    both = Indexes(tmp_path / "indexes")
    tiny_sdist(both.general, "encodec", "0.1.1")
    with served(tmp_path / "www") as index:

        def make(folder: Path, jetpack: str, check: bool = True) -> tuple[list[str], str]:
            index.publish("jetson", both.jetson)
            index.publish("general", both.general)
            verb = ["wheels", "make", str(folder), "--jetpack", jetpack, "--json"]
            words = [*verb, "--torch-index", index.url("jetson")]
            argv = [sys.executable, "-m", "ishowtts_ops", *words]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
            assert (done.returncode == 0) is check, done.stderr
            told = json.loads(done.stdout)
            return told["data"]["wheels"] if check else [], done.stdout + done.stderr

        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_INDEX_URL", index.url("general"))
        # As boxes have it; pip would look there beside --index-url.
        config = tmp_path / "pip.conf"
        lines = f"extra-index-url = {index.url('general')}\nfind-links = {both.general}\n"
        config.write_text(f"[global]\n{lines}")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
        yield both, Made(index, make)


@dataclass(frozen=True)
class Made:
    """`wheels make`: folder, JetPack, whether it is to end well → names of wheels, what it says."""

    index: PackageIndex
    run: Callable[..., tuple[list[str], str]]


@pytest.mark.parametrize(
    ("jetpack", "python", "numpy"), [("6.2", "cp310", "1.26.4"), ("7.2", "cp312", "2.2.0")]
)
def test_one_folder_has_all_that_a_jetson_needs(
    indexes: tuple[Indexes, Made], tmp_path: Path, jetpack: str, python: str, numpy: str
) -> None:
    """Whatever Python makes it: conditions are the Jetson's, and so is torch."""
    _, made = indexes
    folder = tmp_path / "out"
    names, _ = made.run(folder, jetpack)
    assert sorted(path.name for path in folder.iterdir()) == names
    torch = {
        f"{name}-2.8.0-{python}-{python}-linux_aarch64.whl" for name in ("torch", "torchaudio")
    }
    assert {name for name in names if name.startswith("torch-")} <= torch <= set(names)
    assert not any(re.match("torch(audio)?-", name) for name in made.index.fetched("general"))
    assert [name.split("-")[1] for name in names if name.startswith("numpy")] == [numpy]
    assert "einops-0.8.1-py3-none-any.whl" in names, "the newest that suits everybody"
    assert not any("x86_64" in name for name in names)
    modules = {name.split("-")[0] for name in names}
    old = {"exceptiongroup", "tomli"} if python == "cp310" else set()
    beside = {"einops", "encodec", "f5_tts", "hatchling", "anyio", "idna", "h11", "pluggy"}
    program = {name.replace("-", "_") for name in PROGRAM}
    assert modules == {*REQUIRED, *program, *beside, "filelock", *old}


def test_the_program_is_built_with_what_pyproject_names(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'requires = ["{wheels.BUILD_BACKEND}"]' in text


def test_a_run_that_was_killed_is_continued_and_jetpacks_are_not_mixed(
    indexes: tuple[Indexes, Made], tmp_path: Path
) -> None:
    _, made = indexes
    folder = tmp_path / "out"
    names, _ = made.run(folder, "6.2")
    cut = folder / names[0]
    cut.write_bytes(cut.read_bytes()[:200])
    (folder / names[1]).unlink()
    kept = {name: (folder / name).stat().st_mtime_ns for name in names[2:]}
    assert made.run(folder, "6.2")[0] == names
    assert kept == {name: (folder / name).stat().st_mtime_ns for name in names[2:]}
    zipfile.ZipFile(cut).close()
    _, said = made.run(folder, "7.2", check=False)
    assert "is for another machine or another Python" in said and "an empty one" in said
    assert sorted(path.name for path in folder.iterdir()) == names


def test_what_must_be_compiled_on_the_box_is_named(
    indexes: tuple[Indexes, Made], tmp_path: Path
) -> None:
    both, made = indexes
    both.add("uvicorn", "99.0", "clockwork>=2")
    tiny_sdist(both.general, "clockwork", "2.1", tag="cp310-cp310-linux_mips")
    _, said = made.run(tmp_path / "out", "6.2", check=False)
    assert "clockwork>=2 (uvicorn-99.0-py3-none-any.whl wants >=2) is published as sources" in said
    assert "on a box with that JetPack" in said and "Traceback" not in said
    # As its next step says: a wheel from such a box.
    tiny_wheel(tmp_path / "out", "clockwork", "2.1", tag=JETSON)
    assert f"clockwork-2.1-{JETSON}.whl" in made.run(tmp_path / "out", "6.2")[0]


def test_what_nobody_has_is_a_sentence(indexes: tuple[Indexes, Made], tmp_path: Path) -> None:
    both, made = indexes
    both.add("uvicorn", "99.0", "nowhere-to-be-found")
    _, said = made.run(tmp_path / "out", "6.2", check=False)
    assert "nowhere-to-be-found cannot be had" in said and "uvicorn-99.0" in said
    for wheel in both.jetson.iterdir():
        wheel.unlink()
    _, said = made.run(tmp_path / "out2", "6.2", check=False)
    assert "torch" in said and "cannot be had" in said
    assert not any(re.match("torch(audio)?-", name) for name in made.index.fetched("general"))


def test_where_wheels_cannot_be_had_it_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"JetPack 5\.1\.2.*Python is 3\.8"):
        wheels.target_of("5.1.2")
    host, target = Host.at(tmp_path), wheels.target_of("6.2")
    with pytest.raises(OpsError, match="is not said"):
        wheels.make(host, target, tmp_path, quiet, None, "1.1.22")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        wheels.make(host, target, tmp_path / "file", quiet, "http://x.invalid", "1.1.22")
    with pytest.raises(UsageError, match="holds no wheels"):
        wheels.offline_options(tmp_path)
    with pytest.raises(UsageError, match="There is no folder"):
        wheels.offline_options(tmp_path / "nowhere")
