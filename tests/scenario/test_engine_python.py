"""The daemon runs with iShowTTS's own Python environment where that is sound, and leaves no trace
in it. The environments are real: a .venv, and a prefix as conda lays it out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.doctor.checks import ALL_CHECKS
from ishowtts_ops.doctor.finding import Severity
from ishowtts_ops.doctor.run import examine
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts import engine_python
from ishowtts_ops.facts.engine_python import OVERLAY, OVERLAY_MADE, OVERLAY_PYTHON, OWN
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision.engine_env import EngineStep
from ishowtts_ops.steps import Ledger
from tests.support.environments import (
    add_module,
    make_conda,
    make_venv,
    packages_of,
    remove_module,
)
from tests.support.tree import differences, snapshot

pytest.importorskip("torch")

CONDA = "/opt/miniforge3/envs/ishowtts"
VENV = "/opt/ishowtts/.venv"
AUTO = Settings()
Make = Callable[[Path], Path]

KINDS = {CONDA: make_conda, VENV: make_venv}


def quiet(_: str) -> None:
    pass


def new_host(folder: Path) -> Host:
    root = folder / "box"
    Host.at(folder).mkdir("/box/opt/ishowtts")
    host = Host.at(root)
    host.write(SIM_MARKER, "{}")
    host.write(OWN, f'#!/bin/sh\nexec {sys.executable} "$@"\n', mode=0o755)
    host.mkdir("/var/lib")
    return Host.at(root)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return new_host(tmp_path)


@pytest.fixture(scope="module")
def conda_host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    host = new_host(tmp_path_factory.mktemp("conda"))
    make_conda(host.path(CONDA))
    return host


@pytest.fixture
def taken(conda_host: Host) -> Host:
    """A box whose daemon runs in iShowTTS's conda environment. It is one box for several tests, as
    to make our environment over it takes seconds; it is made again where a test before undid it."""
    change = step(conda_host).diff(conda_host)
    if change is not None:
        change.apply(quiet)
    assert engine_python.in_use(conda_host, AUTO) == OVERLAY_PYTHON
    return conda_host


def step(host: Host, settings: Settings = AUTO) -> EngineStep:
    return EngineStep(settings, Ledger.open(host))


def take(host: Host, settings: Settings = AUTO) -> None:
    change = step(host, settings).diff(host)
    assert change is not None
    change.apply(quiet)
    assert step(host, settings).diff(host.read_only()) is None


def ask(host: Host, code: str) -> str:
    """What the daemon's interpreter says."""
    done = host.query([engine_python.in_use(host, AUTO), "-I", "-B", "-c", code], timeout=60)
    assert done.ok, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("where", [CONDA, VENV])
def test_a_sound_environment_is_used_and_left_as_it_is(host: Host, where: str) -> None:
    python = f"{where}/bin/python"
    environment = host.path(where)
    KINDS[where](environment)
    add_module(environment, "rjieba", "9.9")  # which ours has too, in another version
    whole_box = snapshot(host.root, ("/",), ())
    theirs = snapshot(host.root, (where,), ())

    assert engine_python.choose(host, AUTO).python == python
    change = step(host).diff(host.read_only())
    assert change is not None and change.summary.endswith(f"with the packages of {python}")
    assert f"$ {python} -m venv --without-pip" in change.preview[0]
    assert any(str(packages_of(environment)) in line for line in change.preview)
    assert differences(whole_box, snapshot(host.root, ("/",), ())) == [], "a plan changes nothing"

    take(host)
    assert differences(theirs, snapshot(host.root, (where,), ())) == []
    assert engine_python.in_use(host, AUTO) == OVERLAY_PYTHON
    told = "import sys, rjieba, ishowtts_ops.daemon.serve; print(rjieba.__file__, sys.base_prefix)"
    module, prefix = ask(host, told).split()
    assert Path(module).parent == packages_of(environment) / "rjieba", "theirs come first"
    assert (Path(prefix) == environment) is (where == CONDA)

    ledger = Ledger.open(host)
    ledger.restore_files()
    assert not host.lexists(OVERLAY)
    host.rmtree("/var/lib/ishowtts-ops")
    assert differences(whole_box, snapshot(host.root, ("/",), ())) == []


def test_an_environment_that_lacks_something_is_passed_over_with_the_reason(host: Host) -> None:
    make_conda(host.path(CONDA), whole=False)
    choice = engine_python.choose(host, AUTO)
    assert choice.python == OWN
    (passed,) = choice.passed_over
    assert passed.python == f"{CONDA}/bin/python" and "it lacks torch" in str(passed)
    assert step(host).diff(host.read_only()) is None, "ours is whole"
    checks = [check for check in ALL_CHECKS if check.id == "engine-python"]
    findings = list(examine(host, AUTO, checks=checks).findings)
    (told,) = [found for found in findings if found.severity is Severity.INFO]
    assert "it lacks torch" in told.text and told.remedy is not None
    assert f"set engine.python to {CONDA}/bin/python" in told.remedy.text


def test_the_next_sound_one_is_taken(host: Host) -> None:
    make_conda(host.path(CONDA), whole=False)
    make_venv(host.path(VENV))
    choice = engine_python.choose(host, AUTO)
    assert choice.python == f"{VENV}/bin/python" and len(choice.passed_over) == 1


def test_one_that_the_daemons_user_cannot_read(host: Host) -> None:
    make_conda(host.path(CONDA))
    host.chmod("/opt/miniforge3/envs", 0o700)
    (passed,) = engine_python.choose(host, AUTO).passed_over
    assert "may not enter /opt/miniforge3/envs" in str(passed)


def test_an_interpreter_of_another_age(host: Host) -> None:
    for version in ("3.8.10", "3.14.0"):
        numbers = version.split(".")
        answer = {"python": [int(n) for n in numbers], "machine": "aarch64", "packages": {}}
        line = "ishowtts-probe:" + json.dumps({**answer, "kernel": None})
        host.write(f"{CONDA}/bin/python", f"#!/bin/sh\necho '{line}'\n", mode=0o755)
        (passed,) = engine_python.choose(host, AUTO).passed_over
        assert f"its Python is {version.rsplit('.', 1)[0]}, and 3.10 to 3.13 work" in str(passed)


def test_a_path_is_taken_as_it_is_and_serve_goes_there(host: Host, tmp_path: Path) -> None:
    """`serve` becomes the other interpreter: same process, other program."""
    elsewhere = "/srv/tts/env"
    make_venv(host.path(elsewhere))
    settings = Settings.model_validate({"engine": {"python": f"{elsewhere}/bin/python"}})
    take(host, settings)
    assert engine_python.in_use(host, settings) == OVERLAY_PYTHON
    config = tmp_path / "config.yaml"
    config.write_text(f"engine: {{python: {elsewhere}/bin/python}}\n")
    argv = [sys.executable, "-m", "ishowtts_ops", "serve", "--root", str(host.root)]
    process = subprocess.Popen(
        [*argv, "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": ""},
    )
    out, _ = process.communicate(timeout=120)
    # There is no manifest here, so it refuses to start; it says so from where the engine is.
    assert process.returncode == 78, out
    assert "names no F5-TTS" in out or "source" in out, out


def test_one_that_cannot_import_is_refused_before_anything_is_replaced(taken: Host) -> None:
    environment = taken.path(CONDA)
    before = snapshot(taken.root, (OVERLAY,), ())
    add_module(environment, "pypinyin", "9.9", "raise ImportError('libcudart.so.12 is missing')\n")
    try:
        change = step(taken).diff(taken)
        assert change is not None
        with pytest.raises(OpsError, match=r"libcudart\.so\.12 is missing"):
            change.apply(quiet)
    finally:
        remove_module(environment, "pypinyin", "9.9")
    assert differences(before, snapshot(taken.root, (OVERLAY,), ())) == []
    assert not taken.lexists(f"{OVERLAY}.new")


def test_serve_says_when_the_interpreter_went_away(taken: Host) -> None:
    taken.rename(OVERLAY_PYTHON, f"{OVERLAY_PYTHON}.aside")
    try:
        argv = [sys.executable, "-m", "ishowtts_ops", "serve", "--root", str(taken.root)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and f"is gone: {CONDA}/bin/python" in done.stderr
    finally:
        taken.rename(f"{OVERLAY_PYTHON}.aside", OVERLAY_PYTHON)


def test_what_its_owner_updates_reaches_the_daemon(taken: Host) -> None:
    before = taken.read_text(OVERLAY_MADE)
    add_module(taken.path(CONDA), "rjieba", "9.9")
    take(taken)
    assert taken.read_text(OVERLAY_MADE) != before, "the daemon is started again with it"


def test_one_that_broke_is_left_for_our_own(taken: Host) -> None:
    shared = packages_of(taken.path(CONDA)) / "shared.pth"
    text = shared.read_text()
    shared.unlink()
    try:
        assert engine_python.in_use(taken, AUTO) == OVERLAY_PYTHON, "the daemon still runs in it"
        change = step(taken).diff(taken)
        assert change is not None and f"$ rm -r {OVERLAY}" in change.preview
        assert any("it lacks torch" in line for line in change.preview)
        take(taken)
        assert engine_python.in_use(taken, AUTO) == OWN and not taken.lexists(OVERLAY)
    finally:
        shared.write_text(text)
