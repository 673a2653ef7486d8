"""Stand-in for journalctl on a simulated box in a folder. It is not systemd.

Reads the logs below /var/log/ishowtts-sim. A service's own lines are kept without their time and
show that of the service manager's line before them.
"""

from __future__ import annotations

import sys

from .box import Box
from .logs import Entry, entries
from .unitstate import LOGS

USAGE = """\
journalctl, a stand-in for a simulated Jetson in a folder (not systemd)
Usage: journalctl [-u UNIT]... [-t NAME] [-n N] [-o cat|short] [-b] [-k] [-r] [--no-pager]"""
_WITH_VALUE = ("-u", "--unit", "-n", "--lines", "-o", "--output", "-t", "--identifier")
_IGNORED = ("-q", "--quiet", "--no-pager", "--no-hostname", "-a", "--all", "-e", "-x", "--utc")


def main(argv: list[str]) -> int:
    box = Box.here()
    box.marker()
    units: list[str] = []
    lines, output = -1, "short"
    this_boot = newest_first = kernel = False
    identifier = ""
    words = list(argv)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if not equals and word in _WITH_VALUE and words:
            option, value = word, words.pop(0)
        elif word.startswith(("-n", "-u", "-o", "-t")) and len(word) > 2 and not equals:
            option, value = word[:2], word[2:]
        if option in ("-u", "--unit"):
            units.append(value if "." in value else f"{value}.service")
        elif option in ("-n", "--lines"):
            lines = -1 if value == "all" else int(value)
        elif option in ("-o", "--output"):
            output = value
        elif option in ("-t", "--identifier"):
            identifier = value
        elif option in ("-b", "--boot"):
            this_boot = True
        elif option in ("-k", "--dmesg"):
            kernel = this_boot = True
        elif option in ("-r", "--reverse"):
            newest_first = True
        elif option in ("-h", "--help"):
            print(USAGE)
            return 0
        elif word not in _IGNORED:
            print(f"journalctl: unrecognized option '{word}'", file=sys.stderr)
            return 1
    names = ["kernel"] if kernel else units or _all(box)
    found = [entry for name in names for entry in entries(box, name, this_boot=this_boot)]
    if identifier:
        found = [entry for entry in found if entry.source.split("[")[0] == identifier]
    if len(names) > 1:
        found.sort(key=lambda entry: entry.when.timestamp() if entry.when else 0.0)
    if lines >= 0:
        found = found[len(found) - min(lines, len(found)) :]
    if newest_first:
        found.reverse()
    if not found and not units:
        print("-- No entries --")
    for entry in found:
        print(_line(entry, output))
    return 0


def _all(box: Box) -> list[str]:
    return [entry[:-4] for entry in box.listdir(LOGS) if entry.endswith(".log")]


def _line(entry: Entry, output: str) -> str:
    return entry.text if output == "cat" else entry.short
