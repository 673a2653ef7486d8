"""What `--help` teaches beside options: every verb's whole first sentence, and lines to copy."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

EXAMPLES: dict[str, tuple[str, ...]] = {
    "install": (
        "sudo ishowtts-ops install --dry-run     # the plan, with every diff and command",
        "sudo ishowtts-ops install --only power  # one step",
    ),
    "uninstall": ("sudo ishowtts-ops uninstall --dry-run",),
    "status": ("ishowtts-ops status --json | jq .data.units",),
    "doctor": (
        "ishowtts-ops doctor",
        "ishowtts-ops doctor clocks -v           # one subject, with what is fine",
        "sudo ishowtts-ops doctor --fix",
        "ishowtts-ops doctor --bundle box.tar.gz",
    ),
    "serve": ("ishowtts-ops serve --root demo/box",),
    "supervise": (
        "ishowtts-ops supervise --preset ishowtts -- ./scripts/run_backend.sh --warmup",
        "ishowtts-ops supervise --url http://127.0.0.1:8080 --health /health \\\n"
        """      --canary 'POST /speak {"text":"Hi."} => audio' -- /usr/local/bin/server""",
    ),
    "say": (
        'ishowtts-ops say "Good evening." -o evening.wav --voice host',
        'echo "Good evening." | ishowtts-ops say - -o evening.mp3',
    ),
    "monitor": (
        "ishowtts-ops monitor",
        "ishowtts-ops monitor --interval 5 --count 720 --log hour.jsonl",
    ),
    "regress": (
        "sudo ishowtts-ops regress --update-baseline  # once, while all is well",
        "sudo ishowtts-ops regress",
    ),
    "validate": ("sudo ishowtts-ops validate",),
    "demo": ("ishowtts-ops demo --dir /tmp/demo --keep-running",),
    "patch status": ("ishowtts-ops patch status",),
    "patch apply": ("sudo ishowtts-ops patch apply --set-aside",),
    "patch revert": ("sudo ishowtts-ops patch revert",),
    "patch verify": ("sudo ishowtts-ops patch verify",),
    "patch export": ("ishowtts-ops patch export > series.mbox",),
    "power status": ("sudo ishowtts-ops power status",),
    "power lock": ("sudo ishowtts-ops power lock", "sudo ishowtts-ops power lock --mode MODE_30W"),
    "power restore": ("sudo ishowtts-ops power restore",),
    "power guard": ("sudo ishowtts-ops power guard",),
    "power resolve": ("sudo ishowtts-ops power resolve --dry-run",),
    "wheels make": ("ishowtts-ops wheels make wheels/ --jetpack 6.2",),
    "voices list": ("ishowtts-ops voices list",),
    "voices show": ("ishowtts-ops voices show host -o host.wav",),
    "voices add": ('ishowtts-ops voices add anna anna.wav -t "Exactly the words spoken."',),
    "voices remove": ("ishowtts-ops voices remove anna",),
    "bench run": (
        "sudo ishowtts-ops bench run --quick",
        'sudo ishowtts-ops bench run -w L --note "after the update"',
        "ishowtts-ops bench run --compare upstream --out compared.json",
    ),
    "bench compare": ("ishowtts-ops bench compare baseline last",),
    "bench history": ("ishowtts-ops bench history --limit 5 --export runs.jsonl",),
    "bench plot": ("ishowtts-ops bench plot --html rtf.html",),
    "bench fidelity": ("ishowtts-ops bench fidelity",),
    "bench project": ("ishowtts-ops bench project compared.json --module agx-orin-64",),
    "config check": ("ishowtts-ops config check --config new.yaml",),
    "config show": ("ishowtts-ops config show",),
    "config path": ('sudoedit "$(ishowtts-ops config path)"',),
    "config set-nfe": ("sudo ishowtts-ops config set-nfe 7 --dry-run",),
    "config key": ("ishowtts-ops config key overlay -o overlay.key",),
}
"""By verb."""


class Verbs(TyperGroup):
    """A group whose list of verbs shows whole sentences, and whose verbs end with examples."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        verb = f"{ctx.command_path} {cmd_name}".removeprefix(f"{ctx.find_root().command_path} ")
        lines = EXAMPLES.get(verb)
        if command is not None and lines and not command.epilog:
            # \b keeps the lines as they are.
            command.epilog = "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, _first_sentence(command.help or "")))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _first_sentence(text: str) -> str:
    """Up to its full stop, without it; all of the first paragraph where there is none."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".")
