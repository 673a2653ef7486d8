from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.facts.gpu import (
    GpuClient,
    SmiGpu,
    parse_load,
    parse_nvmap_clients,
    parse_smi,
    read_gpu,
)
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.sim.tree import build_box

CLIENTS = """\
CLIENT                        PROCESS                PID    SIZE
user                          gnome-shell           1543    220K
user                          vlm-server            4321    524288K
total                                                       524688K
"""
SMI_TABLE = """\
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 540.4.0                Driver Version: 540.4.0      CUDA Version: 12.6     |
|   0  Orin (nvgpu)                  N/A  | N/A              N/A |                  N/A |
+---------------------------------------------------------------------------------------+
"""


def test_clients_come_largest_first_in_bytes() -> None:
    assert parse_nvmap_clients(CLIENTS) == (
        GpuClient("user", "vlm-server", 4321, 524288 * 1024),
        GpuClient("user", "gnome-shell", 1543, 220 * 1024),
    )


def test_a_process_name_may_hold_blanks() -> None:
    text = CLIENTS + "user                          Web Content            77     3M\n"
    clients = parse_nvmap_clients(text)
    assert not isinstance(clients, Unknown)
    assert GpuClient("user", "Web Content", 77, 3 << 20) in clients


def test_nobody_is_not_the_same_as_no_answer() -> None:
    head = CLIENTS.splitlines()[0] + "\n"
    assert parse_nvmap_clients(head + "total      0K\n") == ()
    assert isinstance(parse_nvmap_clients(""), Unknown)
    assert isinstance(parse_nvmap_clients("user gnome-shell 1 2K\n"), Unknown)


def test_nvidia_smi_on_orin() -> None:
    assert parse_smi("Orin (nvgpu), 8.7\n") == SmiGpu("Orin (nvgpu)", "8.7")


def test_nvidia_smi_without_an_answer_is_unknown_with_its_words() -> None:
    answer = parse_smi("NVIDIA-SMI has failed because it couldn't communicate with the driver.\n")
    assert isinstance(answer, Unknown)
    assert "failed" in answer.reason
    assert isinstance(parse_smi("Orin (nvgpu), [N/A]\n"), Unknown)
    assert isinstance(parse_smi(SMI_TABLE), Unknown)
    assert isinstance(parse_smi(""), Unknown)


def test_load_is_per_mille() -> None:
    assert parse_load("997\n") == 99.7
    assert isinstance(parse_load("1001\n"), Unknown)
    assert isinstance(parse_load(""), Unknown)


def test_all_of_it_on_a_simulated_orin(tmp_path: Path) -> None:
    build_box(tmp_path / "box", "agx-orin-64")
    gpu = read_gpu(Host.at(tmp_path / "box").read_only())
    assert gpu.load_percent == 0.0
    assert gpu.clients == ()
    assert gpu.smi == SmiGpu("Orin (nvgpu)", "8.7")


def test_jetpack_5_has_no_nvidia_smi_and_another_gpu_path(tmp_path: Path) -> None:
    build_box(tmp_path / "box", "agx-orin-64@35.3.1")
    gpu = read_gpu(Host.at(tmp_path / "box").read_only())
    assert gpu.load_percent == 0.0
    assert isinstance(gpu.smi, Unknown)


@given(st.text())
def test_garbage_never_raises(text: str) -> None:
    for parse in (parse_load, parse_nvmap_clients, parse_smi):
        parse(text)


@given(st.text())
def test_garbage_is_never_an_idle_gpu_table(text: str) -> None:
    if "CLIENT" not in text:
        assert isinstance(parse_nvmap_clients(text), Unknown)
