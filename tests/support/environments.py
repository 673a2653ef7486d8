"""Python environments as iShowTTS's boxes have them: a .venv, and a prefix as conda lays it out.

Both are real: made of the interpreter that runs the tests, with the packages it has.
"""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def packages_of(environment: Path) -> Path:
    """Where pip puts packages into such an environment."""
    return environment / f"lib/python{_version()}/site-packages"


def make_venv(environment: Path, *, whole: bool = True) -> Path:
    """A virtual environment with copies of the interpreter: links would lead out of the box.

    Args:
        whole: it has everything that the interpreter of the tests has.

    Returns:
        its interpreter.
    """
    words = [sys.executable, "-m", "venv", "--copies", "--without-pip", str(environment)]
    subprocess.run(words, check=True)
    if whole:
        _share_packages(environment)
    return environment / "bin/python"


def make_conda(environment: Path, *, whole: bool = True) -> Path:
    """A prefix of its own, as conda makes them: no pyvenv.cfg, its own lib/pythonX.Y, conda-meta.

    The standard library is linked file by file from the interpreter of the tests.
    """
    base = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    library = environment / f"lib/python{_version()}"
    library.mkdir(parents=True)
    for item in base.iterdir():
        if item.name not in ("site-packages", "dist-packages", "__pycache__"):
            (library / item.name).symlink_to(item)
    packages_of(environment).mkdir()
    (environment / "conda-meta").mkdir()
    (environment / "conda-meta/history").write_text("==> made by a test <==\n")
    (environment / "bin").mkdir()
    real = Path(sys.executable).resolve()
    for name in ("python", f"python{_version()}"):
        shutil.copy2(real, environment / "bin" / name)
    if whole:
        _share_packages(environment)
    return environment / "bin/python"


def _share_packages(environment: Path) -> None:
    folders = [folder for folder in site.getsitepackages() if Path(folder).is_dir()]
    lines = "".join(f"import site; site.addsitedir({folder!r})\n" for folder in folders)
    (packages_of(environment) / "shared.pth").write_text(lines)


def add_module(environment: Path, name: str, version: str, text: str = "") -> None:
    """A package with metadata, as pip leaves it: it comes before a shared one of that name."""
    folder = packages_of(environment)
    module = folder / name
    module.mkdir()
    (module / "__init__.py").write_text(text or f"__version__ = {version!r}\n")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("")
    (info / "INSTALLER").write_text("pip\n")


def remove_module(environment: Path, name: str, version: str) -> None:
    """Take such a package out again."""
    for folder in (name, f"{name}-{version}.dist-info"):
        shutil.rmtree(packages_of(environment) / folder)
