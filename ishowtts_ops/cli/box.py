"""What every command shares: --root, --config, --debug, and the box they open."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ishowtts_ops import config
from ishowtts_ops.cli import render
from ishowtts_ops.cli.spelling import spelled
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.host import Host
from ishowtts_ops.resources import resource

Root = Annotated[
    Path,
    typer.Option(
        "--root",
        help="The box: / is this machine; a folder is a simulated Jetson or an SD card.",
        envvar="ISHOWTTS_BOX_ROOT",
        show_default="/",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help=f"Settings to use instead of the box's {config.CONFIG_PATH}."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks, also for known errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one versioned JSON envelope on stdout.")]


@dataclass(frozen=True)
class Box:
    """The box a command was pointed at, opened on demand."""

    root: Path
    config_file: Path | None
    debug: bool

    @functools.cached_property
    def host(self) -> Host:
        return Host.at(self.root)

    def spelled(self, argv: Sequence[str]) -> str:
        """A command as it is to be typed here; as it is where there is no such box."""
        try:
            return spelled(self.host, argv, self.config_file)
        except OpsError:
            return shlex.join(argv)

    @functools.cached_property
    def settings(self) -> config.Settings:
        """Raises ConfigError with every problem of the file."""
        return config.parse(*self.settings_text)

    @functools.cached_property
    def settings_text(self) -> tuple[str, str]:
        """(text, name) of the configuration in force: --config, the box's own, the default.

        Raises:
            UsageError: its file cannot be read.
        """
        if self.config_file is not None:
            return _read(self.config_file), str(self.config_file)
        if self.host.is_file(config.CONFIG_PATH):
            return _read(self.host.path(config.CONFIG_PATH)), config.CONFIG_PATH
        default = resource("config") / "ishowtts-ops.yaml"
        return default.read_text(encoding="utf-8"), "the default configuration"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        why = "there is no such file"
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 (byte {error.start})"
    except OSError as error:
        why = error.strerror or str(error)
    raise UsageError(
        f"The configuration {path} cannot be read: {why}.", "Correct it, or name another file."
    )


def takes_box(function: Callable[..., int]) -> Callable[..., None]:
    """Give a command --root, --config and --debug, and its first argument a `Box`.

    The command returns its exit code.
    """
    signature = inspect.signature(function, eval_str=True)
    own = list(signature.parameters.values())[1:]
    shared = [
        inspect.Parameter(
            "root", inspect.Parameter.KEYWORD_ONLY, default=Path("/"), annotation=Root
        ),
        inspect.Parameter(
            "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config
        ),
        inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug),
    ]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        box = Box(given.pop("root"), given.pop("config"), given.pop("debug"))
        render.spell_with(box.spelled)
        if box.debug:
            os.environ["ISHOWTTS_DEBUG"] = "1"
        code = function(box, **given)
        if code:
            raise typer.Exit(code)

    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    command.__signature__ = inspect.Signature([*keyword, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*keyword, *shared]}
    return command
