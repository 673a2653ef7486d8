"""`ishowtts-ops demo`: the whole main job on a simulated Orin, on any Linux machine."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from ishowtts_ops.cli import render
from ishowtts_ops.cli.spelling import PROGRAM, spelled
from ishowtts_ops.config import CONFIG_PATH, PREFIX, Settings, load
from ishowtts_ops.errors import UsageError
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision import power
from ishowtts_ops.sim.boot import reboot_folder, shut_down_folder
from ishowtts_ops.sim.checkout import make_checkout
from ishowtts_ops.sim.tree import build_box

BOARD = "agx-orin-64"
SENTENCE = "Hello from a simulated Jetson. The stream is live."


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where to build the simulated box and the audio.")
    ] = Path("demo"),
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave the daemon running at the end.")
    ] = False,
) -> None:
    """Build a simulated AGX Orin, install on it, speak, examine it.

    The Jetson is simulated and says so; everything else is real: this program, git, the F5-TTS
    sources from the package index, the patch series, the daemon and its HTTP.
    """
    directory = directory.resolve()
    root = directory / "box"
    _build(directory, root)
    try:
        code = _use(directory, root)
    finally:
        if not keep_running:
            shut_down_folder(root)
    if code:
        render.note(f"The demo ended early; the box is in {root}.", "red")
        raise typer.Exit(code)
    _epilogue(directory, root, running=keep_running)


def _build(directory: Path, root: Path) -> None:
    render.heading(f"Building a simulated AGX Orin 64 GB in {root}")
    if root.exists():
        if not (root / SIM_MARKER.lstrip("/")).is_file():
            raise UsageError(f"{root} exists and is no simulated box.", "Choose another --dir.")
        render.log("an earlier simulated box is there: stopping it and building anew")
        shut_down_folder(root)
        Host.at(directory).rmtree("/box")
    root.mkdir(parents=True)
    build_box(root, BOARD)
    host = Host.at(root)
    for program in ("python", "ishowtts-ops"):
        _wrap(host, program)
    render.log("an iShowTTS checkout with the real F5-TTS as its git submodule")
    make_checkout(host, cache=directory / "downloads", progress=render.log)
    settings = {
        "f5": {"weights": "random", "device": "cpu"},
        "daemon": {"port": _free_port()},
        "power": {"guard_seconds": 60},
    }
    head = "# Made by `ishowtts-ops demo`: a small network with random weights.\n"
    host.write(CONFIG_PATH, head + yaml.safe_dump(settings, sort_keys=False))


def _wrap(host: Host, program: str) -> None:
    """What ./install.sh puts there on a real box: the program and the engine's Python."""
    real = Path(sys.executable).with_name(program)
    script = f'#!/bin/sh\n# stands in for a program of the box\nexec "{real}" "$@"\n'
    host.write(f"{PREFIX}/venv/bin/{program}", script, mode=0o755)


def _use(directory: Path, root: Path) -> int:
    host = Host.at(root)
    code = _verb(root, "Installing", "install", "--yes")
    if code:
        return code
    if power.look(host, _settings(host).power).staged:
        render.heading("The maximum power mode is staged and needs one reboot: rebooting it")
        reboot_folder(root)
    for engine in ("espeak", "f5"):
        target = directory / f"{engine}.wav"
        code = _verb(
            root, f"Speaking: {engine}", "say", SENTENCE, "--engine", engine, "-o", str(target)
        )
        if code:
            return code
    render.note(
        "  f5.wav is noise: the demo's network is small and has random weights, because F5-TTS's"
        " own weights cannot be part of this program. The path it came through is the real one.",
        "yellow",
    )
    return _verb(root, "Examining it", "doctor")


def _settings(host: Host) -> Settings:
    return load(host.path(CONFIG_PATH))


def _verb(root: Path, title: str, verb: str, *arguments: str) -> int:
    """Run a verb of this program on the box, as a person would type it."""
    argv = [verb, "--root", str(root), *arguments]
    render.heading(f"{title}:  {spelled(Host.at(root), (PROGRAM, verb, *arguments))}")
    from ishowtts_ops.cli.app import run

    return run(argv)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _epilogue(directory: Path, root: Path, *, running: bool) -> None:
    render.heading("Where everything is")
    render.pairs(
        [
            ("the simulated box", str(root)),
            ("its settings", str(root / CONFIG_PATH.lstrip("/"))),
            ("its units", str(root / "etc/systemd/system")),
            ("patched F5-TTS", str(root / "opt/ishowtts/third_party/F5-TTS")),
            ("its journal", str(root / "var/log/ishowtts-sim")),
            ("speech", str(directory / "espeak.wav")),
            ("noise through F5-TTS", str(directory / "f5.wav")),
        ]
    )
    host = Host.at(root)
    render.say()
    if not running:
        render.say("The box was shut down. This starts it, with its daemon and its timers:")
        render.say(f"  {spelled(host, ('systemctl', 'sim-boot'))}")
    render.say("Try:")
    for verb in ("status", "doctor", "uninstall"):
        render.say(f"  {spelled(host, (PROGRAM, verb))}")
