"""Proof after patching: the files are as recorded, and the engine's interpreter imports them.

Each check takes the survey and the settings and answers with rows; a new proof is a new function in
`CHECKS`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.engine_python import in_use
from ishowtts_ops.provision.patch_state import FileState, PatchState
from ishowtts_ops.provision.patch_survey import Survey

IMPORT_TIMEOUT_S = 180.0
"""torch alone takes seconds to import from an SD card."""

_PROBE = """
import importlib, json, os, sys, traceback
root, names = sys.argv[1], sys.argv[2:]
sys.path.insert(0, root)
sys.dont_write_bytecode = True
for name in names:
    row = {"module": name, "missing": None, "error": None, "file": None}
    try:
        row["file"] = os.path.realpath(importlib.import_module(name).__file__)
    except ModuleNotFoundError as error:
        row["missing"] = error.name
    except BaseException as error:
        row["error"] = traceback.format_exception_only(type(error), error)[-1].strip()
    sys.__stdout__.write(json.dumps(row) + chr(10))
    sys.__stdout__.flush()
"""


@dataclass(frozen=True)
class VerifyRow:
    """One proof. `ok` is None when it could not be determined."""

    check: str
    ok: bool | None
    text: str


@dataclass(frozen=True)
class VerifyReport:
    """All proofs of one source tree."""

    source: str
    rows: tuple[VerifyRow, ...]

    @property
    def ok(self) -> bool | None:
        """False when a proof failed, None when one could not be had, else True."""
        answers = [row.ok for row in self.rows]
        if False in answers:
            return False
        return None if None in answers else True

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "ok": self.ok}


def verify_tree(found: Survey, settings: Settings) -> VerifyReport:
    """Run every check; a tree that is not patched fails the first and is spared the others."""
    rows: list[VerifyRow] = []
    for check in CHECKS:
        rows += check(found, settings)
        if any(row.ok is False for row in rows):
            break
    return VerifyReport(found.source, tuple(rows))


def _files(found: Survey, _: Settings) -> list[VerifyRow]:
    if found.status.state is not PatchState.APPLIED:
        return [VerifyRow("files", False, found.status.text)]
    rows = [VerifyRow("files", True, found.status.text)]
    recorded = found.record.files if found.record is not None else {}
    strange = [
        item.path
        for item in found.files
        if item.path in recorded
        and item.working is not None
        and not item.working.is_blob(recorded[item.path].patched)
    ]
    if strange:
        text = f"patched, but not by what was recorded: {', '.join(strange)}"
        rows.append(VerifyRow("record", False, text))
    elif not recorded:
        rows.append(VerifyRow("record", True, "patched before this box's record began"))
    else:
        rows.append(VerifyRow("record", True, f"{len(recorded)} files are as recorded"))
    return rows


def _imports(found: Survey, settings: Settings) -> list[VerifyRow]:
    """Import every added module and every hooked one, in a fresh interpreter of the engine."""
    host = found.host
    own = [_module(a.path) for a in found.added if a.path.endswith(".py")]
    hooked = [_module(h.path) for h in found.hooks if h.state is FileState.OURS]
    root = str(host.path(f"{found.source}/src"))
    python = in_use(host, settings)
    argv = [python, "-B", "-c", _PROBE, root, *own, *hooked]
    # iShowTTS embeds Python with this setting, and protobuf's C code fails on some Jetsons.
    env = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    try:
        answer = host.query(argv, timeout=IMPORT_TIMEOUT_S, env=env)
    except OpsError as error:
        return [VerifyRow("imports", None, f"could not be tried: {error.message}")]
    told = {}
    for line in answer.stdout.splitlines():
        if line.startswith('{"module"'):
            row = json.loads(line)
            told[row["module"]] = row
    rows = [_import_row(name, told.get(name), root, needed=name in own) for name in own + hooked]
    if answer.ok or any(row.ok is False for row in rows):
        return rows
    why = "ran out of time" if answer.timed_out else f"ended with status {answer.rc}"
    tail = " ".join(answer.stderr.strip().splitlines()[-1:])
    return [*rows, VerifyRow("imports", False, f"{python} {why}. {tail}".strip())]


def _import_row(name: str, told: dict[str, Any] | None, root: str, *, needed: bool) -> VerifyRow:
    check = f"import {name}"
    if told is None:
        return VerifyRow(check, None, "the interpreter ended before it came to it")
    if told["error"]:
        return VerifyRow(check, False, told["error"])
    missing = told["missing"]
    if missing is not None and missing.split(".")[0] != "f5_tts" and not needed:
        # Upstream's own modules want packages (gradio's, transformers') that a daemon does without.
        return VerifyRow(check, True, f"is upstream's and needs {missing}, which is not installed")
    if missing is not None:
        return VerifyRow(check, False, f"the module {missing} is not there")
    if not told["file"].startswith(root.rstrip("/") + "/"):
        return VerifyRow(check, False, f"another installation comes first: {told['file']}")
    return VerifyRow(check, True, "comes from the patched source")


def _module(path: str) -> str:
    parts = list(PurePosixPath(path).with_suffix("").parts[1:])
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


CHECKS: tuple[Callable[[Survey, Settings], list[VerifyRow]], ...] = (_files, _imports)
