"""A whole set of wheels for another machine: nothing missing, nothing that does not fit.

`pip download --platform … --python-version …` takes files for another machine, but decides by the
Python that *runs* it which dependencies are needed ("only before Python 3.11", "only on x86-64"),
and gives up where a project publishes sources alone. So pip is asked for single projects, and what
they need is read here, from the wheels themselves, with the other machine's answers. What is
published as sources is built on this machine and kept if the result fits any machine.

Versions are narrowed until all fit; there is no going back to an older version of what asks, which
pip would do. Where that would be needed, the error names both sides.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import HeaderParser
from functools import cached_property
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from ishowtts_ops.errors import OpsError

MOST_ROUNDS = 30

_NOT_THERE = re.compile(r"No matching distribution found for (\S+)")
_TRY_AGAIN = "Look at the network and at the index, then run again: what is there is kept."


@dataclass(frozen=True)
class Target:
    """The machine that the wheels are for.

    Attributes:
        python: its CPython, as (3, 10).
        glibc: newest minor version of its glibc 2.
        machine: as `uname -m` says.
        pins: what must not be newer there.
    """

    python: tuple[int, int]
    glibc: int
    machine: str = "aarch64"
    pins: tuple[str, ...] = ()

    @property
    def digits(self) -> str:
        """Its Python as wheels write it: "310"."""
        return "".join(map(str, self.python))

    @property
    def platforms(self) -> tuple[str, ...]:
        """Best first. A wheel may name any older glibc."""
        newer = [f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, 16, -1)]
        older = ("manylinux2014", "manylinux2010", "manylinux1") if self.machine == "x86_64" else ()
        names = older or ("manylinux2014",)
        return (*newer, *(f"{name}_{self.machine}" for name in names), f"linux_{self.machine}")

    @property
    def options(self) -> tuple[str, ...]:
        """pip's words for it."""
        platforms = [word for name in self.platforms for word in ("--platform", name)]
        which = ("--python-version", self.digits, "--implementation", "cp", "--abi")
        return (*platforms, *which, f"cp{self.digits}", "--only-binary=:all:")

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """What a wheel's name may say to fit."""
        abi, platforms = f"cp{self.digits}", list(self.platforms)
        own = cpython_tags(self.python, [abi], platforms)
        return frozenset((*own, *compatible_tags(self.python, abi, platforms)))

    @property
    def environment(self) -> dict[str, str]:
        """What its Python would answer to a requirement's conditions."""
        version = ".".join(map(str, self.python))
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
        }

    def needs(self, requirement: Requirement, extras: frozenset[str] = frozenset()) -> bool:
        """Does the requirement's condition hold there, for something taken with these extras?"""
        marker = requirement.marker
        return marker is None or any(
            marker.evaluate({**self.environment, "extra": extra}) for extra in ("", *extras)
        )


@dataclass
class Wanted:
    """All that is asked of one project.

    Attributes:
        by: who asks and for what, for messages.
    """

    name: str
    versions: SpecifierSet = field(default_factory=SpecifierSet)
    extras: frozenset[str] = frozenset()
    by: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name}{self.versions}"

    @property
    def asked(self) -> str:
        return ", ".join(dict.fromkeys(self.by))


@dataclass(frozen=True)
class Wheel:
    """A wheel of the folder, and what it needs."""

    path: Path
    requires: tuple[Requirement, ...]

    def meets(self, wanted: Wanted) -> bool:
        version = parse_wheel_filename(self.path.name)[1]
        return wanted.versions.contains(version, prereleases=True)


Fetch = Callable[[Sequence[str], Path], str | None]
"""Bring wheels of these requirements, without what they need, into a folder. None when all are
there, else why not."""


@dataclass(frozen=True)
class WheelSet:
    """A folder that becomes such a set.

    Attributes:
        fetch: pip, for this target.
        build: pip, building from sources on this machine.
    """

    target: Target
    folder: Path
    fetch: Fetch
    build: Fetch

    def complete(self, roots: Sequence[str]) -> list[str]:
        """Fetch until everything that the roots need is there. What is there already and fits is
        kept, so a run that was killed is continued by the next.

        Returns:
            the names of the set's wheels.

        Raises:
            OpsError: something cannot be had for this target, or does not go together.
        """
        unmet: list[Wanted] = []
        for _ in range(MOST_ROUNDS):
            here = self.wheels()
            wanted = self._wanted(roots, here)
            unmet = [i for n, i in wanted.items() if n not in here or not here[n].meets(i)]
            if not unmet:
                return sorted(here[name].path.name for name in wanted)
            for item in unmet:
                if item.name in here:  # too new for somebody who was asked later
                    here[item.name].path.unlink()
            self._bring(unmet)
        rest = "; ".join(f"{item} ({item.asked})" for item in unmet)
        raise OpsError(
            f"The packages in {self.folder} do not go together: {rest}.",
            "Start with an empty folder; if that does not help, please report it.",
        )

    def wheels(self) -> dict[str, Wheel]:
        """What is in the folder, by project. A file that is cut short is removed.

        Raises:
            OpsError: a wheel is for another machine, or a project is there twice.
        """
        found: dict[str, Wheel] = {}
        for path in sorted(self.folder.glob("*.whl")):
            try:
                name, _, _, tags = parse_wheel_filename(path.name)
                requires = tuple(_requires(path))
            except (InvalidWheelFilename, InvalidRequirement, zipfile.BadZipFile):
                path.unlink()
                continue
            if not tags & self.target.tags:
                raise OpsError(
                    f"{path} is for another machine or another Python.",
                    "One folder serves one JetPack: name an empty one.",
                )
            if name in found:
                raise OpsError(
                    f"{self.folder} holds {name} twice: {found[name].path.name} and {path.name}.",
                    "Remove one of them, or name an empty folder.",
                )
            found[name] = Wheel(path, requires)
        return found

    def _wanted(self, roots: Sequence[str], here: Mapping[str, Wheel]) -> dict[str, Wanted]:
        """What the roots need, and what that needs, as far as its wheels are there to be read."""
        wanted: dict[str, Wanted] = {}
        pins = {canonicalize_name(pin.name): pin for pin in map(Requirement, self.target.pins)}
        asked = [(r, "this program") for r in map(Requirement, roots) if self.target.needs(r)]
        while asked:
            requirement, by = asked.pop()
            name = canonicalize_name(requirement.name)
            fresh = frozenset(requirement.extras)
            if name in wanted:
                fresh -= wanted[name].extras
                seen = not fresh
            else:
                wanted[name], seen = Wanted(name), False
                if name in pins:
                    asked.append((pins[name], "its JetPack"))
            item = wanted[name]
            item.versions &= requirement.specifier
            item.extras |= fresh
            item.by.append(f"{by} wants {requirement.specifier or 'it'}")
            if not seen and name in here:
                needed = [r for r in here[name].requires if self.target.needs(r, item.extras)]
                asked += [(each, here[name].path.name) for each in needed]
        return wanted

    def _bring(self, unmet: Sequence[Wanted]) -> None:
        """Fetch them all at once. pip gives up at the first that has no wheel, and names it."""
        rest = {item.name: item for item in unmet}
        while rest:
            why = self.fetch([str(item) for item in rest.values()], self.folder)
            if why is None:
                return
            named = _NOT_THERE.search(why)
            item = rest.pop(canonicalize_name(Requirement(named[1]).name), None) if named else None
            if item is None:
                raise OpsError(f"pip could not fetch everything. It says:\n{why}", _TRY_AGAIN)
            self._build(item, why)

    def _build(self, item: Wanted, why: str) -> None:
        """From sources: right where the result is for any machine, or this one is like the other.

        Args:
            why: there is no wheel of it.
        """
        with tempfile.TemporaryDirectory(prefix="ishowtts-ops-wheel-") as name:
            built = Path(name)
            if self.build([str(item)], built) is not None:
                raise OpsError(
                    f"{item} cannot be had for that JetPack ({item.asked}). pip says:\n{why}",
                    _TRY_AGAIN,
                )
            for path in built.glob("*.whl"):
                if not parse_wheel_filename(path.name)[3] & self.target.tags:
                    raise OpsError(
                        f"{item} ({item.asked}) is published as sources, and what they compile to"
                        f" on this machine, {path.name}, does not run on that JetPack.",
                        "Run this on a box with that JetPack, or put a wheel of it that was built"
                        f" on one into {self.folder}.",
                    )
                shutil.copyfile(path, self.folder / path.name)


def _requires(path: Path) -> Iterator[Requirement]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        if not names:
            raise zipfile.BadZipFile(f"{path} has no METADATA")
        text = archive.read(names[0]).decode("utf-8", "replace")
    told = HeaderParser().parsestr(text, headersonly=True)
    for line in told.get_all("Requires-Dist") or ():
        yield Requirement(str(line))
