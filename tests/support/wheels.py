"""Small real wheels: a module, its metadata, a RECORD that pip checks."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
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
    rows = [f"{info}/RECORD,,"]
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        rows.append(f"{path},sha256={digest.decode()},{len(text.encode())}")
    target = folder / f"{escaped}-{version}-{tag}.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": "\n".join(rows) + "\n"}.items():
            archive.writestr(path, text)
    return target
