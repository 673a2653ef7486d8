"""The engine's Python environment: every module the F5 engine imports, torch from the right place.

A Jetson's torch comes from the index built for its JetPack, named by the owner as
`engine.torch_index`. The general index is never used for torch there: its wheels may be built
without CUDA, replace the Jetson one silently, and speak at a twentieth of the speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.engine_python import (
    OVERLAY,
    Choice,
    choose,
    is_real_jetson,
    needs_cuda,
    numpy_too_old,
    wants_numpy_1,
)
from ishowtts_ops.facts.python_env import NoInterpreter, PythonEnv, read_python_env
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision import engine_overlay, engine_pip
from ishowtts_ops.provision.wheels import (
    TORCH_MODULES,
    offline_options,
    only_index,
    requirement_of,
)
from ishowtts_ops.steps import Change, Ledger, Progress, command_line

TORCH = "2.11.0"
"""The release the series is measured with; on a Jetson its index decides."""

PIP_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class EngineStep:
    """`engine.python` can import everything the engine needs, and the daemon can run in it."""

    settings: Settings
    ledger: Ledger
    wheels: Path | None = None
    """A folder of wheels to install from instead of any index (real path)."""
    name: str = "engine"
    title: str = "the engine's Python environment"

    def diff(self, host: Host) -> Change | None:
        if self.settings.engine.kind != "f5":
            return None
        choice = choose(host, self.settings)
        env = self._environment(host, choice.python)
        commands = self.commands(host, env)
        preview = [command_line(argv) for argv in commands]
        wrong = ", ".join(self._wrong(host, env))
        done = [f"install {wrong} into {env.executable}"] if wrong else []
        if choice.foreign:
            overlay = engine_overlay.wanted(host, choice.python, env)
            if commands or not overlay.standing(host):
                done.append(f"let the daemon run with the packages of {choice.python}")
                preview += engine_overlay.preview(host, overlay, self.wheels)
        elif host.lexists(OVERLAY):
            done.append(f"let the daemon run in {choice.python} again")
            preview.append(f"$ rm -r {OVERLAY}")
        if not done:
            return None
        preview += [f"# {environment}" for environment in choice.passed_over]
        return Change(
            self.name,
            " and ".join(done),
            tuple(preview),
            lambda log: self._apply(host, commands, choice, env, log),
        )

    def _environment(self, host: Host, python: str) -> PythonEnv:
        env = read_python_env(host, python)
        if isinstance(env, NoInterpreter):
            raise OpsError(
                f"The engine's interpreter {python} is not on the box.",
                "Run `sudo ./install.sh`, which makes it, or name another as engine.python.",
            )
        if isinstance(env, Unknown):
            raise OpsError(
                f"The engine's interpreter could not be asked: {env.reason}.",
                f"Try `{python} -c 'import torch'` and mend what it says.",
            )
        return env

    def _wrong(self, host: Host, env: PythonEnv) -> list[str]:
        wrong = list(env.missing)
        if needs_cuda(host, self.settings) and env.cpu_only:
            wrong += [name for name in TORCH_MODULES if name not in wrong]
        too_new = wants_numpy_1(host, env) and (env.numpy_major or 0) >= 2
        if too_new or numpy_too_old(env):
            wrong.append("numpy")
        return wrong

    def commands(self, host: Host, env: PythonEnv) -> list[tuple[str, ...]]:
        """What makes this environment whole, as argv; empty when it is.

        Raises:
            OpsError: torch is needed, and on a Jetson the settings do not say from where.
        """
        wrong = self._wrong(host, env)
        pip = (*engine_pip.install(env.executable), *offline_options(self.wheels))
        commands: list[tuple[str, ...]] = []
        torch = [name for name in wrong if name in TORCH_MODULES]
        if torch:
            commands.append((*pip, *self._torch_arguments(host, env)))
        rest = [name for name in wrong if name not in TORCH_MODULES]
        others = [requirement_of(name) for name in rest if name != "numpy"]
        if rest:
            numpy_1 = wants_numpy_1(host, env)
            if numpy_1 or "numpy" in rest:
                lowest = "numpy>=1.26" if "numpy" in rest and numpy_too_old(env) else "numpy"
                bound = f"{',' if '>' in lowest else ''}<2" if numpy_1 else ""
                others.append(lowest + bound)
            commands.append((*pip, *others))
        return commands

    def _torch_arguments(self, host: Host, env: PythonEnv) -> tuple[str, ...]:
        index = self.settings.engine.torch_index
        again = ("--force-reinstall",) if env.cpu_only else ()
        if self.wheels is not None:
            return (*again, *TORCH_MODULES)
        if index is not None:
            return ("--index-url", index, *again, *TORCH_MODULES)
        if is_real_jetson(host):
            raise OpsError(
                "The engine needs torch built for this Jetson, and where to get it is not said.",
                "Set engine.torch_index to the address of the Jetson AI Lab package index for"
                " your JetPack (its jp6/cu126 on JetPack 6), or engine.python to an environment"
                " that has it.",
            )
        return tuple(f"{name}=={TORCH}" for name in TORCH_MODULES)

    def _apply(
        self,
        host: Host,
        commands: list[tuple[str, ...]],
        choice: Choice,
        env: PythonEnv,
        log: Progress,
    ) -> None:
        if commands:
            self._repair(host, commands, env, log)
            env = self._environment(host, choice.python)
        if choice.foreign:
            overlay = engine_overlay.wanted(host, choice.python, env)
            if not overlay.standing(host):
                engine_overlay.build(host, overlay, self.ledger, log, self.wheels)
        elif host.lexists(OVERLAY):
            host.rmtree(OVERLAY)

    def _repair(
        self, host: Host, commands: list[tuple[str, ...]], env: PythonEnv, log: Progress
    ) -> None:
        before = engine_pip.packages(host, env.executable)
        try:
            for argv in commands:
                log(engine_pip.said(argv))
                index = self.settings.engine.torch_index
                alone = only_index(index) if index is not None and index in argv else None
                told = engine_pip.telling(log)
                done = host.run(argv, timeout=PIP_TIMEOUT_S, env=alone, on_line=told)
                done.check("Run install again: pip keeps what it has fetched.")
        finally:
            # Also where the second command failed: what the first one changed is ours to undo.
            after = engine_pip.packages(host, env.executable)
            engine_pip.record(self.ledger, env.executable, before, after)
