"""A simulated box on which everything is as install leaves it, to be broken by tests.

Built once by the real steps and copied for each test. Two things on it are not real: the engine's
packages (names and versions, no code; real pip installs them from a folder of such wheels), and the
daemon: its answers are those of a real one, replayed by the test, and its process says that it is
ready and then sleeps. A daemon that is started anew is well again. Real ones are started by
`test_examine.py` and, in real systemd, by `tests/box/test_doctor.py`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from ishowtts_ops.config import CONFIG_PATH, PREFIX, Settings, parse
from ishowtts_ops.doctor.examination import ASKED_UNITS
from ishowtts_ops.doctor.report import Report
from ishowtts_ops.doctor.run import examine
from ishowtts_ops.doctor.under_load import Load
from ishowtts_ops.facts.gather import Facts, gather
from ishowtts_ops.facts.python_env import REQUIRED
from ishowtts_ops.facts.value import Maybe
from ishowtts_ops.host import Host
from ishowtts_ops.measure.history import open_history
from ishowtts_ops.provision import install
from ishowtts_ops.provision.daemon import STARTED_PATH, fingerprint
from ishowtts_ops.provision.engine_env import TORCH
from ishowtts_ops.provision.units import CLOCKS, DAEMON
from ishowtts_ops.sim.checkout import make_checkout
from ishowtts_ops.sim.tree import build_box
from ishowtts_ops.steps import Ledger
from tests.support.f5 import SOURCE, cache_folder
from tests.unit.measure.made import make_run

Entry = tuple[int, int, int, str]

VENV = f"{PREFIX}/venv"
SITE = f"{VENV}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
PYTHON = f"{VENV}/bin/python"
WHEELS = "/opt/wheels"
STEPS = ("config", "source", "patch", "weights", "voices", "power", "units")
"""The steps that made the box; the engine's packages and the daemon are stand-ins."""

READY: dict[str, Any] = {
    "status": "ready",
    "ready": True,
    "stage": "ready: f5 on cuda:0, 3 voices",
    "reasons": [],
    "engine": "f5",
    "device": "cuda:0",
    "sample_rate": 24000,
    "voices": ["host", "guest", "announcer"],
    "default_voice": "host",
    "nfe": 7,
    "queue": {"depth": 0, "limit": 16, "wait_seconds": 0.0},
    "recent_rtf": 0.143,
    "progress_age_seconds": 0.2,
    "version": "0.1.0",
}
METRICS = """\
# HELP ishowtts_requests_total Speech requests by how they ended.
# TYPE ishowtts_requests_total counter
ishowtts_requests_total{engine="f5",outcome="ok"} 412.0
ishowtts_requests_total{engine="f5",outcome="cancelled"} 3.0
# TYPE ishowtts_ready gauge
ishowtts_ready 1.0
"""


@dataclass
class Answers:
    """What the replayed daemon says. `silent` accepts connections and says nothing; `on_speech` is
    what happens to the box while it speaks."""

    live: int = 200
    ready: Any = field(default_factory=lambda: dict(READY))
    metrics: str = METRICS
    silent: bool = False
    on_speech: Callable[[], None] = lambda: None
    speech_rtf: float = 0.15

    def tell(self, **changes: Any) -> None:
        self.ready = {**self.ready, **changes}


class _Replay(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers: Answers = self.server.answers  # type: ignore[attr-defined]
        if answers.silent:
            threading.Event().wait(4)
            return
        bodies = {
            "/livez": (answers.live, '{"status": "alive"}'),
            "/readyz": (200 if "ready" in answers.ready else 503, json.dumps(answers.ready)),
            "/metrics": (200, answers.metrics),
        }
        status, body = bodies[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self) -> None:
        """A tenth of a second of work that makes speech; or word of a daemon that was started."""
        answers: Answers = self.server.answers  # type: ignore[attr-defined]
        if self.path == "/started":
            vars(answers).update(vars(Answers()))
            self.send_response(204)
            self.end_headers()
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        answers.on_speech()
        threading.Event().wait(0.1)
        audio = 0.1 / answers.speech_rtf
        told = {
            "Sample-Rate": 24000,
            "Engine": "f5",
            "Voice": "host",
            "Fallback": "false",
            "Queue-Seconds": 0.0,
            "Infer-Seconds": 0.1,
            "First-Audio-Seconds": 0.1,
            "Total-Seconds": 0.1,
            "Audio-Seconds": audio,
            "Rtf": answers.speech_rtf,
        }
        self.send_response(200)
        for name, value in told.items():
            self.send_header(f"X-Ishowtts-{name}", str(value))
        self.send_header("X-Request-Id", "r1")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"RIFF")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def replay(answers: Answers) -> Iterator[int]:
    """A daemon's answers on a port of their own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Replay)
    server.daemon_threads = True
    server.answers = answers  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class HealthyBox:
    """A copy of the healthy box, its settings and its daemon's answers."""

    def __init__(self, root: Path, answers: Answers) -> None:
        self.root = root
        self.host = Host.at(root)
        self.answers = answers
        self.mounts: list[str] = []
        self.settings: Settings = parse(self.host.read_text(CONFIG_PATH), CONFIG_PATH)

    # ---- looking -----------------------------------------------------------------------------

    def facts(self, only: Sequence[str] | None = None) -> Facts:
        return gather(self.host.read_only(), self.settings, units=ASKED_UNITS, only=only)

    def examine(self, facts: Facts | None = None, *, load: Maybe[Load] | None = None) -> Report:
        return examine(self.host, self.settings, facts=facts, load=load)

    def path(self, box_path: str) -> Path:
        return self.host.path(box_path, follow_last=False)

    # ---- changing ----------------------------------------------------------------------------

    def configure(self, section: str, **keys: Any) -> None:
        """Change the box's configuration as install would: written, and known to the daemon."""
        raw = yaml.safe_load(self.host.read_text(CONFIG_PATH))
        raw.setdefault(section, {}).update(keys)
        self.host.write(CONFIG_PATH, yaml.safe_dump(raw))
        self.settings = parse(self.host.read_text(CONFIG_PATH), CONFIG_PATH)
        self.run_step("voices")
        self.note_started()

    def run_step(self, name: str) -> None:
        """One of install's steps, for real."""
        text = self.host.read_text(CONFIG_PATH) if self.host.is_file(CONFIG_PATH) else ""
        steps = install.all_steps(self.settings, Ledger.open(self.host), text, replace_config=False)
        install.apply(
            self.host,
            install.choose(steps, [name]),
            log=lambda _: None,
            on_step=lambda *_: None,
        )

    def note_started(self) -> None:
        """The daemon was started with what is installed now."""
        body = json.dumps({"fingerprint": fingerprint(self.host)}) + "\n"
        self.host.write(STARTED_PATH, body)

    def clean_up(self) -> None:
        """End what was started, and unmount what was mounted."""
        states = self.root / "run/ishowtts-sim/units"
        started = any(
            json.loads(path.read_text()).get("supervisor_pid") for path in states.glob("*.json")
        )
        if started:
            self.host.run(["systemctl", "sim-shutdown"], timeout=60).check()
        while self.mounts:
            subprocess.run(["umount", self.mounts.pop()], check=True, timeout=20)

    def measured(self, rtf: float, days_ago: float = 0.0, *, baseline: bool = False) -> None:
        """A benchmark run in the box's history."""
        when = datetime.now(timezone.utc) - timedelta(days=days_ago)
        run = make_run([rtf] * 8, started=when.strftime("%Y-%m-%dT%H:%M:%SZ"))
        with open_history(self.host) as history:
            if baseline:
                history.set_baseline(run, "made for a test", run.started)
            else:
                history.add(run)

    def unit_state(self, unit: str, **values: Any) -> None:
        """What the stand-in service manager remembers of a unit."""
        path = self.root / "run/ishowtts-sim/units" / f"{unit}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        state = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**state, **values}) + "\n")

    def package(self, name: str, version: str, *, cuda: str | None = None) -> None:
        """A package of the engine's environment, in place of the one there."""
        self.no_package(name)
        for path, text in _distribution(name, version, cuda).items():
            file = self.root / SITE.lstrip("/") / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def no_package(self, name: str) -> None:
        site = self.root / SITE.lstrip("/")
        for folder in (site / name, *site.glob(f"{name}-*.dist-info")):
            shutil.rmtree(folder, ignore_errors=True)


def restore(template: Path, root: Path) -> None:
    """Make a copy like its template again, touching only what differs: a new copy takes longer."""
    wanted, here = _wanted(template), _entries(root)
    for name in sorted(here.keys() - wanted.keys(), reverse=True):
        _remove(root / name)
    for name in sorted(wanted):
        if here.get(name) != wanted[name]:
            _remove(root / name)
            _copy(template / name, root / name)


@functools.cache
def _wanted(template: Path) -> dict[str, Entry]:
    """A template's entries; it never changes."""
    return _entries(template)


def _entries(top: Path, below: str = "") -> dict[str, Entry]:
    """Every path below a folder → mode, size and time of a file, target of a link."""
    found = {}
    with os.scandir(top / below) as entries:
        for entry in entries:
            name = f"{below}{entry.name}"
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                found[name] = (info.st_mode, info.st_size, info.st_mtime_ns, "")
            elif stat.S_ISLNK(info.st_mode):
                found[name] = (info.st_mode, 0, 0, os.readlink(entry.path))
            else:
                found[name] = (info.st_mode, 0, 0, "")
                if stat.S_ISDIR(info.st_mode):
                    found |= _entries(top, f"{name}/")
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        target.mkdir()
        shutil.copymode(source, target)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _distribution(name: str, version: str, cuda: str | None) -> dict[str, str]:
    """The files of a package that has a name and a version and no code."""
    own = f"__version__ = {version!r}\n" + (f"cuda = {cuda!r}\n" if name == "torch" else "")
    info = f"{name}-{version.partition('+')[0]}.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{name}/version.py": own,
        f"{info}/METADATA": "Metadata-Version: 2.1\n"
        f"Name: {name.replace('_', '-')}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    return files


def _wheel(folder: Path, name: str, version: str, cuda: str | None) -> None:
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in _distribution(name, version, cuda).items():
            archive.writestr(path, text)


_DAEMON = """\
import os, signal, socket, sys, urllib.request
told = urllib.request.Request("http://127.0.0.1:PORT/started", data=b"")
urllib.request.urlopen(told, timeout=10)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
    out.connect(os.environ["NOTIFY_SOCKET"])
    out.send(b"STATUS=STAGE\\nREADY=1")
signal.sigwait({signal.SIGTERM, signal.SIGABRT})
"""


def _programs(host: Host, port: int) -> None:
    """The engine's environment, our program, and what it starts as the daemon."""
    # Its own folder by the variable that Host gives to a simulated box's programs.
    venv.EnvBuilder(symlinks=True).create(host.path(VENV))
    real = f"$ISHOWTTS_BOX_ROOT{VENV}/bin/python3"
    host.remove(f"{VENV}/bin/python3")
    host.symlink(str(Path(sys.executable).resolve()), f"{VENV}/bin/python3")
    host.remove(PYTHON)
    pip = importlib.util.find_spec("pip")
    assert pip is not None and pip.origin is not None, "these tests install packages with pip"
    host.symlink(str(Path(pip.origin).parent), "/opt/tools/pip")
    host.write(
        PYTHON,
        '#!/bin/sh\nexport PYTHONPATH="$ISHOWTTS_BOX_ROOT/opt/tools" PIP_NO_INDEX=1'
        f' PIP_FIND_LINKS="$ISHOWTTS_BOX_ROOT{WHEELS}"\nexec "{real}" "$@"\n',
        mode=0o755,
    )
    daemon = _DAEMON.replace("PORT", str(port)).replace("STAGE", str(READY["stage"]))
    host.write("/opt/tools/daemon.py", daemon)
    python, serve = f'"{sys.executable}"', '"$ISHOWTTS_BOX_ROOT/opt/tools/daemon.py"'
    host.write(
        f"{VENV}/bin/ishowtts-ops",
        f'#!/bin/sh\n[ "$1" != serve ] || exec {python} -S {serve}\n'
        f'exec {python} -m ishowtts_ops "$@"\n',
        mode=0o755,
    )
    wheels = host.path(WHEELS)
    wheels.mkdir(parents=True)
    for name in REQUIRED:
        version = {"numpy": "1.26.4", "torch": TORCH, "torchaudio": TORCH}.get(name, "2.8.0")
        _wheel(wheels, name, version, "12.6")


def build(root: Path, board: str, port: int, *, engine: str = "f5", bare: Path) -> None:
    """Make a healthy box at `root`, and at `bare` the same box before anything was installed."""
    build_box(root, board)
    host = Host.at(root)
    if engine == "f5":
        make_checkout(host, version="1.1.9", cache=cache_folder())
    _programs(host, port)
    settings = {
        "engine": {"kind": engine, "python": PYTHON},
        "f5": {"weights": "random"},
        "daemon": {"port": port},
    }
    host.write(CONFIG_PATH, yaml.safe_dump(settings))
    box = HealthyBox(root, Answers())
    for name in REQUIRED:
        box.package(name, "1.26.4" if name == "numpy" else "2.8.0", cuda="12.6")
    # An AGX whose GPU has been used takes MAXN with a reboot only.
    host.write_sysfs("/sys/kernel/ishowtts-sim/gpu_used", "0\n")
    shutil.copytree(root, bare, symlinks=True)
    for step in STEPS:
        box.run_step(step)
    host.run(["systemctl", "start", CLOCKS], timeout=60).check()
    box.unit_state(DAEMON, active="active", sub="running", main_pid=812, status_text=READY["stage"])
    box.measured(0.15, 3, baseline=True)
    box.measured(0.151, 1)
    box.note_started()


__all__ = ["READY", "SOURCE", "Answers", "HealthyBox", "build", "replay", "restore"]
