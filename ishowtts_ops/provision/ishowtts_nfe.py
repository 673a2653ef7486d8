"""Writes `[f5] default_nfe_step` of iShowTTS's own configuration: the one key we may, when asked.

Comments, order, line ends, mode and owner of the file stay. Undone by putting back the one key, not
the file: its owner may have changed other lines since.
"""

from __future__ import annotations

import re
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from ishowtts_ops.config import EPSS_STEPS, Settings
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.ishowtts import CONFIG
from ishowtts_ops.steps import Change, Ledger, Progress, file_diff

KEY = "default_nfe_step"
NOTE = "ishowtts-nfe"
MOST = 64

_HEADER = re.compile(r"^[ \t]*\[[ \t]*f5[ \t]*\][ \t]*(?:#[^\r\n]*)?(\r?\n|$)", re.MULTILINE)


def set_nfe(host: Host, settings: Settings, ledger: Ledger, steps: int) -> Change | None:
    """What makes iShowTTS ask for `steps` solver steps; None when it does already.

    Raises:
        UsageError: `steps` is no usable number.
        OpsError: there is no configuration, or it cannot be changed without touching more of it.
    """
    if not 1 <= steps <= MOST:
        raise UsageError(
            f"{steps} is no number of steps.", f"Give one from 1 to {MOST}; 7 is fast."
        )
    path = f"{settings.ishowtts.path.rstrip('/')}/{CONFIG}"
    if not host.is_file(path):
        raise OpsError(
            f"There is no iShowTTS configuration at {path}.",
            "Set ishowtts.path to the checkout; without one, f5.nfe is the setting.",
        )
    path = host.box_path(host.path(path))  # a link stays a link
    text = _read(host, path)
    wanted, former = _with(text, path, str(steps))
    if wanted == text:
        return None

    def act(_: Progress) -> None:
        host.require_root(f"Writing {path}")
        ledger.note(NOTE, {"path": path, "was": former})
        ledger.notes[NOTE]["set"] = str(steps)  # the first `was` stays, the last `set` counts
        ledger.save()
        _write(host, path, wanted)

    untuned = "" if steps in EPSS_STEPS else " (F5-TTS has no tuned schedule for that number)"
    summary = f"set {KEY} from {former or 'nothing'} to {steps} in {path}{untuned}"
    mode = host.stat(path).mode
    return Change("ishowtts-nfe", summary, tuple(file_diff(host, path, wanted, mode)), act)


def undo(host: Host, ledger: Ledger, log: Progress) -> tuple[str, ...]:
    """Put the key back as it was, unless its owner has changed it since.

    Returns:
        sentences about what could not be put back.
    """
    note = ledger.notes.get(NOTE)
    if note is None:
        return ()
    path, former = note["path"], note["was"]
    if not host.is_file(path):
        return ()
    try:
        text = _read(host, path)
        if _raw(text) != note["set"]:
            log(f"{KEY} in {path} was changed since; it is left as it is")
            return ()
        log(f"putting {KEY} in {path} back")
        _write(host, path, _with(text, path, former)[0])
    except OpsError as error:
        return (error.message,)
    return ()


def _read(host: Host, path: str) -> str:
    try:
        return host.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise OpsError(f"{path} is not UTF-8 text.", "Save it as UTF-8.") from None


def _write(host: Host, path: str, text: str) -> None:
    info = host.stat(path)
    host.write(path, text.encode("utf-8"), mode=info.mode, owner=(info.uid, info.gid))


def _with(text: str, path: str, raw: str | None) -> tuple[str, str | None]:
    """(the text with the key's value as `raw`, or without the key; the value that was there).

    Whatever way it is edited, the result must mean the same but for this one key.
    """
    document = _parse(text, path)
    former = _raw(text)
    if not isinstance(document.get("f5"), dict):
        raise _unusual(path, raw)
    if former is not None and raw is not None:
        document["f5"][KEY] = tomlkit.parse(f"x = {raw}")["x"]
        result = tomlkit.dumps(document)
    elif raw is not None:
        header = _HEADER.search(text)
        end = (header[1] if header else "") or "\n"
        at = header.end() if header else 0
        gap = "" if header and header[1] else end
        result = f"{text[:at]}{gap}{KEY} = {raw}{end}{text[at:]}"
    else:
        line = re.compile(rf"^[ \t]*{KEY}[ \t]*=[^\r\n]*(?:\r?\n|$)", re.MULTILINE)
        result = line.sub("", text, count=1) if former is not None else text
    meant = _parse(text, path).unwrap()
    meant["f5"].pop(KEY, None)
    if raw is not None:
        meant["f5"][KEY] = tomlkit.parse(f"x = {raw}")["x"].unwrap()
    if _meaning(result) != meant:
        raise _unusual(path, raw)
    return result, former


def _unusual(path: str, raw: str | None) -> OpsError:
    return OpsError(
        f"{path} has no usual [f5] section, so {KEY} cannot be written without touching more.",
        f"Write `{KEY} = {raw}` below [f5] by hand." if raw else "Remove the line by hand.",
    )


def _meaning(text: str) -> dict[str, Any] | None:
    try:
        return tomlkit.parse(text).unwrap()
    except TOMLKitError:
        return None


def _parse(text: str, path: str) -> tomlkit.TOMLDocument:
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise OpsError(f"{path} is not valid TOML: {error}.", "Correct the file.") from None
    if tomlkit.dumps(document) != text:
        raise OpsError(f"{path} would lose formatting.", f"Write {KEY} by hand.")
    return document


def _raw(text: str) -> str | None:
    """The value's own text, `0x10` as `0x10`; None where the key is not there."""
    try:
        f5 = tomlkit.parse(text).get("f5")
    except TOMLKitError:
        return None
    item = f5.get(KEY) if isinstance(f5, dict) else None
    return None if item is None else str(item.as_string())
