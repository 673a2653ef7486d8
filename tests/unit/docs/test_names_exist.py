"""What the documents, the messages and the units name exists: commands, options, files, settings,
units and metrics."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

import ishowtts_ops
from ishowtts_ops.config import Settings
from ishowtts_ops.provision.units import UNITS
from tests.support import verbs

PACKAGE = Path(ishowtts_ops.__file__).parent
ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
# It names iShowTTS's own scripts and files, and has a test of its own.
FOREIGN = {"quick-reference-map.md"}
OURS = [page for page in PAGES if page.name not in FOREIGN]

ELSEWHERE = {
    "config/ishowtts.toml",  # of an iShowTTS checkout
    "ishowtts.toml",
    "config.yaml",
    "ledger.json",  # of a box
    "engine.json",
    "patch-state.json",
    "daemon.json",
    "weights/",
    "demo/",  # made by `install.sh demo`
    "demo/espeak.wav",
    "demo/f5.wav",
    "patches/f5-tts/NNNN-name.patch",  # a pattern for the reader
}


CUT = "\ue000"
"""Stands for a value that is known at run time only."""


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(text: str) -> set[str]:
    """Command lines of ours in code blocks and in backticks."""
    shown = re.findall(r"`([^`\n]+)`", text)
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.M | re.S):
        shown += block.splitlines()
    shown += re.findall(r"^ {4}(.*)$", text, flags=re.M)
    return {words for line in shown for words in verbs.named_in(line)}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands(page: Path) -> None:
    wrong = [verbs.fault(words) for words in commands(page.read_text(encoding="utf-8"))]
    assert [line for line in wrong if line] == []


def test_commands_are_found_at_all() -> None:
    found = {words.split()[0] for page in PAGES for words in commands(page.read_text())}
    assert {"install", "doctor", "say", "bench", "config", "supervise", "wheels"} <= found
    assert verbs.fault("instal --dry-run") == "there is no verb 'instal' in `instal --dry-run`"
    assert verbs.fault("say hi --nonsense") == "`say hi --nonsense`: there is no option --nonsense"
    assert list(verbs.named_in("run `sudo ishowtts-ops install --only x`.")) == ["install --only x"]


def strings(path: Path) -> Iterator[str]:
    """The texts of a source file, cut off where an f-string has a value."""
    inner: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else CUT for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in inner:
                yield node.value
        elif isinstance(node, (ast.Tuple, ast.List)):
            words = [e.value if isinstance(e, ast.Constant) else CUT for e in node.elts]
            if "ishowtts-ops" in words[:2]:
                yield "`" + " ".join(map(str, words)) + "`"


@cache
def messages() -> dict[str, str]:
    """Command lines of ours that the program itself names, and where."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for text in strings(path):
            for words in re.findall(r"`(?:sudo )?ishowtts-ops ([^`\n]+)`", " ".join(text.split())):
                found[words.split(CUT)[0]] = str(path.relative_to(PACKAGE))
    return found


def test_commands_that_messages_name() -> None:
    assert len(messages()) > 40
    wrong = {where: verbs.fault(words) for words, where in messages().items() if verbs.fault(words)}
    assert wrong == {}


def test_commands_that_units_run() -> None:
    run = [
        words
        for path in (ROOT / "units").iterdir()
        for words in re.findall(r"@program@ ([^@\n]*)", path.read_text(encoding="utf-8"))
    ]
    assert "power guard" in run
    assert [verbs.fault(words) for words in run if verbs.fault(words)] == []


def test_commands_that_the_configuration_and_the_alerts_name() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "config").iterdir()]
    found = {words for text in texts for words in commands(text)}
    assert "config check" in found
    assert [verbs.fault(words) for words in found if verbs.fault(words)] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@cache
def files() -> tuple[str, ...]:
    """Every file and folder of the project, from its top; folders end with a slash."""
    tops = ("ishowtts_ops", "tests", "docs", "units", "config", "patches", ".ci")
    found = [path.name for path in ROOT.iterdir() if path.is_file()]
    for top in tops:
        for path in (ROOT / top, *(ROOT / top).rglob("*")):
            if "__pycache__" not in path.parts:
                found.append(f"{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}")
    return tuple(found)


def there(name: str) -> bool:
    """Is a path, a pattern or the end of a path one of the project?"""
    choices = [name]
    braces = re.search(r"\{([^}]*)\}", name)
    if braces:
        choices = [name.replace(braces[0], part) for part in braces[1].split(",")]
    for choice in choices:
        pattern = re.escape(choice).replace(r"\*", "[^/]*")
        if not any(re.search(rf"(^|/){pattern}/?$", path) for path in files()):
            return False
    return True


@pytest.mark.parametrize("page", OURS, ids=ids)
def test_files(page: Path) -> None:
    shown = re.findall(r"`([\w.{},*/-]+)`", page.read_text(encoding="utf-8"))
    named = {
        name
        for name in shown
        if re.search(r"\.(py|md|tsv|json|yaml|yml|toml|sh)$|^\w[\w-]*/.*[\w*/]$|^\w+/$", name)
        and not name.startswith(("/", ".", "-", "voices/", "third_party/"))
    }
    gone = [name for name in sorted(named - ELSEWHERE) if not there(name)]
    assert gone == []


@pytest.mark.parametrize("page", OURS, ids=ids)
def test_options(page: Path) -> None:
    """An option that is named alone belongs to some verb, or to a script of ours."""
    scripts = "".join(
        path.read_text(encoding="utf-8")
        for path in (*ROOT.glob("tests/gpu/*.py"), ROOT / "install.sh")
    )
    for option in re.findall(r"`(--[a-z][a-z-]+)", page.read_text(encoding="utf-8")):
        assert option in verbs.options() or f'"{option}"' in scripts or option in scripts, option


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_settings(page: Path) -> None:
    sections = {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    for section, key in re.findall(r"`([a-z0-9]+)\.([a-z_]+)(?:: [^`]*)?`", page.read_text()):
        if section in sections and key not in ("py", "md", "yaml", "json", "toml"):
            assert key in sections[section].model_fields, f"{section}.{key}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_units(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for unit in re.findall(r"\b(ishowtts-[a-z]+@?\.(?:service|timer|path))\b", text):
        assert unit in UNITS or (ROOT / "units" / unit).is_file(), unit


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_metrics_and_variables(page: Path) -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for folder in (PACKAGE, ROOT / "patches/f5-tts/files")
        for path in folder.rglob("*.py")
    )
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`(ishowtts_(?!ops\b)[a-z_]+|(?:F5_TTS|ISHOWTTS)_[A-Z_]+)", text):
        stem = re.sub(r"_(total|ratio|seconds|bytes)$", "", name)
        assert stem in source or stem.removeprefix("ishowtts_") in source, name
