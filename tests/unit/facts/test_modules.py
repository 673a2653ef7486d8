from __future__ import annotations

import pytest

from ishowtts_ops.facts.modules import (
    ALL_MODULES,
    UNCAPPED,
    Module,
    all_modes,
    modes_for,
    module_by_key,
    module_for,
    parse_modes,
)

HEADER = (
    "conf_file\tmodule\tskus\tsuper\tid\tname\tdefault\tcores_online\tcpu_max_khz\tcpu_max_khz_r35"
    "\tgpu_max_hz\temc_max_hz\ttpc_pg_mask\toptional\tnote\n"
)


def get(key: str) -> Module:
    module = module_by_key(key)
    assert module is not None
    return module


def test_every_module_has_modes_and_one_default() -> None:
    for module in ALL_MODULES:
        modes = modes_for(module)
        assert modes, module.key
        assert [mode.id for mode in modes] == list(range(len(modes)))
        assert sum(mode.default for mode in modes) == 1
        assert module.default_mode.default
        assert {mode.module for mode in modes} == {module.key}
    assert len(all_modes()) == 42


@pytest.mark.parametrize("module", ALL_MODULES, ids=lambda module: module.key)
def test_no_mode_exceeds_its_module(module: Module) -> None:
    for mode in modes_for(module):
        assert mode.cores_online <= module.cpu_cores
        for cap, limit in (
            (mode.cpu_max_khz, module.max_cpu_khz),
            (mode.gpu_max_hz, module.max_gpu_hz),
            (mode.emc_max_hz, module.max_emc_hz),
        ):
            assert cap is None or limit is None or cap <= limit


@pytest.mark.parametrize(
    ("compatible", "key"),
    [
        (["nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"], "agx-orin-64"),
        (["nvidia,p3737-0000+p3701-0000", "nvidia,tegra234"], "agx-orin-64"),
        (["nvidia,p3737-0000+p3701-0004", "nvidia,tegra234"], "agx-orin-32"),
        (["nvidia,p3768-0000+p3767-0005-super", "nvidia,tegra234"], "orin-nano-8-super"),
        (["nvidia,p3768-0000+p3767-0003"], "orin-nano-8"),
        (["acme,carrier+p3767-0000-super\0"], "orin-nx-16-super"),
        (["nvidia,p3768-0000+p3767-0001"], "orin-nx-8"),
        (
            ["nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"],
            "agx-thor-t5000",
        ),
    ],
)
def test_module_by_compatible(compatible: list[str], key: str) -> None:
    assert module_for(compatible, "some wrong model name") == get(key)


def test_every_module_is_found_by_its_own_strings() -> None:
    for module in ALL_MODULES:
        for compatible in module.compatibles:
            assert module_for([compatible], "") == module


def test_module_by_model_only_where_the_name_is_enough() -> None:
    agx = "NVIDIA Jetson AGX Orin Developer Kit"
    assert module_for(["nvidia,tegra234"], agx) == get("agx-orin-64")
    nano = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert module_for([], nano) == get("orin-nano-8-super")
    assert module_for([], "NVIDIA Jetson Orin NX") is None


@pytest.mark.parametrize(
    ("compatible", "model"),
    [([], ""), (["raspberrypi,4-model-b"], "Raspberry Pi 4"), (["nvidia,p3767-9999"], "\0\0")],
)
def test_unknown_machine_is_none(compatible: list[str], model: str) -> None:
    assert module_for(compatible, model) is None


def test_mode_zero_is_not_always_the_fastest() -> None:
    names = {mode.id: mode.name for mode in modes_for(get("orin-nano-8-super"))}
    assert names[0] == "15W"
    assert names[2] == "MAXN_SUPER"


def test_reboot_masks_of_the_documented_pairs() -> None:
    def mask(key: str, name: str) -> int | None:
        return next(mode.tpc_pg_mask for mode in modes_for(get(key)) if mode.name == name)

    assert mask("agx-orin-64", "MODE_30W") != mask("agx-orin-64", "MAXN")
    assert mask("orin-nx-16", "15W") != mask("orin-nx-16", "MAXN")
    assert mask("orin-nx-16-super", "40W") == mask("orin-nx-16-super", "MAXN_SUPER")
    assert mask("orin-nano-8-super", "7W") is None


def test_a_part_run_with_its_other_file() -> None:
    nano = get("orin-nano-8-super")
    plain = modes_for(nano, "/etc/nvpmodel/nvpmodel_p3767_0003.conf")
    assert [mode.name for mode in plain] == ["15W", "7W"]
    assert plain[0].cpu_max_khz == UNCAPPED
    assert modes_for(nano, "nvpmodel_p3701_0000.conf") == ()


def test_a_cap_that_differs_by_release() -> None:
    mode = next(mode for mode in modes_for(get("orin-nx-16")) if mode.name == "15W")
    assert mode.cpu_cap_khz(35) == 1651200
    assert mode.cpu_cap_khz(36) == 1420800


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a\tb\n", "line 1: the columns"),
        (HEADER + "x\ty\n", "line 2: 2 cells"),
        (HEADER + "c\tm\ts\tmaybe\t0\tN\tyes\t1\t\t\t\t\t\tno\t\n", "line 2: 'maybe'"),
        (HEADER + "c\tm\ts\tno\tzero\tN\tyes\t1\t\t\t\t\t\tno\t\n", "line 2: invalid literal"),
    ],
)
def test_a_broken_table_names_its_line(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_modes(text)
