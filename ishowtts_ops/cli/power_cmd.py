"""`ishowtts-ops power`: mode and clocks."""

from __future__ import annotations

import typer

app = typer.Typer(help="Power mode and clock lock.", no_args_is_help=True)
