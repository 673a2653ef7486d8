"""Loading a series, and applying hunks exactly: never by guessing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ishowtts_ops.errors import OpsError
from ishowtts_ops.provision.f5_source import read_wheel
from ishowtts_ops.provision.patch_text import (
    Content,
    apply_hunks,
    blob_id,
    parse_patch,
    render,
)
from ishowtts_ops.provision.series import load_series, version_key
from tests.support.f5 import PLAIN_GIT, VERSIONS, diff, wheel, write_series

OLD = b"".join(b"line %d\n" % number for number in range(1, 31))
NEW = OLD.replace(b"line 5\n", b"line five\n").replace(b"line 20\n", b"line 20\nline 20b\n")


def test_blob_id_is_gits(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(OLD)
    said = subprocess.run(["git", "hash-object", str(file)], capture_output=True, text=True)
    assert blob_id(OLD) == said.stdout.strip()


def test_crlf_content_is_known_by_both_hashes() -> None:
    dos = Content(OLD.replace(b"\n", b"\r\n"))
    mixed = Content(OLD.replace(b"5\n", b"5\r\n"))
    assert dos.crlf and dos.is_blob(blob_id(OLD)) and dos.is_blob(blob_id(dos.data))
    assert dos.as_here(OLD) == dos.data
    assert not mixed.crlf and not mixed.is_blob(blob_id(OLD))
    assert not Content(OLD).is_blob(blob_id(OLD)[:6]), "six digits are too few to go by"


def test_hunks_apply_where_they_say(tmp_path: Path) -> None:
    (patch,) = parse_patch("p", diff("f", OLD, NEW, tmp_path))
    assert len(patch.hunks) == 2
    assert apply_hunks(patch, OLD, "p") == (NEW, ())
    assert apply_hunks(patch.reversed(), NEW, "p") == (OLD, ())


def test_hunks_follow_lines_that_moved(tmp_path: Path) -> None:
    (patch,) = parse_patch("p", diff("f", OLD, NEW, tmp_path))
    assert apply_hunks(patch, b"above\n" * 7 + OLD, "p") == (b"above\n" * 7 + NEW, ())


def test_a_failing_hunk_is_named_and_nothing_is_applied(tmp_path: Path) -> None:
    (patch,) = parse_patch("p", diff("f", OLD, NEW, tmp_path))
    result, (failure,) = apply_hunks(patch, OLD.replace(b"line 18\n", b"line 18 edited\n"), "p")
    assert result is None
    assert (failure.path, failure.number) == ("f", 2)
    assert failure.header == "@@ -18,6 +18,7 @@" and "`line 18`" in failure.reason
    assert "hunk 2" in str(failure) and "p:" in str(failure)


def test_context_is_never_ignored(tmp_path: Path) -> None:
    """`patch -F2` would apply this; a series must not."""
    (patch,) = parse_patch("p", diff("f", OLD, NEW, tmp_path))
    edited = OLD.replace(b"line 2\n", b"line two\n")
    assert apply_hunks(patch, edited, "p")[0] is None


def test_an_ambiguous_place_is_refused(tmp_path: Path) -> None:
    block = b"".join(b"%c\n" % letter for letter in b"abcdefghi")
    (patch,) = parse_patch("p", diff("f", block, block.replace(b"e", b"E"), tmp_path))
    result, (failure,) = apply_hunks(patch, b"x\n" + block + b"y\n" + block, "p")
    assert result is None
    assert "more than one place (lines 3, 13)" in failure.reason


lines = st.lists(st.sampled_from(["a", "b", "c", "", "def f():", "    return 1"]), max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(old=lines, new=lines, above=st.integers(0, 3), end=st.booleans())
def test_what_we_apply_git_applies_alike(
    tmp_path: Path, old: list[str], new: list[str], above: int, end: bool
) -> None:
    tail = "\n" if end else ""
    before = ("\n".join(["first", *old, "last"]) + "\n").encode()
    after = ("\n".join(["first", *new, "last"]) + tail).encode()
    if before == after:
        return
    text = diff("f.py", before, after, tmp_path)
    (patch,) = parse_patch("p", text)
    moved = b"# above\n" * above
    ours, failures = apply_hunks(patch, moved + before, "p")
    target = tmp_path / "f.py"
    target.write_bytes(moved + before)
    git = subprocess.run(
        ["git", "apply", "-p1", "-"], input=text, cwd=tmp_path, env=PLAIN_GIT, capture_output=True
    )
    if ours is None:
        assert failures
    else:
        assert git.returncode == 0, git.stderr
        assert target.read_bytes() == ours
        assert apply_hunks(patch.reversed(), ours, "p")[0] in (moved + before, None)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(old=lines, new=lines, end=st.booleans())
def test_git_takes_what_we_render(
    tmp_path: Path, old: list[str], new: list[str], end: bool
) -> None:
    before = ("\n".join(["x", *old]) + ("\n" if end else "")).encode()
    after = ("\n".join([*new, "y"]) + "\n").encode()
    if before == after:
        return
    target = tmp_path / "f.py"
    target.write_bytes(before)
    git = subprocess.run(
        ["git", "apply", "-p1", "--whitespace=nowarn", "-"],
        input=render("f.py", before, after),
        cwd=tmp_path,
        env=PLAIN_GIT,
        capture_output=True,
    )
    assert git.returncode == 0, git.stderr
    assert target.read_bytes() == after


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"nothing here\n", "changes no file"),
        (b"--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n-b\n", "shorter than"),
        (b"--- a/f\n+++ b/f\n@@ -1,1 +1,2 @@\n-a\n-b\n+c\n+d\n", "longer than"),
        (b"--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+a\n", "existing files"),
        (b"--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", "existing files"),
        (b"--- a/f\n+++ b/g\n@@ -1 +1 @@\n-a\n+b\n", "same file"),
        (b"--- a/../f\n+++ b/../f\n@@ -1 +1 @@\n-a\n+b\n", "same file"),
        (b"--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+a\n", "no line of context"),
        (b"rename from a\nrename to b\n", "existing files"),
        (b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n" * 2, "twice"),
    ],
)
def test_damaged_patches_are_refused(text: bytes, says: str) -> None:
    with pytest.raises(OpsError, match=says):
        parse_patch("bad.patch", text)


def test_versions_limit_a_patch(tmp_path: Path) -> None:
    for_all = diff("f", OLD, NEW, tmp_path / "1")
    for_old = diff("g", OLD, NEW, tmp_path / "2")
    series = write_series(
        tmp_path / "series",
        {"all.patch": for_all, "old.patch versions=1.1.9,1.1.17": for_old},
        {"new.py": b"x = 1\n"},
        upstream=[("1.1.9", "f", blob_id(OLD)), ("1.1.22", "f", blob_id(NEW))],
    )
    assert series.variant("1.1.9").hooked() == ["f", "g"]
    assert series.variant("1.1.22").hooked() == ["f"]
    assert series.variant(None).hooked() == ["f"]
    assert [version for version, _ in series.variants()] == ["1.1.22", "1.1.17"]
    assert series.version_of({"f": blob_id(OLD)}) == "1.1.9"
    assert series.version_of({"f": blob_id(b"")}) is None


def test_every_byte_of_a_series_counts_for_its_id(tmp_path: Path) -> None:
    hook = diff("f", OLD, NEW, tmp_path / "d")
    ids = {
        write_series(tmp_path / str(number), {line: patch}, {path: data}).id
        for number, (line, patch, path, data) in enumerate(
            [
                ("a.patch", hook, "n.py", b"1\n"),
                ("a.patch", hook, "n.py", b"2\n"),
                ("a.patch", hook, "m.py", b"1\n"),
                ("b.patch", hook, "n.py", b"1\n"),
                ("a.patch", b"why\n\n" + hook, "n.py", b"1\n"),
                ("a.patch versions=1.1.9", hook, "n.py", b"1\n"),
            ]
        )
    }
    assert len(ids) == 6
    again = write_series(tmp_path / "again", {"a.patch": hook}, {"n.py": b"1\n"})
    assert again.id in ids


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("series", "gone.patch\n", "gone.patch cannot be read"),
        ("series", "a.patch\na.patch\n", "twice"),
        ("series", "a.patch version=1.1.9\n", "does not know the option 'version=1.1.9'"),
        ("series", "../a.patch\n", "not beside it"),
        ("upstream.tsv", "1.1.9 f zzz\n", "cannot be understood"),
        ("legacy.tsv", "name f 1234567\n", "cannot be understood"),
        ("versions.tsv", "1.1.9\tf\t" + "0" * 40 + "\n", "differ on f of 1.1.9"),
        ("files/f", "x = 1\n", "both changes and adds f"),
    ],
)
def test_a_broken_series_is_named(tmp_path: Path, file: str, text: str, says: str) -> None:
    hook = diff("f", OLD, NEW, tmp_path / "d")
    upstream = [("1.1.9", "f", blob_id(OLD))]
    write_series(tmp_path / "s", {"a.patch": hook}, {"n.py": b""}, upstream=upstream)
    (tmp_path / "s" / file).write_text(text)
    with pytest.raises(OpsError, match=says):
        load_series(tmp_path / "s")


def test_versions_sort_by_number() -> None:
    assert sorted(["1.1.22", "1.1.9", "1.1.17"], key=version_key) == list(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_projects_series_fits_upstream(version: str) -> None:
    """The real series on the real sources, in memory: every hook applies and can be taken back."""
    series = load_series()
    files = {f"src/{name}": data for name, data in read_wheel(wheel(version)).items()}
    blobs: dict[str, str | None] = {path: blob_id(data) for path, data in files.items()}
    assert series.version_of(blobs) == version
    variant = series.variant(version)
    assert variant.hooked() and series.added
    for path in variant.hooked():
        patched, failures = variant.apply(path, files[path])
        assert patched is not None, [str(failure) for failure in failures]
        compile(patched, path, "exec")
        assert variant.take_back(path, patched) == files[path]
        assert blob_id(files[path]) in series.upstream_blobs(path)
    assert all(patch.reason for patch in series.patches), "every patch says why"
