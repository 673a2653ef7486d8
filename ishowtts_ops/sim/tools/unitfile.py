"""systemd's unit files as the stand-in service manager reads them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from .box import Box

UNIT_DIR = "/etc/systemd/system"
UNIT_DIRS = (
    UNIT_DIR,
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
INFINITY = float("inf")

_SPANS = {
    "us": 1e-6,
    "usec": 1e-6,
    "ms": 1e-3,
    "msec": 1e-3,
    "s": 1,
    "sec": 1,
    "second": 1,
    "seconds": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "minutes": 60,
    "h": 3600,
    "hr": 3600,
    "hour": 3600,
    "hours": 3600,
    "d": 86400,
    "day": 86400,
    "days": 86400,
}


@dataclass(frozen=True)
class Unit:
    """A unit and its drop-ins. Paths are the box's."""

    name: str
    fragment: str
    drop_ins: tuple[str, ...] = ()
    masked: bool = False
    values: dict[str, list[str]] = field(default_factory=dict)

    @property
    def loaded(self) -> bool:
        return bool(self.fragment) and not self.masked

    @property
    def kind(self) -> str:
        return self.name.rsplit(".", 1)[-1]

    def all(self, key: str) -> list[str]:
        """Every value of "Section.Key", in order; an empty assignment has cleared those before."""
        return [self._expand(value) for value in self.values.get(key, [])]

    def get(self, key: str, default: str = "") -> str:
        values = self.all(key)
        return values[-1] if values else default

    def words(self, key: str) -> list[str]:
        return [word for value in self.all(key) for word in value.split()]

    def flag(self, key: str, default: bool = False) -> bool:
        text = self.get(key).lower()
        return text in ("yes", "true", "on", "1") if text else default

    def seconds(self, key: str, default: float) -> float:
        text = self.get(key)
        return parse_span(text) if text else default

    @property
    def description(self) -> str:
        return self.get("Unit.Description") or self.name

    @property
    def service_type(self) -> str:
        default = "simple" if self.all("Service.ExecStart") else "oneshot"
        return self.get("Service.Type", default)

    def _expand(self, text: str) -> str:
        stem = self.name.rsplit(".", 1)[0]
        prefix, _, instance = stem.partition("@")
        table = {
            "n": self.name,
            "N": stem,
            "p": prefix,
            "i": instance,
            "t": "/run",
            "S": "/var/lib",
            "C": "/var/cache",
            "L": "/var/log",
            "h": "/root",
            "u": "root",
            "%": "%",
        }
        return re.sub(r"%(.)", lambda match: table.get(match[1], match[0]), text)


def parse_span(text: str) -> float:
    """A time span in seconds: "90", "2min 30s", "infinity".

    Raises:
        ValueError: it is none.
    """
    if text.strip() == "infinity":
        return INFINITY
    pieces = re.findall(r"([0-9.]+)\s*([a-z]*)", text.strip())
    if not pieces or re.sub(r"([0-9.]+)\s*([a-z]*)\s*", "", text.strip()):
        raise ValueError(f"{text!r} is not a time span")
    return sum(float(number) * _SPANS[unit or "s"] for number, unit in pieces)


def load_unit(box: Box, name: str) -> Unit:
    """Read a unit with its drop-ins; one that does not exist has an empty `fragment`."""
    for folder in UNIT_DIRS:
        path = f"{folder}/{name}"
        real = box.path(path, follow_last=False)
        if real.is_symlink() and box.path(path).name == "null":
            return Unit(name, path, masked=True)
        if box.exists(path):
            break
    else:
        if name.endswith(".target"):
            # The targets come with systemd; a box in a folder has no systemd to bring them.
            return Unit(name, f"/lib/systemd/system/{name}")
        return Unit(name, "")
    drop_ins = tuple(_drop_ins(box, name))
    values: dict[str, list[str]] = {}
    for source in (path, *drop_ins):
        _collect(box.path(source).read_text(encoding="utf-8", errors="replace"), values)
    return Unit(name, path, drop_ins, False, values)


def _drop_ins(box: Box, name: str) -> Iterator[str]:
    seen: dict[str, str] = {}
    for folder in reversed(UNIT_DIRS):
        for entry in box.listdir(f"{folder}/{name}.d"):
            if entry.endswith(".conf"):
                seen[entry] = f"{folder}/{name}.d/{entry}"
    for entry in sorted(seen):
        yield seen[entry]


def _collect(text: str, values: dict[str, list[str]]) -> None:
    section = ""
    for line in re.sub(r"\\\n(?:[ \t]*[#;][^\n]*\n)*", " ", text).splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if not equals:
            continue
        known = values.setdefault(f"{section}.{key.strip()}", [])
        if value.strip():
            known.append(value.strip())
        else:
            known.clear()


def all_units(box: Box) -> list[str]:
    """Names of every unit file on the box."""
    names = {
        entry
        for folder in UNIT_DIRS
        for entry in box.listdir(folder)
        if re.search(r"\.(service|timer|path|socket|mount)$", entry)
    }
    return sorted(names)


def wanted_by(box: Box, name: str) -> list[str]:
    """Units that links below NAME.wants and NAME.requires pull in."""
    return sorted(
        {
            entry
            for folder in UNIT_DIRS
            for kind in ("wants", "requires")
            for entry in box.listdir(f"{folder}/{name}.{kind}")
        }
    )


@dataclass(frozen=True)
class Command:
    """One Exec line: `argv` still has its `$VARIABLES`."""

    argv: list[str]
    ignore_failure: bool


def commands(unit: Unit, key: str) -> list[Command]:
    """The commands of "ExecStart" and its kin. The privilege prefixes + ! mean nothing here."""
    found: list[Command] = []
    for line in unit.all(f"Service.{key}"):
        text = line.lstrip("@-:+!")
        prefix = line[: len(line) - len(text)]
        argv = shlex.split(text)
        if "@" in prefix and len(argv) > 1:
            del argv[1]
        if argv:
            found.append(Command(argv, "-" in prefix))
    return found
