"""`ishowtts-ops` and `python -m ishowtts_ops`."""

from __future__ import annotations

import sys


def main() -> None:
    from ishowtts_ops.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
