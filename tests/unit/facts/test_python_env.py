"""The engine's environment, asked through real interpreters that see made-up packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.facts.python_env import (
    REQUIRED,
    NoInterpreter,
    PythonEnv,
    parse_answer,
    read_python_env,
)
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host

VERSIONS = dict.fromkeys(REQUIRED, "1.0.0") | {"numpy": "1.26.4"}
PYTHON = "/opt/env/bin/python"


def package(site: Path, name: str, version: str, body: str = "") -> None:
    """A package that importlib finds: a folder with its code, and its metadata."""
    (site / name).mkdir(parents=True)
    (site / name / "__init__.py").write_text(body)
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
    (info / "METADATA").write_text(text)


def torch(site: Path, version: str, cuda: str | None, name: str = "torch") -> None:
    package(site, name, version.partition("+")[0])
    text = f"__version__ = {version!r}\n"
    text += f"cuda = {cuda!r}\n" if name == "torch" else ""
    (site / name / "version.py").write_text(text)


def interpreter(root: Path, start: str = "") -> Path:
    """The interpreter of the tests, seeing no packages but those below the returned folder."""
    site = root / "opt/env/site"
    site.mkdir(parents=True)
    program = root / PYTHON.lstrip("/")
    program.parent.mkdir(parents=True)
    real = Path(sys.executable).resolve()
    program.write_text(f'#!/bin/sh\n{start}\nPYTHONPATH={site} exec {real} -S "$@"\n')
    program.chmod(0o755)
    (root / "etc").mkdir()
    (root / "etc/ishowtts-sim.json").write_text("{}\n")
    return site


def ask(root: Path, *, thorough: bool = False) -> PythonEnv:
    env = read_python_env(Host.at(root).read_only(), PYTHON, thorough=thorough)
    assert isinstance(env, PythonEnv), env
    return env


def test_versions_and_what_is_missing(tmp_path: Path) -> None:
    site = interpreter(tmp_path)
    package(site, "numpy", "1.26.4")
    package(site, "x_transformers", "2.1.0")
    torch(site, "2.8.0", "12.6")
    torch(site, "2.8.0", None, "torchaudio")
    env = ask(tmp_path)
    assert env.python == sys.version_info[:3]
    assert env.package("x_transformers").version == "2.1.0"
    assert env.package("torch").cuda == "12.6"
    assert env.numpy_major == 1
    assert not env.cpu_only
    assert env.missing == ("vocos", "torchdiffeq", "soundfile", "safetensors", "pypinyin", "rjieba")


def test_a_cpu_only_wheel_is_recognised_without_importing_it(tmp_path: Path) -> None:
    site = interpreter(tmp_path)
    torch(site, "2.11.0+cpu", None)
    (site / "torch/__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    env = ask(tmp_path)
    assert env.cpu_only
    assert env.package("torch").version == "2.11.0+cpu"
    assert env.package("torch").error is None
    assert isinstance(env.kernel, Unknown)


def test_the_thorough_look_imports_and_says_what_fails(tmp_path: Path) -> None:
    site = interpreter(tmp_path)
    package(site, "soundfile", "0.13", "raise OSError('sndfile library not found')\n")
    package(site, "vocos", "0.1.0")
    env = ask(tmp_path, thorough=True)
    assert env.package("soundfile").error == "OSError: sndfile library not found"
    assert env.package("vocos").error is None


def test_looking_writes_nothing(tmp_path: Path) -> None:
    site = interpreter(tmp_path)
    torch(site, "2.8.0", "12.6")
    package(site, "vocos", "0.1.0")
    before = sorted(tmp_path.rglob("*"))
    ask(tmp_path, thorough=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_interpreter_is_known_not_to_be_there(tmp_path: Path) -> None:
    assert isinstance(read_python_env(Host.at(tmp_path), PYTHON), NoInterpreter)


def test_an_interpreter_that_fails_is_unknown_with_its_last_words(tmp_path: Path) -> None:
    interpreter(tmp_path, "echo 'error while loading shared libraries: libpython' >&2; exit 127")
    env = read_python_env(Host.at(tmp_path), PYTHON)
    assert isinstance(env, Unknown)
    assert "libpython" in env.reason


def test_words_before_the_answer_do_no_harm(tmp_path: Path) -> None:
    interpreter(tmp_path, "echo 'Welcome to your Jetson'")
    assert ask(tmp_path).python == sys.version_info[:3]


@pytest.mark.parametrize("version", ["", "abc", "١.2", "2"])
def test_odd_numpy_versions(tmp_path: Path, version: str) -> None:
    site = interpreter(tmp_path)
    package(site, "numpy", version or "0")
    assert ask(tmp_path).numpy_major in (None, 0, 2)


@given(st.text())
def test_garbage_is_unknown(text: str) -> None:
    assert isinstance(parse_answer(PYTHON, text), Unknown)
    assert isinstance(parse_answer(PYTHON, f"ishowtts-probe:{text}"), Unknown)
