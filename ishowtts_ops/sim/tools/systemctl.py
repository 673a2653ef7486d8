"""Stand-in for systemctl on a simulated box in a folder, where no systemd can run.

It is not systemd. Knows services of Type=notify, simple, exec and oneshot, and really runs them:
readiness, watchdog, restarts and start limits are kept. Timers and path units are recorded as
waiting and never fired. User=, Group= and the sandbox settings are not applied.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from . import enabling, starting
from .box import Box
from .jobs import default_target
from .oneshot import run_commands
from .showing import cat, list_unit_files, list_units, show, status
from .supervisor import Supervisor
from .unitfile import all_units, load_unit
from .unitstate import known_states, load_state, log, log_path, note_loaded

USAGE = """\
systemctl, a stand-in for a simulated Jetson in a folder (not systemd)
Verbs: start stop restart try-restart reload reload-or-restart kill isolate suspend reboot
       enable disable mask unmask is-active is-enabled is-failed reset-failed daemon-reload
       show status cat list-units list-unit-files list-timers get-default set-default
Timers and path units are recorded as waiting and never fired."""

_SYSTEMD = {35: "245 (245.4-4ubuntu3)", 36: "249 (249.11-0ubuntu3)", 39: "255 (255.4-1ubuntu8)"}
_TAKE_VALUE = ("-p", "--property", "-n", "--lines", "-t", "--type", "-s", "--signal", "--state")
_CHANGING = (
    "start",
    "stop",
    "restart",
    "try-restart",
    "reload",
    "reload-or-restart",
    "kill",
    "isolate",
    "suspend",
    "reboot",
    "enable",
    "disable",
    "mask",
    "unmask",
    "reset-failed",
    "daemon-reload",
    "set-default",
)


@dataclass
class Words:
    """A command line: `options` maps a long or short option to its value, "" without one."""

    verb: str = ""
    units: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    def has(self, *names: str) -> bool:
        return any(name in self.options for name in names)

    def value(self, *names: str) -> str:
        return next((self.options[name] for name in names if name in self.options), "")


def main(argv: list[str]) -> int:
    box = Box.here()
    marker = box.marker()
    if argv[:1] == ["--supervise"]:
        return Supervisor(box, argv[1]).run()
    words = parse(argv)
    if words.has("--version"):
        release = int(marker["release_major"])
        print(f"systemd {_SYSTEMD[39 if release >= 38 else max(35, min(release, 36))]}")
        print("(stand-in of a simulated Jetson)")
        return 0
    if words.has("--help", "-h"):
        print(USAGE)
        return 0
    if words.verb in _CHANGING and box.uid() != 0:
        what = " ".join([words.verb, *words.units])
        print(f"Failed to {what}: Interactive authentication required.", file=sys.stderr)
        return 4
    handler = _VERBS.get(words.verb or "list-units")
    if handler is None:
        print(f"Unknown command verb {words.verb}.", file=sys.stderr)
        return 1
    return handler(box, words)


def parse(argv: list[str]) -> Words:
    words = Words()
    todo = list(argv)
    while todo:
        word = todo.pop(0)
        if word.startswith("--") and "=" in word:
            option, _, value = word.partition("=")
            _add(words, option, value)
        elif word in _TAKE_VALUE and todo:
            _add(words, word, todo.pop(0))
        elif word[:2] in ("-p", "-n", "-t") and not word.startswith("--") and len(word) > 2:
            _add(words, word[:2], word[2:])
        elif word.startswith("-") and word != "-":
            words.options[word] = ""
        elif not words.verb:
            words.verb = word
        else:
            words.units.append(word)
    if words.verb not in ("set-default", "list-units"):
        words.units = [unit if "." in unit else f"{unit}.service" for unit in words.units]
    return words


def _add(words: Words, option: str, value: str) -> None:
    """Repeated options add up: `-p A -p B` is `-p A,B`."""
    known = words.options.get(option)
    words.options[option] = f"{known},{value}" if known else value


# ---- verbs -----------------------------------------------------------------------------------


def _start(box: Box, words: Words) -> int:
    block = not words.has("--no-block")
    return max((starting.start(box, name, block=block) for name in words.units), default=0)


def _stop(box: Box, words: Words) -> int:
    return max((starting.stop(box, name) for name in words.units), default=0)


def _restart(box: Box, words: Words) -> int:
    for name in words.units:
        if load_unit(box, name).fragment:
            starting.stop(box, name)
    return _start(box, words)


def _active(box: Box, name: str) -> bool:
    return load_state(box, name).active in ("active", "reloading")


def _try_restart(box: Box, words: Words) -> int:
    words.units = [name for name in words.units if _active(box, name)]
    return _restart(box, words)


def _reload(box: Box, words: Words) -> int:
    worst = 0
    for name in words.units:
        unit = load_unit(box, name)
        state = load_state(box, name)
        if not unit.all("Service.ExecReload"):
            print(f"Failed to reload {name}: Job type reload is not applicable.", file=sys.stderr)
            worst = max(worst, 1)
            continue
        log(box, name, f"Reloading {unit.description}.")
        with log_path(box, name).open("ab") as output:
            ok = run_commands(box, unit, "ExecReload", output, main_pid=state.main_pid)
        worst = max(worst, 0 if ok else 1)
    return worst


def _reload_or_restart(box: Box, words: Words) -> int:
    for name in words.units:
        able = _active(box, name) and load_unit(box, name).all("Service.ExecReload")
        one = Words(words.verb, [name], words.options)
        status_code = _reload(box, one) if able else _restart(box, one)
        if status_code:
            return status_code
    return 0


def _kill(box: Box, words: Words) -> int:
    text = words.value("-s", "--signal") or "SIGTERM"
    name = text if text.startswith("SIG") else f"SIG{text}"
    number = signal.Signals(int(text)) if text.isdigit() else signal.Signals[name]
    for unit in words.units:
        pid = load_state(box, unit).main_pid
        if pid:
            os.kill(pid, number)
    return 0


def _enable(box: Box, words: Words) -> int:
    worst = max((enabling.enable(box, name) for name in words.units), default=0)
    return max(worst, _start(box, words)) if words.has("--now") and not worst else worst


def _disable(box: Box, words: Words) -> int:
    worst = max((enabling.disable(box, name) for name in words.units), default=0)
    if words.has("--now"):
        for name in words.units:
            if load_state(box, name).active not in ("inactive", "failed"):
                starting.stop(box, name)
    return worst


def _is_active(box: Box, words: Words) -> int:
    states = [load_state(box, name).active for name in words.units]
    if not words.has("-q", "--quiet"):
        print("\n".join(states))
    return 0 if any(state in ("active", "reloading") for state in states) else 3


def _is_failed(box: Box, words: Words) -> int:
    states = [load_state(box, name).active for name in words.units]
    if not words.has("-q", "--quiet"):
        print("\n".join(states))
    return 0 if "failed" in states else 1


def _is_enabled(box: Box, words: Words) -> int:
    ok = False
    for name in words.units:
        unit = load_unit(box, name)
        if not unit.fragment:
            print(
                f"Failed to get unit file state for {name}: No such file or directory",
                file=sys.stderr,
            )
            continue
        state = enabling.file_state(box, unit)
        ok = ok or state in ("enabled", "static")
        if not words.has("-q", "--quiet"):
            print(state)
    return 0 if ok else 1


def _reset_failed(box: Box, words: Words) -> int:
    for name in words.units or known_states(box):
        if not load_unit(box, name).fragment and name not in known_states(box):
            print(
                f"Failed to reset failed state of unit {name}: Unit {name} not loaded.",
                file=sys.stderr,
            )
            return 1
        starting.reset_failed(box, name)
    return 0


def _daemon_reload(box: Box, words: Words) -> int:
    for name in known_states(box):
        note_loaded(box, load_unit(box, name))
    return 0


def _mask(box: Box, words: Words) -> int:
    return max((enabling.mask(box, name) for name in words.units), default=0)


def _unmask(box: Box, words: Words) -> int:
    return max((enabling.unmask(box, name) for name in words.units), default=0)


def _isolate(box: Box, words: Words) -> int:
    return starting.isolate(box, words.units[0]) if words.units else 1


def _suspend(box: Box, words: Words) -> int:
    """Nothing sleeps; what is wanted by suspend.target runs, as it does around a real suspend."""
    return starting.isolate(box, "suspend.target")


def _reboot(box: Box, words: Words) -> int:
    box.put("/run/reboot-requested", "systemctl\n")
    print("Simulated box: /run/reboot-requested is set, nothing was rebooted.", file=sys.stderr)
    return 0


def _get_default(box: Box, words: Words) -> int:
    print(default_target(box))
    return 0


def _set_default(box: Box, words: Words) -> int:
    link = box.path("/etc/systemd/system/default.target", follow_last=False)
    link.unlink(missing_ok=True)
    link.symlink_to(f"/lib/systemd/system/{words.units[0]}")
    return 0


def _show(box: Box, words: Words) -> int:
    wanted = words.value("-p", "--property")
    names = wanted.split(",") if wanted else []
    show(box, words.units, names, value_only=words.has("--value"))
    return 0


def _status(box: Box, words: Words) -> int:
    lines = words.value("-n", "--lines")
    return max(
        (status(box, name, int(lines) if lines.isdigit() else 10) for name in words.units),
        default=0,
    )


def _cat(box: Box, words: Words) -> int:
    return max((cat(box, name) for name in words.units), default=0)


def _list_units(box: Box, words: Words) -> int:
    wanted = words.value("--state")
    states = set(wanted.split(",")) if wanted else set()
    if words.has("--failed"):
        states.add("failed")
    kinds = words.value("-t", "--type")
    names = sorted({*all_units(box), *known_states(box)})
    names = [name for name in names if not kinds or name.rsplit(".", 1)[-1] in kinds.split(",")]
    list_units(
        box, names, states, legend=not words.has("--no-legend"), every=words.has("-a", "--all")
    )
    return 0


def _list_unit_files(box: Box, words: Words) -> int:
    list_unit_files(box, words.units or all_units(box), legend=not words.has("--no-legend"))
    return 0


def _list_timers(box: Box, words: Words) -> int:
    print("NEXT LEFT LAST PASSED UNIT ACTIVATES")
    for name in all_units(box):
        if name.endswith(".timer") and _active(box, name):
            unit = load_unit(box, name)
            activates = unit.get("Timer.Unit") or f"{name[:-6]}.service"
            print(f"n/a  n/a  n/a  n/a    {name} {activates}")
    return 0


_VERBS: dict[str, Callable[[Box, Words], int]] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "try-restart": _try_restart,
    "reload": _reload,
    "reload-or-restart": _reload_or_restart,
    "kill": _kill,
    "enable": _enable,
    "disable": _disable,
    "is-active": _is_active,
    "is-failed": _is_failed,
    "is-enabled": _is_enabled,
    "reset-failed": _reset_failed,
    "daemon-reload": _daemon_reload,
    "mask": _mask,
    "unmask": _unmask,
    "isolate": _isolate,
    "suspend": _suspend,
    "reboot": _reboot,
    "get-default": _get_default,
    "set-default": _set_default,
    "show": _show,
    "status": _status,
    "cat": _cat,
    "list-units": _list_units,
    "list-unit-files": _list_unit_files,
    "list-timers": _list_timers,
    # Not systemctl's: what boot.py asks for.
    "sim-boot": lambda box, words: starting.boot(box),
    "sim-shutdown": lambda box, words: starting.shut_down(box),
}
