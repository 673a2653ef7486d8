from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.errors import (
    BoxLocked,
    CommandFailed,
    OpsError,
    ReadOnlyViolation,
    ToolMissing,
    UsageError,
)
from ishowtts_ops.host import SIM_MARKER, BoxKind, Host


@pytest.fixture
def box(tmp_path: Path) -> Host:
    (tmp_path / "etc").mkdir()
    (tmp_path / SIM_MARKER.lstrip("/")).write_text("{}")
    return Host.at(tmp_path)


def tool(box: Host, name: str, script: str) -> None:
    box.write(f"/usr/bin/{name}", f"#!{sys.executable}\n{script}", mode=0o755)


def test_kind_is_read_off_the_tree(tmp_path: Path, box: Host) -> None:
    assert box.kind is BoxKind.SIMULATED
    (tmp_path / SIM_MARKER.lstrip("/")).unlink()
    assert Host.at(tmp_path).kind is BoxKind.OFFLINE
    assert Host.at("/").kind is BoxKind.LIVE


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder"):
        Host.at(tmp_path / "missing")


def test_absolute_links_stay_inside_the_box(box: Host) -> None:
    box.write("/opt/real/file", "inside")
    box.symlink("/opt/real", "/srv/link")
    assert box.read_text("/srv/link/file") == "inside"
    assert box.path("/srv/link/file") == box.root / "opt/real/file"
    box.symlink("../../../../../../etc/passwd", "/srv/up")
    assert box.path("/srv/up") == box.root / "etc/passwd"


def test_a_loop_of_links_is_an_error_and_no_hang(box: Host) -> None:
    box.symlink("/b", "/a")
    box.symlink("/a", "/b")
    with pytest.raises(OpsError, match="loop"):
        box.path("/a")


@given(st.lists(st.sampled_from(["..", ".", "etc", "x", "link"]), max_size=8))
def test_no_path_leads_out_of_the_box(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    root = tmp_path_factory.mktemp("box")
    (root / "link").symlink_to("/../../..")
    real = Host.at(root).path("/" + "/".join(parts))
    assert real == root or root in real.parents


def test_write_is_atomic_and_keeps_the_mode(box: Host) -> None:
    box.write("/etc/secret", "one", mode=0o600)
    box.write("/etc/secret", "two", mode=0o600)
    assert box.read_text("/etc/secret") == "two"
    assert box.stat("/etc/secret").mode == 0o600
    assert box.listdir("/etc") == [SIM_MARKER.rsplit("/", 1)[1], "secret"]


def test_write_replaces_a_link_and_not_its_target(box: Host) -> None:
    box.write("/etc/target", "old")
    box.symlink("target", "/etc/link")
    box.write("/etc/link", "new")
    assert box.read_text("/etc/target") == "old"
    assert not box.is_symlink("/etc/link")


def test_sysfs_attributes_are_never_created(box: Host) -> None:
    with pytest.raises(FileNotFoundError):
        box.write_sysfs("/sys/none", "1")


def test_glob_matches_inside_components(box: Host) -> None:
    box.write("/sys/class/devfreq/17000000.gpu/min_freq", "1")
    box.write("/sys/class/devfreq/other/min_freq", "1")
    assert box.glob("/sys/class/devfreq/*.gpu/min_freq") == [
        "/sys/class/devfreq/17000000.gpu/min_freq"
    ]
    assert box.glob("/nowhere/*") == []


def test_tools_come_from_the_box_and_learn_its_root(box: Host) -> None:
    tool(box, "where", "import os; print(os.environ['ISHOWTTS_BOX_ROOT'])")
    assert box.query(["where"]).stdout.strip() == str(box.root)
    with pytest.raises(ToolMissing, match="not-there"):
        box.query(["not-there"])
    with pytest.raises(ToolMissing):
        box.query(["ls"])  # this machine has it, the box has not


def test_an_offline_box_runs_nothing(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    host.write("/usr/bin/x", "#!/bin/sh\n", mode=0o755)
    with pytest.raises(ToolMissing, match="offline"):
        host.query(["x"])


def test_a_bad_status_is_a_result_until_it_is_checked(box: Host) -> None:
    tool(box, "bad", "import sys; print('why'); sys.exit(3)")
    result = box.query(["bad"])
    assert (result.rc, result.ok, result.stdout) == (3, False, "why\n")
    with pytest.raises(CommandFailed, match=r"status 3.*\nwhy"):
        result.check()


def test_a_process_and_its_children_end_with_their_time(box: Host, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    child = f"import os,time; open({str(mark)!r},'w').write(str(os.getpid())); time.sleep(60)"
    tool(
        box,
        "hang",
        f"import subprocess,sys,time\nsubprocess.Popen([sys.executable,'-c',{child!r}])\n"
        "time.sleep(60)",
    )
    for seconds in (0.5, 2, 8, 32):  # on a busy machine the child may not have begun by then
        result = box.query(["hang"], timeout=seconds)
        assert result.timed_out
        if mark.is_file() and mark.read_text():
            break
    pid = int(mark.read_text())
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text():
            return
        time.sleep(0.02)
    pytest.fail("the child outlived its parent's time-out")


def test_lines_are_told_as_they_come(box: Host) -> None:
    tool(box, "talk", "import sys; print('a'); print('b', file=sys.stderr); print(input())")
    lines: list[str] = []
    result = box.run(["talk"], stdin="c\n", on_line=lines.append)
    assert sorted(lines) == ["a", "b", "c"]
    assert (result.stdout, result.stderr) == ("a\nc\n", "b\n")


def test_a_read_only_host_reads_and_refuses(box: Host) -> None:
    host = box.read_only()
    assert host.exists(SIM_MARKER)
    for attempt in (
        lambda: host.write("/x", ""),
        lambda: host.remove("/x"),
        lambda: host.run(["true"]),
        lambda: host.run_here(["true"]),
        lambda: host.become_here(["true"], env={}),
        lambda: host.write_sysfs("/x", "1"),
        lambda: host.mkdir("/x"),
        lambda: host.rmtree("/x"),
        lambda: host.rename("/x", "/y"),
        lambda: host.symlink("/x", "/y"),
        lambda: host.rmdir("/x"),
        lambda: host.chmod("/x", 0o600),
        lambda: host.chown("/x", 0, 0),
        lambda: host.lock("/x", "y").__enter__(),
    ):
        with pytest.raises(ReadOnlyViolation):
            attempt()


def test_every_changing_verb_is_refused_read_only() -> None:
    from ishowtts_ops.host import ReadOnlyHost

    reading = """
        at box_path disk_space exists glob is_dir is_file is_root is_symlink lexists listdir path
        pipe_here query query_here read_bytes read_only read_text readlink require_root sha256
        simulated stat which
    """
    verbs = {name for name in vars(Host) if not name.startswith("_")}
    assert verbs - set(reading.split()) <= set(vars(ReadOnlyHost)), "a changing verb is not refused"


def test_the_second_to_lock_is_told_who_was_first(box: Host) -> None:
    script = (
        "import sys,time\nfrom ishowtts_ops.host import Host\n"
        f"with Host.at({str(box.root)!r}).lock('/run/l', 'the first'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(BoxLocked, match=f"the first.*process {first.pid}"),
        box.lock("/run/l", "the second"),
    ):
        pass
    first.kill()
    first.communicate()
    with box.lock("/run/l", "after a kill"):
        assert str(os.getpid()) in box.read_text("/run/l")


def test_tools_are_not_translated_and_inherit_no_service_socket(
    box: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    tool(box, "env", "import os,json; print(json.dumps(dict(os.environ)))")
    env = box.query(["env"]).stdout
    assert '"LC_ALL": "C.UTF-8"' in env
    assert "NOTIFY_SOCKET" not in env
    assert "de_DE" not in env


def test_a_person_waits_for_a_timer_and_a_timer_for_nobody(box: Host) -> None:
    script = (
        "import sys\nfrom ishowtts_ops.host import Host\n"
        f"with Host.at({str(box.root)!r}).lock('/run/l', 'the timer', automatic=True):\n"
        "    print('held', flush=True); sys.stdin.readline()\n"
    )
    timer = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert timer.stdin is not None and timer.stdout is not None
    assert timer.stdout.readline() == "held\n"
    with (
        pytest.raises(BoxLocked, match="the timer"),
        box.lock("/run/l", "another timer", automatic=True),
    ):
        pass
    let_go = threading.Timer(0.5, lambda: (timer.stdin.write("\n"), timer.stdin.flush()))
    let_go.start()
    with box.lock("/run/l", "a person"):
        assert not let_go.is_alive(), "the lock was had before the timer let go of it"
    timer.wait()
