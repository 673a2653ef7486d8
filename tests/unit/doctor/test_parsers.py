"""Whatever in `facts/` and `doctor/` takes text apart is known here, with the test that feeds it
damaged text. A new one fails this file until it is registered, which is the moment to test it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ishowtts_ops
from ishowtts_ops.doctor import scrubbing
from ishowtts_ops.doctor.checks_engine import _same_build
from ishowtts_ops.doctor.checks_units import _without_folder
from ishowtts_ops.facts import asking, modules, stacks, systemd
from ishowtts_ops.facts.python_env import Package
from tests.unit.facts.test_every_parser import ROWS

PACKAGE = Path(ishowtts_ops.__file__).parent
TAKES_APART = {
    *("splitlines", "split", "partition", "rpartition", "loads", "safe_load", "model_validate"),
    *("match", "fullmatch", "search", "findall", "finditer", "sub"),
}
"""Methods that text is taken apart with."""

HERE = "test_any_text_is_survived below"
FILE = "tests/service/doctor/test_damaged.py, which damages every file that is read"
TABLE = "no text of a box: the package's own table, a path, a name of ours, or a parsed value"

REGISTERED: dict[str, str] = {
    "asking.ask": FILE,
    "asking.failure": FILE,
    "asking.clause": HERE,
    "clocks._leader": TABLE,
    "clocks._cores": FILE,
    "clocks._highest": FILE,
    "clocks_show._clock": "part of clocks_show.parse_show",
    "clocks_show._flag": "part of clocks_show.parse_show",
    "clocks_show._heading": "part of clocks_show.parse_show",
    "clocks_show._tpcs": "part of clocks_show.parse_show",
    "clocks_show._mode": "part of clocks_show.parse_show",
    "engine_python.overlay_of": "tests/scenario/test_engine_python.py",
    "engine_python.numpy_too_old": "tests/scenario/test_engine_python.py",
    "history._measured": "tests/unit/facts/test_history.py",
    "modules.parse_modes": TABLE,
    "modules._mode": TABLE,
    "modules.module_for": HERE,
    "nvpmodel.number": "part of nvpmodel.parse_conf",
    "nvpmodel.cores_online": "part of nvpmodel.parse_conf",
    "nvpmodel.take": "part of nvpmodel.parse_conf",
    "nvpmodel._header": "part of nvpmodel.parse_conf",
    "nvpmodel._mode": "part of nvpmodel.parse_conf",
    "nvpmodel._default": "part of nvpmodel.parse_conf",
    "python_env.numpy_major": "part of python_env.parse_answer",
    "rivals._ordered": FILE,
    "rivals._hand_made": FILE,
    "rivals._does_only_that": FILE,
    "rivals._rc_local": FILE,
    "sysfs.number": FILE,
    "systemd._unit": "part of systemd.parse_show",
    "systemd._count": "part of systemd.parse_show",
    "systemd.watchdog_kills": HERE,
    "systemd.about_units": HERE,
    "thermal.throttles": FILE,
    "voices.read_voices": FILE,
    "checks_box._family": TABLE,
    "checks_config._gone": FILE,
    "checks_config._manifest": FILE,
    "checks_daemon._last_line": FILE,
    "checks_daemon._restarts": TABLE,
    "checks_engine._same_build": HERE,
    "checks_memory._refused": FILE,
    "checks_units._without_folder": HERE,
    "checks_units._cycles": FILE,
    "checks_supply._reset": FILE,
    "checks_voices._manifest": FILE,
    "scrubbing._environment": HERE,
    "scrubbing.scrub": HERE,
    "scrubbing.without_secrets": HERE,
    "scrubbing._secret": HERE,
}


def found() -> set[str]:
    """`file.function` of everything that calls one of those methods."""
    names = set()
    for folder in ("facts", "doctor"):
        for path in sorted((PACKAGE / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef) and _takes_apart(node):
                    names.add(f"{path.stem}.{node.name}")
    return names


def _takes_apart(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in TAKES_APART
        for call in ast.walk(function)
    )


def test_every_parser_is_registered() -> None:
    rows = {row.name for row in ROWS}
    new = found() - REGISTERED.keys() - rows
    assert new == set(), "register it here, and feed it damaged text"
    assert set(REGISTERED) - found() == set(), "gone from the code"


def test_the_register_is_true() -> None:
    rows = {row.name for row in ROWS}
    parts = {where.removeprefix("part of ") for where in REGISTERED.values() if "part of" in where}
    assert parts <= rows
    here = {name for name, where in REGISTERED.items() if where == HERE}
    assert here == {name for _, names in TEXT_READERS for name in names}
    tests = Path(__file__).parents[3]
    for where in REGISTERED.values():
        if where.startswith("tests/"):
            assert (tests / where.split(",")[0]).is_file(), where


# ---- those that no row feeds -----------------------------------------------------------------

Read = Callable[[str], Any]
TEXT_READERS: list[tuple[Read, tuple[str, ...]]] = [
    (asking.clause, ("asking.clause",)),
    (lambda text: modules.module_for((text,), text), ("modules.module_for",)),
    (systemd.watchdog_kills, ("systemd.watchdog_kills",)),
    (
        lambda text: systemd.about_units(text, ["ishowtts-tts.service"]),
        ("systemd.about_units",),
    ),
    (
        lambda text: _same_build(Package(version=text), Package(version=text[::-1])),
        ("checks_engine._same_build",),
    ),
    (_without_folder, ("checks_units._without_folder",)),
    (scrubbing.scrub, ("scrubbing.scrub", "scrubbing._environment")),
    (scrubbing.without_secrets, ("scrubbing.without_secrets", "scrubbing._secret")),
    (stacks.hung_in, ()),
]
PIECES = [
    *("Watchdog timeout (limit 30s)!", "Überwachungszeit überschritten (Grenze 30s)!"),
    *("nvidia,p3737-0000+p3701-0005", "p3701", "p", "+", "-super", "NVIDIA Jetson AGX Orin"),
    *("ishowtts-tts.service", "/etc/systemd/system/ishowtts-tts.service:14: Unknown key"),
    *("Unbekannter Schlüssel", "cycle", "2.8.0+cu126", "2.", "+cpu", "٢.٨", "a: [", "token: |"),
    *("Environment=", 'A="b', "Bearer ", "https://", "@", "?", "-----BEGIN PRIVATE KEY-----"),
    *("\n", "\r", "\0", " ", "\ufffd", "\x1b[31m", "[" * 500),
]
ANY = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=10).map("".join))


@pytest.mark.parametrize("number", range(len(TEXT_READERS)))
@settings(max_examples=60, deadline=None)
@given(text=ANY)
def test_any_text_is_survived(number: int, text: str) -> None:
    TEXT_READERS[number][0](text)


def test_no_answer_is_no_answer() -> None:
    """The good news of each, and what is none."""
    assert systemd.watchdog_kills("a.service: Watchdog timeout (limit 30s)!") == 1
    assert systemd.watchdog_kills("a.service: Watchdog time") == 0
    unknown = "/etc/systemd/system/ishowtts-tts.service:14: Unknown key 'X', ignoring"
    assert systemd.about_units(unknown, ["ishowtts-tts.service"]) != ()
    assert modules.module_for(("nvidia,p3737-0000+p3701-0005",), "") is not None
    for text in ("", "\0", "nvidia,p3737-0000+p37", "NVIDIA Jetson", "p3701-٠٠٠٥"):
        assert modules.module_for((text,), text) is None
    assert not _same_build(Package(version="2.8.0"), Package(version="2.7.1"))
    assert not _same_build(Package(version="2.8.0+cu126"), Package(version="2.8.0+cpu"))
    assert _without_folder("/a/b/c.service:14: Unknown key.") == "c.service:14: Unknown key"
    assert asking.clause("") == "no reason given"
