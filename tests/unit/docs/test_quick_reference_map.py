"""The page that maps iShowTTS's quick reference to this toolkit: nothing of it is missing, and what
it names exists."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

from ishowtts_ops.config import Settings
from ishowtts_ops.provision.units import UNITS
from tests.support import verbs

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/quick-reference-map.md"


def items() -> list[tuple[str, str]]:
    """Every script, command, file and table row of the quick reference, by section."""
    with (ROOT / "tests/data/quick-reference.tsv").open(encoding="utf-8") as file:
        lines = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(line["section"], line["item"]) for line in lines]


@cache
def rows() -> dict[str, list[tuple[str, str]]]:
    """(there, here) of the page's tables, by section."""
    found: dict[str, list[tuple[str, str]]] = {}
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith("| there"):
            there, here = (cell.strip() for cell in line.strip("| ").split(" | ", 1))
            found.setdefault(section, []).append((there, here))
    return found


def commands() -> list[str]:
    """What the page says to type here, where it begins with a verb of ours."""
    known = set(verbs.click_app().commands)
    found = []
    for table in rows().values():
        for _, here in table:
            for code in re.findall(r"`([^`]+)`", here):
                words = code.removeprefix("sudo ").removeprefix("ishowtts-ops ")
                if words.split()[0] in known and not words.startswith("supervise --"):
                    found.append(words)
    return sorted(set(found))


@pytest.mark.parametrize(("section", "item"), items())
def test_every_item_is_mapped(section: str, item: str) -> None:
    fitting = [here for there, here in rows()[section] if item.lower() in there.lower()]
    assert fitting, f"{item} has no row under {section}"
    assert all(fitting), f"{item} is mapped to nothing"


def test_the_list_is_that_of_the_document() -> None:
    """One that was cut short would prove nothing."""
    found = items()
    assert len(found) == len(set(found)) == 72
    assert {section for section, _ in found} == set(rows())


@pytest.mark.parametrize("words", commands())
def test_commands_and_options_exist(words: str) -> None:
    assert verbs.fault(words) is None


def test_units_settings_and_files_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for unit in re.findall(r"`(ishowtts-[a-z]+\.(?:service|timer|path))`", text):
        assert unit in UNITS, unit
    here = " ".join(cell for table in rows().values() for _, cell in table)
    settings = set(re.findall(r"`((?:measure|power|f5|engine|notify)\.[a-z_]+)`", here))
    assert len(settings) > 5
    for name in settings:
        section, key = name.split(".")
        model = Settings.model_fields[section].annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        assert key in model.model_fields, name
    for folder in re.findall(r"`((?:docs|patches)/[a-z0-9/-]*)`", here):
        assert (ROOT / folder).is_dir(), folder
