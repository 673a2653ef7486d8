"""What nvpmodel reads, keeps and prints: its conf, its status file, the answer of `nvpmodel -q`.

Pure parsers. Whatever they are fed, they answer with a value or with Unknown. Formats as observed
in the R35.3.1 packages and on R36 and R39 boxes. CPU rates are kHz, GPU and EMC rates Hz; some
exceed 32 bits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ishowtts_ops.facts.value import Maybe, Unknown

CONF_PATH = "/etc/nvpmodel.conf"
STATUS_PATH = "/var/lib/nvpmodel/status"
BEST_NAMES = ("MAXN_SUPER", "MAXN")
"""The most capable modes by name, best first. The id says nothing: on Orin Nano Super mode 0 is
15 W and MAXN_SUPER is 2."""

_UNLIMITED = 1 << 62
"""nvpmodel shows 9223372036854775807 for a clock that is not capped."""
_MAX_TPCS = 8
_HEADER = re.compile(r"<\s*([A-Z_]+)\b\s*([^<>]*?)\s*>$")
_PAIR = re.compile(r"([A-Z_]+)\s*=\s*(\S+)")
_INTEGER = re.compile(r"-?[0-9]{1,20}")


@dataclass(frozen=True)
class Param:
    """What a mode may set: `kind` is FILE or CLOCK, `paths` says which file each argument is."""

    name: str
    kind: str
    paths: tuple[tuple[str, str], ...]

    def path(self, arg: str) -> str | None:
        return next((path for name, path in self.paths if name == arg), None)


@dataclass(frozen=True)
class Setting:
    """One line of a mode: write `value` to the file that `param` has for `arg`."""

    param: str
    arg: str
    value: str

    @property
    def number(self) -> int | None:
        return int(self.value) if _INTEGER.fullmatch(self.value) else None


@dataclass(frozen=True)
class Mode:
    """A power mode as the conf defines it."""

    id: int
    name: str
    settings: tuple[Setting, ...]

    def caps(self, prefix: str) -> list[float]:
        """MAX_FREQ of every clock whose name starts so; `inf` is "not capped"."""
        found = []
        for setting in self.settings:
            if setting.param.startswith(prefix) and setting.arg == "MAX_FREQ":
                value = setting.number
                if value is not None:
                    found.append(math.inf if uncapped(setting.param, value) else float(value))
        return found

    @property
    def cores_online(self) -> int | None:
        """How many cores the mode switches on; None when it does not say."""
        found = [s.value for s in self.settings if re.fullmatch(r"CORE_[0-9]+", s.arg)]
        return found.count("1") if found else None

    @property
    def tpc_pg_mask(self) -> int | None:
        """The GPU's power-gating mask: a set bit switches a TPC off."""
        for setting in self.settings:
            if setting.arg == "TPC_PG_MASK":
                return setting.number
        return None

    @property
    def capability(self) -> tuple[float, ...]:
        """Compares modes: GPU first (its rate times its TPCs), since speech runs there, then CPU,
        then memory."""
        tpcs = max(_MAX_TPCS - (self.tpc_pg_mask or 0).bit_count(), 1)
        gpu, cpu, emc = (min(self.caps(name), default=math.inf) for name in ("GPU", "CPU", "EMC"))
        cores = self.cores_online or 1
        return (gpu * tpcs, tpcs, cpu * cores, cores, emc)


@dataclass(frozen=True)
class ConfProblem:
    """Something in a conf that does not fit. `line` counts from 1; 0 is the file as a whole."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(frozen=True)
class Conf:
    """A parsed nvpmodel.conf; it has at least one mode.

    Attributes:
        default: id of the mode of a box that has no status file.
        problems: what did not fit; a conf that was cut off has at least one.
    """

    params: tuple[Param, ...]
    modes: tuple[Mode, ...]
    default: int | None
    problems: tuple[ConfProblem, ...]

    def mode(self, mode_id: int) -> Mode | None:
        return next((mode for mode in self.modes if mode.id == mode_id), None)

    def param(self, name: str) -> Param | None:
        return next((param for param in self.params if param.name == name), None)

    def path(self, setting: Setting) -> str | None:
        """The file that a setting writes."""
        param = self.param(setting.param)
        return param.path(setting.arg) if param else None

    def find(self, name: str) -> Mode | None:
        """A mode by its name, whatever its case, with or without `MODE_`."""
        exact = next((mode for mode in self.modes if mode.name == name), None)
        if exact is not None:
            return exact
        return next((mode for mode in self.modes if plain(mode.name) == plain(name)), None)

    @property
    def names(self) -> str:
        """The modes for a person: `MAXN (0), MODE_15W (1)`."""
        return ", ".join(f"{mode.name} ({mode.id})" for mode in self.modes)


@dataclass(frozen=True)
class QueryAnswer:
    """What `nvpmodel -q` said. It reads the status file and the conf, never the hardware."""

    name: str
    id: int
    warnings: tuple[str, ...]


def plain(name: str) -> str:
    """A mode's name for comparing."""
    return name.strip().upper().removeprefix("MODE_")


def uncapped(param: str, value: int) -> bool:
    """Does this MAX_FREQ leave the clock alone? EMC's file says 0 for that on R35."""
    return value < 0 or value >= _UNLIMITED or (value == 0 and param.startswith("EMC"))


def best_mode(conf: Conf) -> Mode:
    """MAXN_SUPER, then MAXN, then the least capped mode."""
    for name in BEST_NAMES:
        found = conf.find(name)
        if found is not None:
            return found
    return max(conf.modes, key=lambda mode: (*mode.capability, -mode.id))


def parse_conf(data: bytes) -> Maybe[Conf]:
    """Parse an nvpmodel.conf.

    Returns:
        Unknown when no power mode can be read from it; else what could be read, with `problems`.
    """
    if not data.strip(b" \t\r\n\0"):
        return Unknown("the nvpmodel conf is empty")
    reader = _Reader()
    for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
        reader.take(number, line.split("#", 1)[0].strip())
    return reader.conf()


class _Reader:
    """Collects a conf line by line."""

    def __init__(self) -> None:
        self.params: dict[str, tuple[str, list[tuple[str, str]]]] = {}
        self.modes: dict[int, tuple[str, list[Setting]]] = {}
        self.default: int | None = None
        self.problems: list[ConfProblem] = []
        self.paths: list[tuple[str, str]] | None = None
        self.settings: list[Setting] | None = None

    def take(self, number: int, line: str) -> None:
        if not line:
            return
        if line.startswith("<"):
            self._header(number, line)
            return
        words = line.split()
        if self.paths is not None and len(words) == 2 and words[1].startswith("/"):
            self.paths.append((words[0], words[1]))
        elif self.settings is not None and len(words) == 3:
            self.settings.append(Setting(*words))
        else:
            self._problem(number, f"{_short(line)} does not fit")

    def _header(self, number: int, line: str) -> None:
        self.paths = self.settings = None
        match = _HEADER.fullmatch(line)
        if match is None:
            self._problem(number, f"the heading {_short(line)} is not complete")
            return
        given = dict(_PAIR.findall(match[2]))
        if match[1] == "PARAM":
            self._param(number, given)
        elif match[1] == "POWER_MODEL":
            self._mode(number, given)
        elif match[1] == "PM_CONFIG":
            self._default(number, given)
        # Other headings, such as FAN_CONFIG, are none of our business.

    def _param(self, number: int, given: dict[str, str]) -> None:
        name, kind = given.get("NAME"), given.get("TYPE")
        if name is None or kind not in ("FILE", "CLOCK"):
            self._problem(number, "a PARAM needs a NAME and TYPE=FILE or TYPE=CLOCK")
            return
        if name in self.params:
            self._problem(number, f"the parameter {_short(name)} is there twice")
        self.paths = self.params.setdefault(name, (kind, []))[1]

    def _mode(self, number: int, given: dict[str, str]) -> None:
        name, mode_id = given.get("NAME"), given.get("ID", "")
        if name is None or not re.fullmatch(r"[0-9]{1,4}", mode_id):
            self._problem(number, "a POWER_MODEL needs a NAME and a numeric ID")
            return
        if int(mode_id) in self.modes:
            self._problem(number, f"the mode {int(mode_id)} is there twice")
            return
        self.settings = []
        self.modes[int(mode_id)] = (name, self.settings)

    def _default(self, number: int, given: dict[str, str]) -> None:
        value = given.get("DEFAULT", "")
        if not re.fullmatch(r"[0-9]{1,4}", value):
            self._problem(number, "PM_CONFIG names no default mode")
        else:
            self.default = int(value)

    def _problem(self, number: int, text: str) -> None:
        self.problems.append(ConfProblem(number, text))

    def conf(self) -> Maybe[Conf]:
        if not self.modes:
            return Unknown("the nvpmodel conf defines no power mode")
        if self.default is None:
            self._problem(0, "there is no PM_CONFIG, so the file seems to be cut off")
        elif self.default not in self.modes:
            self._problem(0, f"the default mode {self.default} is not defined")
        params = tuple(Param(n, kind, tuple(p)) for n, (kind, p) in self.params.items())
        modes = tuple(Mode(i, name, tuple(s)) for i, (name, s) in self.modes.items())
        conf = Conf(params, modes, self.default, ())
        self._check(conf)
        return Conf(params, modes, self.default, tuple(self.problems))

    def _check(self, conf: Conf) -> None:
        for mode in conf.modes:
            if not mode.settings:
                self._problem(0, f"the mode {mode.name} sets nothing")
            loose = {f"{s.param} {s.arg}" for s in mode.settings if conf.path(s) is None}
            if loose:
                first = min(loose)
                self._problem(0, f"the mode {mode.name} sets {_short(first)}, which has no path")


def parse_status(data: bytes) -> Maybe[int]:
    """The mode's id in a status file: `pmode:0002`, ten bytes, no newline."""
    match = re.fullmatch(rb"pmode:([0-9]{4})(?:[ \n][ -~\n]*)?", data)
    if match is None:
        shown = _short(data.decode("utf-8", errors="replace"))
        return Unknown(f"{STATUS_PATH} holds {shown} where `pmode:NNNN` is expected")
    return int(match[1])


def status_bytes(mode_id: int) -> bytes:
    """The status file that stages a mode."""
    return f"pmode:{mode_id:04d}".encode()


def parse_query(output: str) -> Maybe[QueryAnswer]:
    """The output of `nvpmodel -q`, `--verbose` or not. The exit status says nothing: it is 0 also
    for a corrupt status file."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    warnings = tuple(line for line in lines if line.startswith(("NVPM WARN", "NVPM ERROR")))
    for here, after in zip(lines, [*lines, ""][1:], strict=True):
        match = re.fullmatch(r"(?:NVPM VERB: Current mode: )?NV Power Mode: (\S+)", here)
        if match is not None:
            if not re.fullmatch(r"[0-9]{1,4}", after):
                return Unknown("`nvpmodel -q` names a mode but not its id")
            return QueryAnswer(match[1], int(after), warnings)
    if any("power mode is not set" in line for line in warnings):
        return Unknown("no power mode is set")
    first = next(iter(warnings or _first(lines)), None)
    said = f": it says {_short(first)}" if first else ", its output is empty"
    return Unknown(f"`nvpmodel -q` names no power mode{said}")


def _first(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(lines)[:1]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
