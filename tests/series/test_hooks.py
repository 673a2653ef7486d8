"""The hooks themselves: they fit every version exactly, and do what their headers say."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import f5_sources
import pytest


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.mark.parametrize("number", f5_sources.VERSIONS)
def test_upstream_files_are_the_ones_recorded(number: str, tmp_path: Path) -> None:
    root = f5_sources.unpack(number, tmp_path)
    rows = [
        line.split("\t")
        for line in (f5_sources.SERIES / "upstream.tsv").read_text().splitlines()
        if not line.startswith("#")
    ]
    mine = [(path, blob) for version, path, blob in rows if version == number]
    assert mine
    for path, blob in mine:
        assert git_blob((root / path).read_bytes()) == blob, path
    touched = {
        line[6:].strip()
        for patch in f5_sources.series_for(number)
        for line in patch.read_text().splitlines()
        if line.startswith("--- a/")
    }
    assert touched == {path for path, _ in mine}


@pytest.mark.parametrize("number", f5_sources.VERSIONS)
def test_series_applies_and_reverts_byte_for_byte(number: str, tmp_path: Path) -> None:
    root = f5_sources.unpack(number, tmp_path)
    before = {path: path.read_bytes() for path in root.rglob("*.py")}
    f5_sources.apply_series(number, root)
    assert any(path.read_bytes() != data for path, data in before.items())
    for patch in reversed(f5_sources.series_for(number)):
        subprocess.run(["git", "apply", "-p1", "-R", str(patch)], cwd=root, check=True)
    assert all(path.read_bytes() == data for path, data in before.items())


def test_every_patch_says_why_and_is_listed() -> None:
    listed = {
        line.split()[0]
        for line in (f5_sources.SERIES / "series").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    }
    present = {path.name for path in f5_sources.SERIES.glob("*.patch")}
    assert listed == present
    for name in present:
        header = (f5_sources.SERIES / name).read_text().split("diff --git")[0]
        assert len(header.strip().splitlines()) >= 3, f"{name} does not say why"


def signatures(source: Path) -> dict[str, str]:
    """Every function and method of upstream's inference files, as it is called."""
    found = {}
    for name in ("api.py", "infer/utils_infer.py", "model/cfm.py", "model/backbones/dit.py"):
        for node in ast.walk(ast.parse((source / "f5_tts" / name).read_text())):
            if isinstance(node, ast.FunctionDef):
                found[f"{name}:{node.name}:{node.col_offset}"] = ast.unparse(node.args)
    return found


def test_signatures_stay(version: str, patched: Path, tmp_path: Path) -> None:
    """A caller of upstream's functions, iShowTTS's backend for one, changes nothing."""
    before = signatures(f5_sources.unpack(version, tmp_path) / "src")
    after = signatures(patched)
    assert before == after
    assert {"api.py:infer:4", "infer/utils_infer.py:infer_batch_process:0"} <= before.keys()


def test_hooks_are_small() -> None:
    """What a new upstream version may have to be fitted to: two files, and few lines of them."""
    changed = [
        line
        for patch in f5_sources.SERIES.glob("*.patch")
        for line in patch.read_text().splitlines()
        if line[:1] in "+-" and line[:3] not in ("+++", "---") and line[1:].strip()
    ]
    files = {
        line[6:].strip()
        for patch in f5_sources.SERIES.glob("*.patch")
        for line in patch.read_text().splitlines()
        if line.startswith("+++ b/")
    }
    assert files == {"src/f5_tts/infer/utils_infer.py", "src/f5_tts/model/__init__.py"}
    assert len(changed) <= 100, "put it into f5_tts.fast and call it from the hook"


def test_model_names_are_lazy(patched: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from f5_tts.model import CFM, DiT\n"
        "assert CFM.__module__ == 'f5_tts.model.cfm'\n"
        "assert DiT.__module__ == 'f5_tts.model.backbones.dit'\n"
        "heavy = {'wandb', 'accelerate', 'datasets', 'ema_pytorch', 'f5_tts.model.trainer'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "import f5_tts.model\n"
        "try: f5_tts.model.Nope\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(patched)], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["[]", "module 'f5_tts.model' has no attribute 'Nope'"], (
        done.stderr
    )
