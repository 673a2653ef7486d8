"""Small real wheels: a module, its metadata, a RECORD that pip checks; and installed packages as
wheels again."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def tiny_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    module: str | None = None,
) -> Path:
    """Write the wheel of a distribution whose one module says its version.

    Args:
        tag: as in the file's name, such as "cp310-cp310-linux_aarch64".
    """
    folder.mkdir(parents=True, exist_ok=True)
    escaped = name.replace("-", "_")
    info = f"{escaped}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    pure = "true" if tag.endswith("none-any") else "false"
    files = {
        f"{module or escaped}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: {pure}\n"
        f"Tag: {tag}\n",
    }
    target = folder / f"{escaped}-{version}-{tag}.whl"
    return _write(target, info, {path: text.encode() for path, text in files.items()})


_BACKEND = """import zipfile

INFO = "{module}-{version}.dist-info"
FILES = {{
    "{module}.py": "__version__ = '{version}'\\n",
    INFO + "/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n",
    INFO + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: a test\\nTag: {tag}\\n",
    INFO + "/RECORD": "",
}}

def build_wheel(folder, *_):
    name = "{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as archive:
        for path, text in FILES.items():
            archive.writestr(path, text)
    return name
"""


def tiny_sdist(folder: Path, name: str, version: str, *, tag: str = "py3-none-any") -> Path:
    """Write the sources of a distribution of one module. They bring what builds them.

    Args:
        tag: of the wheel that they become.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    backend = _BACKEND.format(name=name, module=module, version=version, tag=tag)
    files = {
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\n"
        "backend-path = ['.']\n",
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    target = folder / f"{module}-{version}.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{module}-{version}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return target


def wheel_of(folder: Path, name: str) -> Path:
    """A wheel of a package that the interpreter of the tests has, without what it requires."""
    folder.mkdir(parents=True, exist_ok=True)
    found = importlib.metadata.distribution(name)
    files: dict[str, bytes] = {}
    info = ""
    for path in found.files or []:
        if ".." in path.parts or path.suffix == ".pyc":
            continue
        if path.parts[0].endswith(".dist-info"):
            info = path.parts[0]
            if path.name not in ("METADATA", "WHEEL"):
                continue
        files[str(path)] = path.read_binary()
    lines = files[f"{info}/METADATA"].decode().splitlines(keepends=True)
    head = [line for line in lines if not line.startswith("Requires-Dist:")]
    files[f"{info}/METADATA"] = "".join(head).encode()
    wheel = files[f"{info}/WHEEL"].decode()
    tag = [line[5:].strip() for line in wheel.splitlines() if line.startswith("Tag: ")][-1]
    target = folder / f"{info.removesuffix('.dist-info')}-{tag}.whl"
    return _write(target, info, files)


def _write(target: Path, info: str, files: Mapping[str, bytes]) -> Path:
    rows = [f"{info}/RECORD,,"]
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
        rows.append(f"{path},sha256={digest.decode()},{len(data)}")
    with zipfile.ZipFile(target, "w") as archive:
        for path, data in {**files, f"{info}/RECORD": "\n".join(rows).encode() + b"\n"}.items():
            archive.writestr(path, data)
    return target
