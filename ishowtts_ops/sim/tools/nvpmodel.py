"""Stand-in for NVIDIA's nvpmodel on a simulated Jetson. It is not NVIDIA's program.

Behaves as the documented tool: everything on stdout, 234 for a bad request, 255 for a failed write,
0 for an unknown option, a prompt where the change needs a reboot. It never reboots a machine: where
the real tool would, it touches /run/reboot-requested.
"""

from __future__ import annotations

import errno
import re
import sys
from dataclasses import dataclass

from .box import Box
from .kernel import gpu_tick, gpu_used, mark_gpu_used, store
from .nvpmodel_conf import LLONG_MAX, Conf, Mode, Setting, parse_conf

CONF = "/etc/nvpmodel.conf"
STATUS = "/var/lib/nvpmodel/status"
REBOOT_REQUESTED = "/run/reboot-requested"
BAD_REQUEST = 234
FAILED = 255
USAGE = """\
nvpmodel, a stand-in for NVIDIA's tool on a simulated Jetson (no NVIDIA software)
Usage: nvpmodel [options]
  -h, --help            show this text
  -q, --query           show the current power mode
  -p, --parse           show the modes of the configuration
  -m, --mode ID         set a power mode
  -f, --file FILE       use this configuration instead of /etc/nvpmodel.conf
  -v, --verbose         say more
      --force           reboot without asking where the mode needs it
Without -q, -p or -m: apply the stored mode, or the default one (what the boot service does)."""

_STATUS = re.compile(r"pmode:(\d{4})$")


@dataclass
class Options:
    query: bool = False
    parse: bool = False
    mode: str | None = None
    file: str = CONF
    verbose: bool = False
    force: bool = False


def main(argv: list[str]) -> int:
    options = _options(argv)
    if options is None:
        print(USAGE)
        return 0
    box = Box.here()
    box.marker()
    gpu_tick(box)
    if options.verbose:
        print(f"NVPM VERB: Config file: {options.file}")
    try:
        text = box.inside(options.file).read_text(encoding="utf-8")
    except OSError as error:
        print(f"NVPM ERROR: Error opening {options.file}: {error.errno}")
        return BAD_REQUEST
    try:
        conf = parse_conf(text)
    except (ValueError, KeyError):
        print(f"NVPM ERROR: failed to parse {options.file}")
        return BAD_REQUEST
    if options.verbose:
        print(f"NVPM VERB: parsing done for {options.file}")
    if options.query:
        return _query(box, conf, options.verbose)
    if options.parse:
        for mode in conf.modes:
            print(f"POWER_MODEL: ID={mode.id} NAME={mode.name}")
            for setting in mode.settings if options.verbose else ():
                print(f"NVPM VERB: {setting.param} {setting.arg} {setting.value}")
        default = None if conf.default is None else conf.mode(conf.default)
        if options.verbose and default is not None:
            # What jetson-stats looks for.
            print(f"NVPM VERB: PM_CONFIG: DEFAULT={default.name}({default.id})")
        return 0
    return _set(box, conf, options)


def _options(argv: list[str]) -> Options | None:
    options = Options()
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("-q", "--query"):
            options.query = True
        elif word in ("-p", "--parse"):
            options.parse = True
        elif word in ("-v", "--verbose"):
            options.verbose = True
        elif word == "--force":
            options.force = True
        elif word in ("-m", "--mode") and words:
            options.mode = words.pop(0)
        elif word.startswith("--mode="):
            options.mode = word.split("=", 1)[1]
        elif re.fullmatch(r"-m\d+", word):
            options.mode = word[2:]
        elif word in ("-f", "--file") and words:
            options.file = words.pop(0)
        else:
            return None
    return options


def stored_mode(box: Box, conf: Conf) -> Mode | None:
    """The mode of the status file; None when it is missing, corrupt or names no mode."""
    try:
        match = _STATUS.match(box.path(STATUS).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return conf.mode(int(match[1])) if match else None


def _query(box: Box, conf: Conf, verbose: bool) -> int:
    mode = stored_mode(box, conf)
    if mode is None:
        print("NVPM WARN: power mode is not set!")
        return 0
    print(f"{'NVPM VERB: Current mode: ' if verbose else ''}NV Power Mode: {mode.name}")
    print(mode.id)
    for setting in mode.settings if verbose else ():
        path = conf.path(setting)
        if path is None:
            continue
        try:
            real = box.read(path)
        except OSError as error:
            print(f"NVPM ERROR: Error opening {path}: {error.errno}")
            continue
        print(
            f"NVPM VERB: PARAM {setting.param}: ARG {setting.arg}: PATH {path}: "
            f"REAL_VAL: {real} CONF_VAL: {_shown(conf, setting)}"
        )
    return 0


def _shown(conf: Conf, setting: Setting) -> str:
    uncapped = conf.params[setting.param].kind == "CLOCK" and setting.value == "-1"
    return str(LLONG_MAX) if uncapped else setting.value


def _set(box: Box, conf: Conf, options: Options) -> int:
    if options.mode is None:
        wanted = stored_mode(box, conf) or conf.mode(-1 if conf.default is None else conf.default)
    else:
        wanted = conf.mode(int(options.mode)) if options.mode.isdigit() else None
    if wanted is None:
        print(f"NVPM ERROR: request for bad power mode {options.mode or conf.default}")
        return _no_request()
    if box.uid() != 0:
        print("NVPM ERROR: failed to set power mode!")
        return FAILED
    refused = _needs_reboot(box, conf, wanted)
    if refused:
        print(refused)
        return _ask(box, wanted, options.force)
    failure = apply_mode(box, conf, wanted)
    if failure:
        print(f"{failure}\nNVPM ERROR: failed to set power mode!")
        return FAILED
    return 0


def _needs_reboot(box: Box, conf: Conf, mode: Mode) -> str:
    """The kernel's refusal in nvpmodel's words, or nothing. Asked before anything is written."""
    for setting in mode.settings:
        path = conf.path(setting)
        if path is None or setting.arg != "TPC_PG_MASK" or not gpu_used(box):
            continue
        if box.exists(path) and box.read_int(path) != int(setting.value):
            return f"NVPM ERROR: Error writing {setting.value} to {path}: {errno.EBUSY}"
    return ""


def _ask(box: Box, mode: Mode, force: bool) -> int:
    print(f"NVPM WARN: Reboot required for changing to this power mode: {mode.id}")
    if not force:
        print("NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:", flush=True)
        answer = sys.stdin.readline().strip()
        if answer not in ("YES", "yes", "y"):
            if answer.lower() not in ("no", "n"):
                print("NVPM ERROR: bad input!")
            return _no_request()
    write_status(box, mode.id)
    print("NVPM WARN: rebooting..")
    box.put(REBOOT_REQUESTED, "nvpmodel\n")
    return 0


def _no_request() -> int:
    print("NVPM ERROR: optMask is 1, no request for power mode")
    return BAD_REQUEST


def apply_mode(box: Box, conf: Conf, mode: Mode) -> str:
    """Write every setting of the mode, then the status file.

    Returns:
        Nothing, or the line about the first write that failed; what was written before it stays,
        as on a real box.
    """
    for setting in mode.settings:
        path = conf.path(setting)
        if path is None:
            continue
        try:
            store(box, path, setting.value)
        except OSError as error:
            verb = "writing" if error.errno == errno.EBUSY else "opening"
            what = f"{setting.value} to {path}" if verb == "writing" else path
            return f"NVPM ERROR: Error {verb} {what}: {error.errno}"
    write_status(box, mode.id)
    mark_gpu_used(box)
    return ""


def write_status(box: Box, mode_id: int) -> None:
    box.put(STATUS, f"pmode:{mode_id:04d}")
