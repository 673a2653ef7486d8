"""systemctl's verbs that change something."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from . import enabling, starting
from .box import Box
from .command_line import Words
from .oneshot import run_commands
from .unitfile import load_unit
from .unitstate import known_states, load_state, log, log_path, note_loaded


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


def _set_default(box: Box, words: Words) -> int:
    link = box.path("/etc/systemd/system/default.target", follow_last=False)
    link.unlink(missing_ok=True)
    link.symlink_to(f"/lib/systemd/system/{words.units[0]}")
    return 0


VERBS: dict[str, Callable[[Box, Words], int]] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "try-restart": _try_restart,
    "reload": _reload,
    "reload-or-restart": _reload_or_restart,
    "kill": _kill,
    "enable": _enable,
    "disable": _disable,
    "reset-failed": _reset_failed,
    "daemon-reload": _daemon_reload,
    "mask": _mask,
    "unmask": _unmask,
    "isolate": _isolate,
    "suspend": _suspend,
    "reboot": _reboot,
    "set-default": _set_default,
    # Not systemctl's: what `ishowtts_ops.sim.boot` asks for.
    "sim-boot": lambda box, words: starting.boot(box),
    "sim-shutdown": lambda box, words: starting.shut_down(box),
}
