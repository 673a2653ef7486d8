"""Brings the program under test into a box: /opt/ishowtts-ops/venv, as install.sh leaves it.

The box's virtual environment is a real one, made of the interpreter that runs the tests, its
packages (torch among them) and this checkout. Those three are mounted read-only below
/opt/ishowtts-tests instead of at their own paths, because these are often below a home folder, and
units with ProtectHome= or a user of their own could not reach them there.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = "/opt/ishowtts-ops/venv"
PROGRAM = f"{VENV}/bin/ishowtts-ops"
MOUNTS = "/opt/ishowtts-tests"

_SCRIPT = f"""#!{VENV}/bin/python
import sys

from ishowtts_ops.__main__ import main

sys.exit(main())
"""


@dataclasses.dataclass(frozen=True)
class Bind:
    """A folder of this machine seen read-only in a box."""

    here: Path
    box_path: str


def why_not(root: Path) -> str | None:
    """The reason why this interpreter cannot run in a box with that root file system, or None."""
    if _is_system_python():
        python = root / f"usr/bin/python{_version()}"
        if not python.exists():
            return f"the box's own Python is not {_version()}, and the tests run on /usr's Python"
    return None


def install(root: Path) -> list[Bind]:
    """Write the virtual environment into the box's root file system.

    Returns:
        what must be mounted over the box for it to work.
    """
    binds = [Bind(REPOSITORY, f"{MOUNTS}/repository")]
    home = "/usr/bin"
    if not _is_system_python():
        binds.append(Bind(Path(sys.base_prefix).resolve(), f"{MOUNTS}/python"))
        home = f"{MOUNTS}/python/bin"
        if sysconfig.get_config_var("Py_ENABLE_SHARED"):
            # The interpreter looks for its library where it was built; the loader also looks here.
            library = str(sysconfig.get_config_var("INSTSONAME"))
            (root / "usr/lib" / library).symlink_to(f"{MOUNTS}/python/lib/{library}")
    packages: list[str] = []
    for name in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}):
        packages.append(f"{MOUNTS}/packages-{len(packages)}")
        binds.append(Bind(Path(name).resolve(), packages[-1]))

    venv = root / VENV.lstrip("/")
    site = venv / f"lib/python{_version()}/site-packages"
    site.mkdir(parents=True)
    (venv / "bin").mkdir()
    for name in ("python", "python3", f"python{_version()}"):
        (venv / "bin" / name).symlink_to(f"{home}/python{_version()}")
    _text(venv / "pyvenv.cfg", f"home = {home}\ninclude-system-site-packages = false\n")
    lines = [f"{MOUNTS}/repository", *(f"import site; site.addsitedir({p!r})" for p in packages)]
    _text(site / "tests.pth", "\n".join(lines) + "\n")
    _text(venv / "bin/ishowtts-ops", _SCRIPT, mode=0o755)
    for bind in binds:
        (root / bind.box_path.lstrip("/")).mkdir(parents=True)
    return binds


def _is_system_python() -> bool:
    return Path(sys.base_prefix).resolve() == Path("/usr")


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _text(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text, encoding="utf-8")
    os.chmod(path, mode)
