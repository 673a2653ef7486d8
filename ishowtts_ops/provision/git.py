"""The few git verbs the toolkit uses, on repositories that may belong to somebody else.

The repository is always named by `--git-dir`: git checks a repository's owner only when it has to
*find* one, and the git of Ubuntu 22.04 (2.34) takes no `-c safe.directory` from the command line.
What only reads uses plumbing that runs no hook, no filter and no fsmonitor of the repository, since
`doctor` may run as root on a checkout of an ordinary user.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ishowtts_ops.errors import CommandFailed, OpsError
from ishowtts_ops.host import Host, Result
from ishowtts_ops.steps import Progress

GIT_TIMEOUT_S = 60.0
CLONE_TIMEOUT_S = 1800.0
SUBMODULE = "160000"
SYMLINK = "120000"

_SAFE = (
    "-c",
    "safe.directory=*",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.quotePath=false",
)


@dataclass(frozen=True)
class TreeEntry:
    """One file of a commit: its mode as git writes it ("100644") and the hash of its blob."""

    mode: str
    blob: str


@dataclass(frozen=True)
class Repo:
    """A repository with its work tree.

    Attributes:
        worktree: box path of the work tree.
        git_dir: real path of the git directory (of a submodule: below the superproject's).
    """

    host: Host
    worktree: str
    git_dir: Path

    @classmethod
    def open(cls, host: Host, worktree: str) -> Repo | None:
        """The repository whose work tree starts exactly at `worktree`; None when there is none."""
        dot_git = f"{worktree}/.git"
        if host.is_dir(dot_git):
            return cls(host, worktree, host.path(dot_git))
        if not host.is_file(dot_git):
            return None
        first = host.read_text(dot_git).strip().splitlines()[:1]
        if not first or not first[0].startswith("gitdir: "):
            return None
        target = first[0].removeprefix("gitdir: ")
        git_dir = _git_dir(host, worktree, target)
        return cls(host, worktree, git_dir) if git_dir else None

    def _argv(self, *words: str) -> list[str]:
        where = [f"--git-dir={self.git_dir}", f"--work-tree={self.host.path(self.worktree)}"]
        return ["git", *_SAFE, *where, *words]

    def _query(self, *words: str) -> Result:
        env = {"GIT_OPTIONAL_LOCKS": "0"}
        return self.host.query_here(self._argv(*words), timeout=GIT_TIMEOUT_S, env=env)

    def head(self) -> str | None:
        """The commit that is checked out, in full; None before the first commit.

        Raises:
            ToolMissing: there is no git on this machine.
        """
        answer = self._query("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        return answer.stdout.strip() or None if answer.ok else None

    def subject(self) -> str | None:
        """The first line of the message of the commit that is checked out."""
        answer = self._query("log", "-1", "--no-show-signature", "--format=%s")
        return answer.stdout.strip() or None if answer.ok else None

    def tree(self, commit: str) -> dict[str, TreeEntry]:
        """Every file of a commit by its path; submodules are left out.

        Raises:
            CommandFailed: the commit or one of its trees is not in the repository.
        """
        answer = self._query("ls-tree", "-r", "-z", commit).check(
            f"`git -C {self.worktree} fsck` says what is damaged."
        )
        entries = {}
        for line in answer.stdout.split("\0"):
            if line:
                meta, _, path = line.partition("\t")
                mode, _, blob = meta.split(" ")
                if mode != SUBMODULE:
                    entries[path] = TreeEntry(mode, blob)
        return entries

    def blob(self, sha: str) -> bytes | None:
        """A blob's content; None when the repository does not hold it."""
        try:
            argv = self._argv("cat-file", "blob", sha)
            return self.host.pipe_here(argv, b"", timeout=GIT_TIMEOUT_S)
        except CommandFailed:
            return None

    def submodule_paths(self) -> list[str]:
        """Paths of the submodules that `.gitmodules` names, relative to the work tree."""
        return list(self._submodules())

    def _submodules(self) -> dict[str, str]:
        """Path → name, which need not be the same."""
        gitmodules = f"{self.worktree}/.gitmodules"
        if not self.host.is_file(gitmodules):
            return {}
        answer = self._query(
            "config", "--file", str(self.host.path(gitmodules)), "--get-regexp", r"\.path$"
        )
        rows = [line.split(" ", 1) for line in answer.stdout.splitlines() if " " in line]
        return {path: key.removeprefix("submodule.").removesuffix(".path") for key, path in rows}

    def submodule_init_argv(self, path: str) -> list[str]:
        """The command that checks a submodule out, as the checkout's owner would type it."""
        real = str(self.host.path(self.worktree))
        return ["git", "-C", real, "submodule", "update", "--init", "--progress", "--", path]

    def submodule_init(self, path: str, progress: Progress) -> None:
        """Check a submodule out; the files belong to the owner of the checkout.

        Raises:
            CommandFailed: git could not fetch it.
        """
        argv = [*_as_owner(self.host.path(self.worktree)), *self.submodule_init_argv(path)]
        self.host.run_here(argv, timeout=CLONE_TIMEOUT_S, on_line=progress).check(
            "Look at the address in .gitmodules and at the network, then run again."
        )

    def submodule_deinit(self, path: str, progress: Progress) -> None:
        """Empty a submodule's folder again; git refuses where files in it were changed.

        Raises:
            CommandFailed: git refused; it says why.
        """
        real = self.host.path(self.worktree)
        argv = [*_as_owner(real), "git", "-C", str(real), "submodule", "deinit", "--", path]
        self.host.run_here(argv, timeout=GIT_TIMEOUT_S, on_line=progress).check()

    def submodule_git_dir(self, path: str) -> str | None:
        """Box path of the git directory that a submodule has or would have; None where this
        repository's is not on the box."""
        name = self._submodules().get(path)
        if name is None or not self.git_dir.is_relative_to(self.host.root):
            return None
        return f"{self.host.box_path(self.git_dir)}/modules/{name}"

    def has_own_work(self) -> bool:
        """Are there commits here that came from nowhere else, or a stash?"""
        own = self._query("rev-list", "-n", "1", "HEAD", "--branches", "--not", "--remotes")
        stash = self._query("rev-parse", "--verify", "--quiet", "refs/stash")
        return not own.ok or bool(own.stdout.strip()) or stash.ok

    def checkout(self, commit: str) -> None:
        """Check a commit out, without a branch; files that were edited are not overwritten.

        Raises:
            CommandFailed: git refused; it says why.
        """
        verb = ("checkout", "--quiet", "--detach", commit, "--")
        argv = [*_as_owner(self.host.path(self.worktree)), *self._argv(*verb)]
        self.host.run_here(argv, timeout=GIT_TIMEOUT_S).check(
            f"`git -C {self.worktree} status` says what is in the way."
        )


def make_repository(host: Host, worktree: str, message: str) -> None:
    """Turn a folder into a repository whose only commit holds every file in it.

    The commit depends on nothing but the files and the message, so the same sources have the same
    commit on every box.

    Raises:
        ToolMissing: there is no git on this machine.
        CommandFailed: git refused.
    """
    real = host.path(worktree)
    env = {
        "GIT_DIR": str(real / ".git"),
        "GIT_WORK_TREE": str(real),
        "GIT_INDEX_FILE": str(real / ".git" / "index"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    for role in ("AUTHOR", "COMMITTER"):
        env[f"GIT_{role}_NAME"] = "ishowtts-ops"
        env[f"GIT_{role}_EMAIL"] = "ishowtts-ops@localhost"
        env[f"GIT_{role}_DATE"] = "1700000000 +0000"
    verbs: list[Sequence[str]] = [
        ("init", "-q", "-b", "main"),
        ("config", "core.autocrlf", "false"),
        ("add", "--all", "--force", "."),
        ("commit", "-q", "--no-verify", "--no-gpg-sign", "-m", message),
    ]
    for verb in verbs:
        host.run_here(["git", "-C", str(real), *verb], timeout=GIT_TIMEOUT_S, env=env).check()


def _git_dir(host: Host, worktree: str, target: str) -> Path | None:
    """The real path of what a `.git` file points to. Git writes it relative for a submodule and
    absolute for a linked work tree; absolute may mean as the box or as this machine sees it."""
    if not target.startswith("/"):
        candidates = [_resolve(host, f"{worktree}/{target}")]
    else:
        candidates = [_resolve(host, target)]
        here = Path(target)
        if here.is_relative_to(host.root):
            candidates.append(here)
    return next((path for path in candidates if path is not None and path.is_dir()), None)


def _resolve(host: Host, box_path: str) -> Path | None:
    try:
        return host.path(box_path)
    except OpsError:
        return None


def _as_owner(folder: Path) -> list[str]:
    """Words that make root act as a folder's owner, so that git neither complains about the owner
    nor leaves files behind that the owner cannot change."""
    info = folder.stat()
    if os.geteuid() != 0 or info.st_uid == 0:
        return []
    try:
        home = pwd.getpwuid(info.st_uid).pw_dir
    except KeyError:
        home = "/"
    who = [f"--reuid={info.st_uid}", f"--regid={info.st_gid}", "--clear-groups"]
    return ["setpriv", *who, "env", f"HOME={home}"]
