"""A support bundle: what doctor saw and what it saw it in, in one file that may leave the box.

    report.json     findings, as `doctor --json`
    facts.json      every fact, and how long it took to read
    config.yaml     the configuration, secrets removed
    manifest.json   what install told the engine
    ledger.txt      which paths install changed (not what was in them)
    units/…         our unit files and their drop-ins
    journal/…       our units' logs since boot, and systemd's about ordering
    box/…           L4T release, nvpmodel's status, meminfo and the like

Secrets are removed from all of it: see `scrubbing.py`.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ishowtts_ops import __version__
from ishowtts_ops.config import MANIFEST_PATH
from ishowtts_ops.doctor.report import Report
from ishowtts_ops.doctor.scrubbing import scrub, without_secrets
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.identity import RELEASE_PATH
from ishowtts_ops.facts.nvpmodel import STATUS_PATH
from ishowtts_ops.facts.systemd import ordering_cycles, read_journal
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision.units import UNIT_DIR, UNITS
from ishowtts_ops.steps import Ledger

LOG_LINES = 1000
BOX_FILES = (
    RELEASE_PATH,
    STATUS_PATH,
    "/etc/os-release",
    "/proc/meminfo",
    "/proc/swaps",
    "/proc/loadavg",
    "/proc/version",
)


def collect(report: Report, config_text: str, plain: Callable[[Any], Any]) -> dict[str, bytes]:
    """Every file of the bundle by name. Reads the box, changes nothing.

    Args:
        config_text: the configuration in force, as YAML.
        plain: makes JSON's types of a value.
    """
    exam = report.examination
    host = exam.host
    found = {
        "report.json": _json(report.to_json()),
        "facts.json": _json({"version": __version__, **plain(exam.facts)}),
        "config.yaml": scrub(without_secrets(config_text)).encode(),
        "ledger.txt": _ledger(host).encode(),
    }
    for name, text in (*_units(host), *_journals(host), *_box(host)):
        found[name] = scrub(text).encode()
    return found


def pack(files: Mapping[str, bytes]) -> bytes:
    """The files as a tar.gz, below one folder."""
    raw = io.BytesIO()
    top = time.strftime("ishowtts-doctor-%Y%m%d-%H%M%S")
    with (
        gzip.GzipFile(fileobj=raw, mode="wb") as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size, info.mode, info.mtime = len(data), 0o644, int(time.time())
            archive.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def save(path: Path, data: bytes) -> None:
    """Write a bundle for its owner's eyes, whole or not at all.

    Raises:
        OSError: as `open` does.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _json(value: Any) -> bytes:
    return (json.dumps(_scrubbed(value), indent=1, ensure_ascii=False) + "\n").encode()


def _scrubbed(value: Any) -> Any:
    """JSON's types, every text in them scrubbed: the whole document would not survive it."""
    if isinstance(value, BaseModel):
        return _scrubbed(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(key): _scrubbed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrubbed(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return scrub(value) if isinstance(value, str) else value


def _units(host: Host) -> Iterator[tuple[str, str]]:
    for name in UNITS:
        for path in (f"{UNIT_DIR}/{name}", *host.glob(f"{UNIT_DIR}/{name}.d/*.conf")):
            text = sysfs.text(host, path)
            if isinstance(text, str):
                yield f"units/{path.removeprefix(f'{UNIT_DIR}/')}", text + "\n"


def _journals(host: Host) -> Iterator[tuple[str, str]]:
    for name in UNITS:
        if not host.lexists(f"{UNIT_DIR}/{name}"):
            continue
        log = read_journal(host, name, LOG_LINES)
        yield f"journal/{name}.txt", log.reason + "\n" if isinstance(log, Unknown) else log
    cycles = ordering_cycles(host)
    if not isinstance(cycles, Unknown) and cycles:
        yield "journal/ordering-cycles.txt", "\n".join(cycles) + "\n"


def _box(host: Host) -> Iterator[tuple[str, str]]:
    for path in BOX_FILES:
        text = sysfs.text(host, path)
        if isinstance(text, str):
            yield f"box{path}", text + "\n"
    manifest = sysfs.text(host, MANIFEST_PATH)
    if isinstance(manifest, str):
        yield "manifest.json", manifest + "\n"


def _ledger(host: Host) -> str:
    """Paths and keys only: what was in the files is their owner's."""
    try:
        ledger = Ledger.open(host)
    except (OpsError, OSError) as error:
        return f"{error}\n"
    lines = [f"{was.get('kind', '?'):8} {path}" for path, was in ledger.files.items()]
    return "\n".join([*lines, *(f"note     {key}" for key in ledger.notes)]) + "\n"
