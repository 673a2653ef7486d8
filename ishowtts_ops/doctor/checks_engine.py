"""Can the engine's interpreter run F5-TTS, and on the GPU?"""

from __future__ import annotations

import re

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import (
    Check,
    Evidence,
    Finding,
    Remedy,
    Severity,
    by_hand,
    known,
    mend,
)
from ishowtts_ops.facts.engine_python import AUTO, choose, in_use
from ishowtts_ops.facts.python_env import Package, PythonEnv
from ishowtts_ops.facts.value import Unknown

OLDEST_PYTHON = (3, 10)
ORIN_ARCHITECTURES = ("sm_80", "sm_86", "sm_87", "compute_80", "compute_87")
"""Code that runs on Orin (8.7): its own, or that of an older 8.x."""


def _python(exam: Examination) -> list[Finding]:
    path = in_use(exam.host, exam.settings)
    if not exam.host.exists(path):
        if exam.changes_follow:
            return []  # the install step `engine` says what to do about it
        return [
            Finding(
                "engine-python",
                Severity.ERROR,
                f"The engine's interpreter {path} is not on the box.",
                (Evidence(path, "not there"),),
                by_hand(
                    "Run ./install.sh in the project's folder, which makes it, or set"
                    " engine.python to an interpreter that has torch.",
                    ("sudo", "./install.sh"),
                    needs_root=True,
                ),
            )
        ]
    env = known(exam.facts.python_env)
    version = ".".join(map(str, env.python))
    evidence = (Evidence(path, f"Python {version}"),)
    if env.python[:2] >= OLDEST_PYTHON:
        text = f"The engine's interpreter is Python {version}."
        return [Finding("engine-python", Severity.OK, text, evidence), *_passed_over(exam)]
    return [
        Finding(
            "engine-python",
            Severity.ERROR,
            f"The engine's interpreter is Python {version}, and 3.10 is the oldest that works.",
            evidence,
            by_hand("Set engine.python in the configuration to a newer interpreter."),
        )
    ]


def _passed_over(exam: Examination) -> list[Finding]:
    """iShowTTS's own environment is only used where it is sound (`engine.python: auto`)."""
    settings = exam.settings
    if settings.engine.kind != "f5" or settings.engine.python != AUTO:
        return []
    return [
        Finding(
            "engine-python",
            Severity.INFO,
            f"{environment}.",
            (Evidence(environment.python, "; ".join(environment.reasons)),),
            by_hand(
                f"Nothing, or set engine.python to {environment.python}: install then mends it,"
                " and its plan shows every pip command.",
                ("sudo", "ishowtts-ops", "install", "--dry-run", "--only", "engine"),
                needs_root=True,
            ),
        )
        for environment in choose(exam.host, settings).passed_over
    ]


def _packages(exam: Examination) -> list[Finding]:
    env = _f5(exam)
    if env is None:
        return []
    broken = {name: package for name, package in env.packages.items() if package.error}
    evidence = tuple(Evidence(f"import {name}", "not installed") for name in env.missing)
    evidence += tuple(Evidence(f"import {n}", (p.error or "")[:200]) for n, p in broken.items())
    if env.missing:
        text = f"The engine's environment lacks {', '.join(env.missing)}."
        remedy = _install("Install what is missing.")
        return [Finding("engine-packages", Severity.ERROR, text, evidence, remedy)]
    if broken:
        text = f"The engine cannot import {', '.join(broken)}."
        remedy = by_hand(
            "Install matching builds of the packages named here, from one index.",
            (env.executable, "-c", f"import {next(iter(broken))}"),
        )
        return [Finding("engine-packages", Severity.ERROR, text, evidence, remedy)]
    return [Finding("engine-packages", Severity.OK, "The engine has every package it imports.")]


def _torch(exam: Examination) -> list[Finding]:
    env = _f5(exam)
    if env is None or not env.package("torch").installed:
        return []
    torch = env.package("torch")
    evidence = (
        Evidence(f"{env.executable} torch.__version__", str(torch.version)),
        Evidence(f"{env.executable} torch.version.cuda", str(torch.cuda)),
    )
    if not env.cpu_only:
        text = f"torch {torch.version} is built for CUDA {torch.cuda}."
        return [Finding("engine-torch", Severity.OK, text, evidence)]
    if exam.settings.f5.device == "cpu":
        text = f"torch {torch.version} is built without CUDA, and f5.device asks for the CPU."
        return [Finding("engine-torch", Severity.INFO, text, evidence)]
    if not exam.jetson and exam.settings.f5.device == "auto":
        text = f"torch {torch.version} is built without CUDA, so speech is made on the CPU."
        return [Finding("engine-torch", Severity.INFO, text, evidence)]
    return [
        Finding(
            "engine-torch",
            Severity.ERROR,
            f"torch {torch.version} is built without CUDA, so the GPU does nothing and speech is"
            " made on the CPU.",
            evidence,
            _install("Replace it by the build of the Jetson index (engine.torch_index)."),
        )
    ]


def _torchaudio(exam: Examination) -> list[Finding]:
    env = _f5(exam)
    if env is None:
        return []
    torch, audio = env.package("torch"), env.package("torchaudio")
    if not torch.installed or not audio.installed:
        return []
    evidence = (
        Evidence(f"{env.executable} torch.__version__", str(torch.version)),
        Evidence(f"{env.executable} torchaudio.__version__", str(audio.version)),
    )
    if _same_build(torch, audio):
        text = f"torchaudio {audio.version} goes with torch {torch.version}."
        return [Finding("engine-torchaudio", Severity.OK, text, evidence)]
    return [
        Finding(
            "engine-torchaudio",
            Severity.ERROR,
            f"torchaudio {audio.version} is of another build than torch {torch.version}, and such"
            " a pair fails to import.",
            evidence,
            _both_again(exam, env),
        )
    ]


def _both_again(exam: Examination, env: PythonEnv) -> Remedy:
    """Never from the general index on a Jetson: its torch may be built without CUDA."""
    index = exam.settings.engine.torch_index
    if index is None and exam.jetson:
        return by_hand(
            "Set engine.torch_index in the configuration to the package index for this JetPack,"
            " then install torch and torchaudio together from there."
        )
    source = ("--index-url", index) if index else ()
    argv = (env.executable, "-m", "pip", "install", *source, "--force-reinstall")
    text = "Install both together from one index."
    return by_hand(text, (*argv, "torch", "torchaudio"), needs_root=True)


def _same_build(torch: Package, audio: Package) -> bool:
    """Since 2.0 they have the same numbers. Build tags ("+cpu") are compared where both have one:
    the Jetson index's wheels have none."""
    first, second = (re.match(r"(\d+\.\d+)", p.version or "") for p in (torch, audio))
    if first is None or second is None:
        return True
    tags = [(p.version or "").partition("+")[2] for p in (torch, audio)]
    return first[1] == second[1] and (not all(tags) or tags[0] == tags[1])


def _numpy(exam: Examination) -> list[Finding]:
    env = _f5(exam)
    if env is None or env.numpy_major is None or env.numpy_major < 2:
        return []
    torch = env.package("torch")
    # JetPack 6's own wheels are built for its CUDA 12 and its Python 3.10, as the engine step knows
    # too; others bring their CUDA and know numpy 2.
    theirs = (torch.cuda or "").startswith("12.") and env.python < (3, 12)
    if _release_major(exam) != 36 or not theirs:
        return []
    version = env.package("numpy").version
    return [
        Finding(
            "engine-numpy",
            Severity.ERROR,
            f"numpy {version} does not go with JetPack 6's torch, which is built for numpy 1:"
            " audio cannot be handed to it.",
            (
                Evidence(f"{env.executable} numpy.__version__", str(version)),
                Evidence(f"{env.executable} torch.version.cuda", str(torch.cuda)),
            ),
            _install("Put numpy 1 into the engine's environment."),
        )
    ]


def _kernel(exam: Examination) -> list[Finding]:
    env = _f5(exam)
    if env is None or not exam.thorough or env.cpu_only or exam.settings.f5.device == "cpu":
        return []
    launch = known(env.kernel)
    evidence: tuple[Evidence, ...] = (
        Evidence("torch.cuda.is_available()", str(launch.available)),
        Evidence("torch.cuda.get_arch_list()", " ".join(launch.arch_list) or "empty"),
    )
    if launch.available and launch.error is None:
        text = f"A kernel ran on {launch.device}."
        return [Finding("engine-gpu", Severity.OK, text, evidence)]
    if not launch.available and not exam.jetson:
        return [Finding("engine-gpu", Severity.INFO, "torch finds no GPU here.", evidence)]
    if launch.available and not set(launch.arch_list) & set(ORIN_ARCHITECTURES) and exam.jetson:
        text = "torch was compiled for other GPUs than Orin's, so no kernel of it can run."
        remedy: Remedy = _install("Replace it by the build of the Jetson index.")
    elif launch.error:
        text = f"torch cannot use the GPU: {launch.error[:160]}."
        evidence += (Evidence("torch", launch.error[:300]),)
        remedy = by_hand(
            "Try it by hand, and reboot if the driver is stuck.",
            (env.executable, "-c", "import torch; print(torch.ones(1, device='cuda'))"),
        )
    else:
        text = "torch is built for CUDA and finds no GPU."
        remedy = by_hand(
            "Look whether the user is in the groups video and render, and whether the driver is"
            " loaded.",
            ("ls", "-l", "/dev/nvmap", "/dev/nvhost-gpu"),
            ("id",),
        )
    return [Finding("engine-gpu", Severity.ERROR, text, evidence, remedy)]


def _attention(exam: Examination) -> list[Finding]:
    """Attention is a fifth of F5-TTS's work; torch's plain way writes it all to memory."""
    env = _f5(exam)
    if env is None or not exam.thorough or env.cpu_only or exam.settings.f5.device == "cpu":
        return []
    launch = known(env.kernel)
    if not launch.available or launch.error is not None or not launch.sdpa:
        return []  # engine-gpu says so
    evidence = tuple(
        Evidence(f"torch scaled_dot_product_attention {name}", "ran" if why is None else why)
        for name, why in launch.sdpa.items()
    )
    fused = [name for name, why in launch.sdpa.items() if why is None and name != "math"]
    if fused:
        text = f"Attention has fused kernels here: {', '.join(fused)}."
        return [Finding("engine-attention", Severity.OK, text, evidence)]
    return [
        Finding(
            "engine-attention",
            Severity.WARN,
            "torch has no fused attention for this GPU, so attention takes its slow way through"
            " memory.",
            evidence,
            _install("Replace torch by the build of the Jetson index."),
        )
    ]


def _driver(exam: Examination) -> list[Finding]:
    """nvidia-smi comes with JetPack 6; its silence there means that the driver is not loaded."""
    major = _release_major(exam)
    if major is None or major < 36:
        return []
    smi = known(exam.facts.gpu).smi
    if isinstance(smi, Unknown):
        text = f"nvidia-smi does not know the GPU: {smi.reason}."
        return [Finding("engine-driver", Severity.INFO, text)]
    text = f"The GPU's driver answers: {smi.name}, compute capability {smi.compute_cap}."
    evidence = (Evidence("nvidia-smi", f"{smi.name}, {smi.compute_cap}"),)
    return [Finding("engine-driver", Severity.OK, text, evidence)]


def _release_major(exam: Examination) -> int | None:
    """36 in R36.4; None when it cannot be told, which box-release says."""
    release = known(exam.facts.identity).release
    return None if isinstance(release, Unknown) else release.major


def _f5(exam: Examination) -> PythonEnv | None:
    """The environment, where the engine is one that needs torch."""
    return known(exam.facts.python_env) if exam.settings.engine.kind == "f5" else None


def _install(text: str) -> Remedy:
    return mend("engine", text)


CHECKS = (
    Check(
        "engine-python",
        "engine",
        "The engine's interpreter is there and new enough",
        _python,
        blocks_install=True,
        limit_s=12.0,
    ),
    Check("engine-packages", "engine", "Every package the engine imports is there", _packages),
    Check("engine-torch", "engine", "torch is built for CUDA", _torch),
    Check("engine-torchaudio", "engine", "torchaudio goes with torch", _torchaudio),
    Check("engine-numpy", "engine", "numpy goes with JetPack's torch", _numpy, jetson=True),
    Check("engine-gpu", "engine", "A kernel runs on the GPU (thorough look)", _kernel),
    Check("engine-attention", "engine", "Attention is fused (thorough look)", _attention),
    Check("engine-driver", "engine", "The GPU's driver answers", _driver, jetson=True),
)
