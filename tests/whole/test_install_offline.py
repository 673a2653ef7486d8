"""A box without a network, from `wheels make` to an engine that is complete: the real packages from
the index that pip is configured with, one folder, and `./install.sh --wheels` where there is no
network at all (a namespace of its own, with an empty /opt that goes with it)."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ishowtts_ops.facts.python_env import REQUIRED
from ishowtts_ops.host import Host
from ishowtts_ops.provision import wheels
from ishowtts_ops.provision.wheel_set import Target
from tests.support.folder import FolderBox
from tests.support.package_index import served
from tests.support.wheels import tiny_wheel

CHECKOUT = Path(__file__).parents[2]
PARTS = (
    "config",
    "install.sh",
    "ishowtts_ops",
    "LICENSE",
    "patches",
    "pyproject.toml",
    "README.md",
)
ALONE = ("unshare", "--map-root-user", "--mount", "--net")
VENV = "/opt/ishowtts-ops/venv"
Alone = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.skipif(
    subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode != 0,
    reason="namespaces are not to be had here",
)


def this_machine() -> Target:
    """What `wheels make` would call a JetPack, if this machine were one."""
    glibc = re.match(r"2\.(\d+)", platform.libc_ver()[1])
    assert glibc is not None
    return Target(sys.version_info[:2], int(glibc[1]), platform.machine())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `wheels make` makes; torch alone is small, and from an index of its own."""
    base = tmp_path_factory.mktemp("offline")
    target, tag = this_machine(), f"cp{this_machine().digits}"
    for name in ("torch", "torchaudio"):
        tiny_wheel(base / "jetson", name, "2.8.0", tag=f"{tag}-{tag}-linux_{target.machine}")
    with served(base / "www") as index:
        index.publish("jetson", base / "jetson")
        host, url = Host.at(base), index.url("jetson")
        wheels.make(host, target, base / "wheels", lambda _: None, url, "1.1.22")
    return base / "wheels"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This program's checkout as a box gets it."""
    copy = tmp_path / "ishowtts-ops"
    copy.mkdir()
    for name in (*PARTS, "units"):
        if (CHECKOUT / name).is_dir():
            clutter = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT / name, copy / name, ignore=clutter)
        else:
            shutil.copy2(CHECKOUT / name, copy / name)
    return copy


def run_alone(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A script where there is no network, and an empty /opt of its own."""
    python = Path(sys.base_prefix).resolve() / "bin"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PATH": f"{python}:{os.environ['PATH']}"}
    argv = [*ALONE, "bash", "-ec", f"mount -t tmpfs tmpfs /opt\n{script}"]
    return subprocess.run(
        argv, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False
    )


def test_one_folder_brings_program_and_engine(tmp_path: Path, folder: Path, checkout: Path) -> None:
    box = FolderBox(tmp_path / "box", settings={"engine": {"kind": "f5"}})
    box.host.write(f"{VENV}/bin/python", f'#!/bin/sh\nexec {VENV}/bin/python "$@"\n', mode=0o755)
    (tmp_path / "wheels").symlink_to(folder)
    modules = " ".join(REQUIRED)
    script = f"""
        {checkout}/install.sh --wheels wheels --root {box.root} --only engine --only source --yes \
            || test $? = 1  # doctor misses the steps that were left out
        {VENV}/bin/python -m pip --version
        {VENV}/bin/python -m pip list --format=freeze
        {VENV}/bin/ishowtts-ops --version
        cd /; for name in {modules}; do {VENV}/bin/python -c "import importlib.util
assert importlib.util.find_spec('$name'), '$name'"; done
        {VENV}/bin/python -c "import ishowtts_ops.daemon.serve, ishowtts_ops.cli.app"
    """
    done = run_alone(script, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "torch==2.8.0" in done.stdout and "systemd-python" not in done.stdout
    assert "apt-get" not in done.stderr
    assert box.host.is_dir("/opt/ishowtts-ops/F5-TTS/src/f5_tts"), "F5-TTS came from the folder too"


@pytest.mark.parametrize("words", [("--wheels", "nowhere"), ("--wheels",), ("--wheels=",)])
def test_a_folder_without_wheels_is_a_sentence(
    tmp_path: Path, checkout: Path, words: tuple[str, ...]
) -> None:
    done = run_alone(f"{checkout}/install.sh {' '.join(words)}", tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: there are no wheels in ") and "wheels make" in done.stderr
    assert len(done.stderr.splitlines()) == 1
