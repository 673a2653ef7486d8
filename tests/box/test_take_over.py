"""A box that already runs iShowTTS, under real systemd: its conda environment is used, its
submodule lives on, and what happens to it is noticed without anybody asking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ishowtts_ops.config import MANIFEST_PATH
from ishowtts_ops.facts.engine_python import OVERLAY, OWN
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision.patch_last_good import LAST_GOOD
from ishowtts_ops.sim.checkout import VOICES, make_checkout
from tests.box.conftest import BOARD
from tests.support import program, rootfs, tree
from tests.support.container import Box, eventually, new_box
from tests.support.f5 import UTILS
from tests.support.installed import CONFIG, DAEMON, Daemon, configure, envelope

CHECKOUT = "/opt/ishowtts"
SUBMODULE = f"{CHECKOUT}/third_party/F5-TTS"
CONDA = "/opt/miniforge3/envs/ishowtts"
OWNER = "jetson"
WATCH = "ishowtts-watch.service"
MEASURE = {"runs": 4, "workload": "S", "idle_seconds": 0.2, "tolerance_percent": 100}
SETTINGS: dict[str, Any] = {
    "engine": {"kind": "f5"},
    "f5": {"weights": "random", "nfe": 5, "device": "cpu"},
    # The calendar comes with the first test that needs it.
    "measure": {**MEASURE, "calendar": False},
}


class Taken:
    """The box, taken over."""

    def __init__(self, box: Box, daemon: Daemon, before: dict[str, tree.Entry]) -> None:
        self.box = box
        self.daemon = daemon
        self.before = before

    def git(self, *words: str) -> str:
        """As the owner types it."""
        argv = ("git", "--no-optional-locks", "-C", SUBMODULE, *words)
        return self.box.exec(*argv, user=OWNER).stdout

    @property
    def pid(self) -> str:
        return self.box.show(DAEMON, "MainPID")["MainPID"]

    @property
    def source(self) -> str:
        return str(json.loads(self.box.read(MANIFEST_PATH))["source"])

    def patch(self) -> dict[str, Any]:
        done = self.box.ops("patch", "status", "--json", check=False)
        data: dict[str, Any] = envelope(done.stdout)["data"]
        return data

    def why(self) -> str:
        return self.box.why(WATCH) + self.box.why(DAEMON)


def _conda(box: Box) -> None:
    """A prefix as conda lays it out, of the interpreter that is mounted into the box."""
    base = Path(box.exec("readlink", "-f", OWN).stdout.strip())
    version = base.name
    library = base.parent.parent / "lib" / version
    site = f"{CONDA}/lib/{version}/site-packages"
    packages = box.exec("sh", "-c", f"ls -d {program.MOUNTS}/packages-*").stdout.split()
    script = f"""
        set -e
        mkdir -p {CONDA}/bin {CONDA}/conda-meta {CONDA}/lib/{version}
        cp {base} {CONDA}/bin/{version}
        ln -s {version} {CONDA}/bin/python
        for item in {library}/*; do
          case $item in */site-packages | */dist-packages | */__pycache__) continue ;; esac
          ln -s $item {CONDA}/lib/{version}/
        done
        mkdir -p {site}
        chown -R {OWNER}: /opt/miniforge3
    """
    box.exec("sh", "-c", script)
    lines = "".join(f"import site; site.addsitedir({folder!r})\n" for folder in packages)
    box.write(f"{site}/shared.pth", lines)
    box.exec("chown", "-R", f"{OWNER}:", CONDA)


@pytest.fixture(scope="module")
def taken(base: Path) -> Iterator[Taken]:
    with new_box(BOARD) as box:
        box.boot()
        box.exec("useradd", "--create-home", OWNER)
        make_checkout(
            Host.at(box.root),
            box_path=CHECKOUT,
            version="1.1.9",
            cache=rootfs.cache_folder() / "wheels",
            voices=VOICES[:2],  # every start warms each of them
        )
        box.exec("chown", "--recursive", f"{OWNER}:", CHECKOUT)
        _conda(box)
        daemon = configure(box, **SETTINGS)
        before = box.tree_snapshot()
        box.ops("install", "--yes", timeout=280)
        yield Taken(box, daemon, before)


def test_the_daemon_runs_in_the_conda_environment_and_leaves_it_alone(taken: Taken) -> None:
    box = taken.box
    executable = box.exec("readlink", f"/proc/{taken.pid}/exe").stdout.strip()
    assert executable.startswith(f"{CONDA}/bin/python"), executable
    assert box.show(DAEMON, "NotifyAccess", "Type") == {"NotifyAccess": "main", "Type": "notify"}
    assert box.exec("cat", f"/proc/{taken.pid}/cmdline").stdout.startswith(f"{OVERLAY}/bin/python")
    answer = taken.daemon.say("Hello.", voice="host")
    assert answer.status_code == 200, answer.text + box.why(DAEMON)
    now = box.tree_snapshot(CONDA)
    before = {path: entry for path, entry in taken.before.items() if path.startswith(CONDA)}
    assert before and tree.differences(before, now) == []
    assert box.exec("find", CHECKOUT, "-not", "-user", OWNER).stdout == ""
    assert "Nothing to do" in box.ops("install", "--yes").stdout


def test_an_environment_that_breaks_on_a_real_jetson_is_named_and_mended_as_planned(
    taken: Taken,
) -> None:
    """A CPU-only wheel over the Jetson's. A real box says nothing of a simulation."""
    box = taken.box
    done = box.ops("install", "--only", "engine", "--dry-run", check=False)
    assert done.returncode == 0 and "Nothing to do" in done.stdout
    box.exec("mv", SIM_MARKER, f"{SIM_MARKER}.aside")
    try:
        for python, device in ((f"{CONDA}/bin/python", "auto"), (f"{CONDA}/bin/python", "cpu")):
            box.write(
                "/root/engine.yaml",
                f"engine: {{python: {python}, torch_index: 'https://jetson.invalid/jp6'}}\n"
                f"f5: {{weights: random, device: {device}}}\n",
            )
            argv = ("install", "--only", "engine", "--dry-run", "--config", "/root/engine.yaml")
            plan = box.ops(*argv, check=False).stdout
            cpu_only = "--force-reinstall" in plan and "jetson.invalid/jp6" in plan
            torch = box.exec(OWN, "-c", "import torch; print(torch.version.cuda)").stdout.strip()
            assert cpu_only is (torch == "None" and device == "auto"), plan
            assert "--user" not in plan
    finally:
        box.exec("mv", f"{SIM_MARKER}.aside", SIM_MARKER)
        box.exec("rm", "/root/engine.yaml")


def test_a_lost_patch_is_noticed_and_applied_again(taken: Taken) -> None:
    """`git submodule update --force` to the very same commit, as the owner types it."""
    box = taken.box
    box.write(CONFIG, box.read(CONFIG).replace("calendar: false", "calendar: true"))
    box.ops("install", "--yes", timeout=280)
    box.systemctl("start", WATCH, check=False, timeout=280)
    assert "Validated: " in box.journal(WATCH), taken.why()
    taken.git("checkout", "--quiet", "--force", "HEAD")
    assert UTILS not in taken.git("status", "--porcelain"), "the hook is lost"
    eventually(
        lambda: taken.patch()["state"] == "applied" and taken.daemon.ready(),
        "the series is applied again and the daemon speaks",
        timeout=120,
        evidence=taken.why,
        pause=1.0,
    )


@pytest.mark.timeout(700, func_only=True)
def test_a_commit_that_does_not_fit_leaves_upstream_and_the_daemon_alone(taken: Taken) -> None:
    box = taken.box
    eventually(
        lambda: box.state(WATCH).startswith(("inactive", "failed")),
        "the look before is over",
        timeout=180,
        evidence=taken.why,
    )
    good = taken.git("rev-parse", "HEAD").strip()
    # Upstream's new commit is made elsewhere, and comes in one step as `submodule update` does it.
    script = f"""
        set -e
        git clone --quiet {SUBMODULE} ~/upstream
        cd ~/upstream
        sed -i 's/^from vocos import Vocos$/from vocos import Vocos as V/' {UTILS}
        git -c user.name=upstream -c user.email=upstream@localhost commit --quiet --all -m 'move on'
        git -C {SUBMODULE} fetch --quiet ~/upstream HEAD
        git -C {SUBMODULE} checkout --quiet --force --detach FETCH_HEAD
        rm -r ~/upstream
    """
    box.exec("sh", "-c", script, user=OWNER, env={"HOME": f"/home/{OWNER}"})
    eventually(
        lambda: taken.source.startswith(LAST_GOOD) and box.state(WATCH).startswith("failed"),
        "the daemon was given its last good copy",
        timeout=180,
        evidence=taken.why,
    )
    assert "the daemon speaks from its last good copy" in box.journal(WATCH), box.why(WATCH)
    assert taken.git("status", "--porcelain", "--untracked-files=no") == "", "upstream is untouched"
    eventually(taken.daemon.ready, "the daemon speaks", timeout=60, evidence=taken.why)
    assert taken.daemon.say("Still here.", voice="guest").status_code == 200

    box.exec("kill", "-KILL", taken.pid)
    eventually(lambda: taken.pid != "0" and taken.daemon.ready(), "it came back", 120, taken.why)
    maps = box.exec("cat", f"/proc/{taken.pid}/maps").stdout
    assert "libtorch" in maps
    assert taken.daemon.say("And again.", voice="host").status_code == 200

    found = envelope(box.ops("doctor", "--json", check=False).stdout)["data"]["findings"]
    (finding,) = [f for f in found if f["check"] == "patch-state"]
    told = json.dumps(finding)
    (failure, *_) = taken.patch()["failures"]
    assert finding["severity"] == "error"
    assert failure["patch"] in told and f"hunk {failure['number']}" in told and UTILS in told

    taken.git("checkout", "--quiet", "--detach", good)
    eventually(
        lambda: taken.source.startswith(SUBMODULE) and taken.patch()["state"] == "applied",
        "the checkout is used again",
        timeout=180,
        evidence=taken.why,
        pause=1.0,
    )
    eventually(taken.daemon.ready, "the daemon speaks", timeout=60, evidence=taken.why)
    found = envelope(box.ops("doctor", "--json", check=False).stdout)["data"]["findings"]
    assert [f for f in found if f["check"] == "patch-state" and f["severity"] == "error"] == []


def test_uninstall_gives_everything_back(taken: Taken) -> None:
    """The owner's own git work aside, every file is as it was."""
    box = taken.box
    box.ops("uninstall", "--yes", timeout=280)
    after = box.tree_snapshot()
    changed = [
        line
        for line in tree.differences(taken.before, after)
        if f"{CHECKOUT}/.git/" not in line and CONFIG not in line
    ]
    assert "\n".join(changed) == ""
    assert taken.git("status", "--porcelain", "--ignored") == ""
