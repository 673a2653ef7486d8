"""nvpmodel's configuration format: parameters (which file) and power models (which value)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_HEADER = re.compile(r"<\s*(PARAM|POWER_MODEL|PM_CONFIG)\s+(.*?)\s*>")
LLONG_MAX = 9223372036854775807
"""What nvpmodel shows for a clock that is not capped."""


@dataclass(frozen=True)
class Param:
    """A family of files: `kind` is FILE or CLOCK, `paths` maps an argument to its file."""

    name: str
    kind: str
    paths: dict[str, str]


@dataclass(frozen=True)
class Setting:
    param: str
    arg: str
    value: str


@dataclass(frozen=True)
class Mode:
    id: int
    name: str
    settings: list[Setting] = field(default_factory=list)

    def value(self, param: str, arg: str) -> str | None:
        for setting in self.settings:
            if (setting.param, setting.arg) == (param, arg):
                return setting.value
        return None


@dataclass(frozen=True)
class Conf:
    params: dict[str, Param]
    modes: list[Mode]
    default: int | None

    def mode(self, mode_id: int) -> Mode | None:
        return next((mode for mode in self.modes if mode.id == mode_id), None)

    def path(self, setting: Setting) -> str | None:
        param = self.params.get(setting.param)
        return param.paths.get(setting.arg) if param else None


def parse_conf(text: str) -> Conf:
    """Lines that fit no rule are skipped, as nvpmodel does with comments and unknown arguments."""
    params: dict[str, Param] = {}
    modes: list[Mode] = []
    default: int | None = None
    param: Param | None = None
    mode: Mode | None = None
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        header = _HEADER.match(line)
        if header is None:
            words = line.split()
            if param is not None and len(words) == 2:
                param.paths[words[0]] = words[1]
            elif mode is not None and len(words) == 3:
                mode.settings.append(Setting(*words))
            continue
        given = dict(item.split("=", 1) for item in header[2].split() if "=" in item)
        param = mode = None
        if header[1] == "PARAM":
            param = params[given["NAME"]] = Param(given["NAME"], given.get("TYPE", "FILE"), {})
        elif header[1] == "POWER_MODEL":
            mode = Mode(int(given["ID"]), given["NAME"])
            modes.append(mode)
        elif given.get("DEFAULT", "").isdigit():
            default = int(given["DEFAULT"])
    return Conf(params, modes, default)
