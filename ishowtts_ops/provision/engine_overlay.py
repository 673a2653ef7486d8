"""Our environment over somebody else's: their interpreter and packages, our program, nothing of
ours in theirs.

It is a virtual environment at /opt/ishowtts-ops/engine, made by and from their interpreter. A .pth
file in it appends their site-packages and then, where the Python is the same, those of our own
environment; so torch, numpy and whatever else both have come from theirs. pip runs in it once and
fetches only what is in neither in a version that fits, into this environment: what is outside of it
pip does not change. The daemon becomes its interpreter when it starts (`ishowtts-ops serve`).
"""

from __future__ import annotations

import importlib.util
import json
import site
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ishowtts_ops
from ishowtts_ops import __version__
from ishowtts_ops.errors import CommandFailed, OpsError
from ishowtts_ops.facts.engine_python import OVERLAY, OVERLAY_MADE, OVERLAY_PYTHON
from ishowtts_ops.facts.python_env import REQUIRED, PythonEnv
from ishowtts_ops.host import Host
from ishowtts_ops.provision import engine_pip
from ishowtts_ops.provision.wheels import offline_options, program_requirements
from ishowtts_ops.steps import Ledger, Progress, command_line

LAYOUT_TIMEOUT_S = 30.0
VENV_TIMEOUT_S = 300.0
PIP_TIMEOUT_S = 3600.0
IMPORT_TIMEOUT_S = 300.0
"""torch alone takes seconds to import from an SD card."""

_NO_TRACES = {"PYTHONDONTWRITEBYTECODE": "1"}
"""No byte code of ours is left beside their modules."""

_NEW, _OLD = f"{OVERLAY}.new", f"{OVERLAY}.old"

_LAYOUT = """
import json, os, site, sys
folders = [folder for folder in site.getsitepackages() if os.path.isdir(folder)]
print(json.dumps({"version": list(sys.version_info[:2]), "site": folders}))
"""

_IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


@dataclass(frozen=True)
class Overlay:
    """What the environment is, or should be, made of.

    Attributes:
        made: as its made.json holds it: `python` (box path of their interpreter), `version` of it,
            `theirs` and `ours` (folders of packages), `package` (our program's own folder),
            `program` (our version), `packages` (theirs by version, so that the daemon is started
            again when one of them changes).
    """

    made: dict[str, Any]

    @property
    def site(self) -> str:
        """Its own folder of packages, below its top."""
        return f"lib/python{self.made['version']}/site-packages"

    @property
    def pth(self) -> str:
        """Their packages first. `addsitedir` also reads the .pth files that lie in them."""
        folders = [*self.made["theirs"], *self.made["ours"]]
        return "".join(f"import site; site.addsitedir({folder!r})\n" for folder in folders)

    def standing(self, host: Host) -> bool:
        """Is it there as it should be?"""
        if not host.is_file(OVERLAY_MADE) or not host.exists(OVERLAY_PYTHON):
            return False
        try:
            return bool(json.loads(host.read_text(OVERLAY_MADE)) == self.made)
        except ValueError:
            return False


def wanted(host: Host, python: str, env: PythonEnv) -> Overlay:
    """The environment over `python`, whose packages are `env`. Runs it, changes nothing.

    Raises:
        OpsError: the interpreter does not say where its packages are.
    """
    answer = host.query([python, "-I", "-B", "-c", _LAYOUT], timeout=LAYOUT_TIMEOUT_S)
    try:
        told = json.loads(answer.stdout.splitlines()[-1]) if answer.ok else None
    except (ValueError, IndexError):
        told = None
    if told is None:
        raise OpsError(
            f"{python} does not say where its packages are.",
            f"Try `{python} -m site`, or set engine.python to another interpreter.",
        )
    version = ".".join(map(str, told["version"]))
    same = tuple(told["version"]) == sys.version_info[:2]
    return Overlay(
        {
            "python": python,
            "version": version,
            "theirs": told["site"],
            # Compiled packages fit one Python only.
            "ours": [f for f in site.getsitepackages() if Path(f).is_dir()] if same else [],
            "package": str(Path(ishowtts_ops.__file__).resolve().parent),
            "program": __version__,
            "packages": {name: env.package(name).version for name in REQUIRED},
        }
    )


def preview(host: Host, overlay: Overlay, wheels: Path | None) -> list[str]:
    """What `build` does, as lines of a plan."""
    return [
        command_line(_venv(host, overlay, OVERLAY)),
        *(f"+{line}" for line in overlay.pth.splitlines()),
        f"$ ln -s {overlay.made['package']} {OVERLAY}/{overlay.site}/ishowtts_ops",
        command_line([OVERLAY_PYTHON, "-m", "pip", *_install(wheels), "…"])
        + "    # only what neither of the two has; changes neither",
    ]


def build(
    host: Host, overlay: Overlay, ledger: Ledger, log: Progress, wheels: Path | None = None
) -> None:
    """Make it beside the one that is there, try it out, and put it in its place.

    Raises:
        OpsError: it could not be made, or the engine cannot be imported in it; the former one, if
            any, is as it was.
    """
    ledger.remember(OVERLAY)
    python = str(overlay.made["python"])
    for litter in (_NEW, _OLD):
        host.rmtree(litter)
    try:
        log(f"making an environment over {python}")
        made = host.run(
            _venv(host, overlay, _NEW), timeout=VENV_TIMEOUT_S, env=_NO_TRACES, on_line=log
        )
        made.check(f"Try `{python} -m venv --without-pip DIR`.")
        # Its scripts name the folder that it was made in, and nobody needs them.
        for name in host.listdir(f"{_NEW}/bin"):
            if not name.startswith("python"):
                host.remove(f"{_NEW}/bin/{name}")
        host.write(f"{_NEW}/{overlay.site}/ishowtts-ops.pth", overlay.pth)
        host.symlink(overlay.made["package"], f"{_NEW}/{overlay.site}/ishowtts_ops")
        _fill(host, overlay, log, wheels)
        _try_out(host, python)
        host.write(f"{_NEW}/made.json", json.dumps(overlay.made, indent=1) + "\n")
        if host.lexists(OVERLAY):
            host.rename(OVERLAY, _OLD)
        host.rename(_NEW, OVERLAY)
    finally:
        host.rmtree(_NEW)
        host.rmtree(_OLD)


def _venv(host: Host, overlay: Overlay, target: str) -> tuple[str, ...]:
    # In a box that is a folder a link to this machine's interpreter would lead out of it.
    copies = () if host.root == Path("/") else ("--copies",)
    real = str(host.path(target, follow_last=False))
    return (str(overlay.made["python"]), "-m", "venv", "--without-pip", *copies, real)


def _install(wheels: Path | None) -> tuple[str, ...]:
    quiet = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
    return ("install", *quiet, *offline_options(wheels))


def _fill(host: Host, overlay: Overlay, log: Progress, wheels: Path | None) -> None:
    """pip's part. Ours serves where theirs was made without one."""
    found = importlib.util.find_spec("pip")
    pip = [str(Path(found.origin).parent)] if found and found.origin else ["-m", "pip"]
    kept = overlay.made["packages"]["numpy"]
    words = [*program_requirements(), *([f"numpy=={kept}"] if kept else [])]
    argv = [f"{_NEW}/bin/python", "-s", *pip, *_install(wheels), *words]
    log("asking pip for what neither of the two environments has")
    done = host.run(argv, timeout=PIP_TIMEOUT_S, env=_NO_TRACES, on_line=engine_pip.telling(log))
    if not done.ok:
        raise CommandFailed(
            ("pip", "install", "…"),
            f"could not complete {OVERLAY}",
            done.output,
            "Look at the network (or give --wheels), or set engine.python to our own:"
            " /opt/ishowtts-ops/venv/bin/python.",
        )


def _try_out(host: Host, python: str) -> None:
    """The daemon's own modules and the engine's, imported where they will run."""
    names = ("ishowtts_ops.daemon.serve", "ishowtts_ops.cli.app", *REQUIRED)
    argv = [f"{_NEW}/bin/python", "-I", "-B", "-c", _IMPORT, *names]
    done = host.run(argv, timeout=IMPORT_TIMEOUT_S)
    if not done.ok:
        why = (done.stderr.strip().splitlines() or ["it gave no answer"])[-1]
        raise OpsError(
            f"The daemon cannot run with the packages of {python}: {why}",
            "Mend that environment, or set engine.python to our own:"
            " /opt/ishowtts-ops/venv/bin/python.",
        )
