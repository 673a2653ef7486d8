"""Stand-in for systemctl on a simulated box in a folder, where no systemd can run.

It is not systemd. Knows services of Type=notify, simple, exec and oneshot, and really runs them:
readiness, watchdog, restarts and start limits are kept. Timers and path units are recorded as
waiting and never fired. User=, Group= and the sandbox settings are not applied.
"""

from __future__ import annotations

import sys

from . import verbs_reading
from .box import Box
from .command_line import parse

USAGE = """\
systemctl, a stand-in for a simulated Jetson in a folder (not systemd)
Verbs: start stop restart try-restart reload reload-or-restart kill isolate suspend reboot
       enable disable mask unmask is-active is-enabled is-failed reset-failed daemon-reload
       show status cat list-units list-unit-files list-timers get-default set-default
Timers and path units are recorded as waiting and never fired."""

_SYSTEMD = {35: "245 (245.4-4ubuntu3)", 36: "249 (249.11-0ubuntu3)", 39: "255 (255.4-1ubuntu8)"}


def main(argv: list[str]) -> int:
    box = Box.here()
    marker = box.marker()
    # What only looks is called often, by people and programs that wait: the rest is read in when
    # it is needed.
    if argv[:1] == ["--supervise"]:
        from .supervisor import Supervisor

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
    looks = verbs_reading.VERBS.get(words.verb or "list-units")
    if looks is not None:
        return looks(box, words)
    from .verbs_changing import VERBS

    changes = VERBS.get(words.verb)
    if changes is None:
        print(f"Unknown command verb {words.verb}.", file=sys.stderr)
        return 1
    if box.uid() != 0:
        what = " ".join([words.verb, *words.units])
        print(f"Failed to {what}: Interactive authentication required.", file=sys.stderr)
        return 4
    return changes(box, words)
