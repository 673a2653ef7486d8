"""Runs jobs: picks buckets and plans, steps them, decodes. One caller at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from f5_tts.fast import attention, vocoder
from f5_tts.fast.audio import Wave
from f5_tts.fast.embed import text_positions
from f5_tts.fast.modulation import Tables, evaluate
from f5_tts.fast.ops import TorchOps, first_line, rotary_table
from f5_tts.fast.outbox import Outbox
from f5_tts.fast.plan import Job, Machine, StepPlan, VocoderPlan
from f5_tts.fast.reference import LruCache
from f5_tts.fast.schedule import Schedule, build
from f5_tts.fast.step import velocity
from f5_tts.fast.switches import Switches
from f5_tts.fast.weights import Modulation, Weights
from torch import Tensor

CUDA_BUCKET = 64
SHORT_FRAMES = 640
MAX_FRAMES = 8192
MAX_BATCH = 16
log = logging.getLogger(__name__)
Part = TypeVar("Part")

# Below this strength upstream computes no unconditioned half.
NO_GUIDANCE = 1e-5


class Cancelled(Exception):
    """The caller left; the remaining steps were not run."""


def never() -> bool:
    return False


def silent() -> None:
    return None


@dataclass(frozen=True)
class Rendered:
    """A finished job: mel (generated frames, mel) fp32 on the device, samples on the host."""

    mel: Tensor
    wave: Wave


class Engine:
    """Folded weights, chosen kernels, and the plans made so far."""

    def __init__(
        self,
        weights: Weights,
        vocos: vocoder.VocosWeights | None,
        switches: Switches,
        *,
        bucket: int | None = None,
        max_plans: int = 96,
        cache_dir: Path | None = None,
    ) -> None:
        if not switches.schedule:
            weights = _with_modulation_on_device(weights)
        self.weights, self.vocos, self.switches = weights, vocos, switches
        arch, cuda = weights.arch, weights.device.type == "cuda"
        ops = _choose_ops(weights, switches, cache_dir)
        name, attend = attention.choose(
            arch.heads,
            arch.dim_head,
            weights.device,
            weights.dtype,
            varlen=switches.varlen,
            own=ops.attention() if switches.attention else None,
        )
        self.machine = Machine(
            weights=weights,
            ops=ops,
            attend=attend,
            attend_name=name,
            fused_qkv=switches.fused_qkv,
            graphs=switches.graphs and cuda,
        )
        self._vocos_blocks, self._vocos_inverse = _choose_vocoder(vocos, switches, ops, cache_dir)
        self._outbox = Outbox()
        self._compiling: Machine | None = None
        self.bucket = bucket if bucket is not None else (CUDA_BUCKET if cuda else 1)
        self._pool = torch.cuda.graph_pool_handle() if self.machine.graphs else None
        self._lock = threading.RLock()
        self._tables: LruCache[Tables] = LruCache(16)
        self._step_plans: LruCache[StepPlan] = LruCache(max_plans)
        self._vocoder_plans: LruCache[VocoderPlan] = LruCache(max_plans)
        self._rotary = self.machine.ops.rotary_form(
            rotary_table(arch.dim_head, MAX_FRAMES, weights.device)
        )
        self._positions = text_positions(arch.text_dim, MAX_FRAMES, weights.device).to(
            weights.dtype
        )
        self.steps_run = 0
        self.captures = 0

    def tables(self, schedule: Schedule) -> Tables:
        """The modulation of this schedule, from memory if it was used before."""
        if not self.switches.schedule:
            return self._evaluated(schedule)
        return self._tables.get_or_make(schedule, lambda: self._evaluated(schedule))

    def _evaluated(self, schedule: Schedule) -> Tables:
        # One at a time, and in full fp32: TF32 is a setting of the process, which the vocoder of
        # another request may have turned on for a moment, and tables are kept.
        with self._lock, vocoder.fp32_products(tf32=False):
            return evaluate(self.weights, schedule, folded=self.machine.folds_norms())

    def rounded(self, frames: int) -> int:
        """The bucket `frames` falls into. ValueError where no bucket is that large."""
        if frames > MAX_FRAMES:
            seconds = MAX_FRAMES / 93.75
            raise ValueError(f"{frames} frames are more than {seconds:.0f} s; split the text")
        # Half as wide for short requests, where 63 frames of padding would be a tenth of the work.
        bucket = self.bucket // 2 if self.bucket > 1 and frames <= SHORT_FRAMES else self.bucket
        return -(-frames // bucket) * bucket

    @torch.inference_mode()
    def step_plan(self, frames: int, items: int, guided: bool) -> StepPlan:
        """The plan of this bucket; on CUDA it is captured when first asked for."""

        def make() -> StepPlan:
            self.captures += 1
            return StepPlan(
                self.machine, frames, items, guided, self._rotary, self._positions, self._pool
            )

        # Exact lengths (no buckets) would fill the cache with plans that are never met again.
        if self.bucket == 1 and self._pool is None:
            return make()
        return self._step_plans.get_or_make((frames, items, guided), make)

    @torch.inference_mode()
    def compile_plan(self, frames: int, items: int = 1, guided: bool = True) -> None:
        """Let the compiler make this bucket's plan anew, where the switch `compile` asks for it.

        It takes some twenty seconds a bucket, in which requests wait: for a quiet moment. Until
        then, and where this is never called, a bucket is served as without the switch.
        """
        if not self.switches.compile:
            return
        with self._lock:
            if self._compiling is None:
                self._compiling = self._for_compiler()
            frames = self.rounded(frames)
            self.captures += 1
            plan = StepPlan(
                self._compiling, frames, items, guided, self._rotary, self._positions, self._pool
            )
            self._step_plans.put((frames, items, guided), plan)

    def _for_compiler(self) -> Machine:
        """Plain torch, which it fuses: our own kernels would be opaque to it."""
        weights, arch = self.weights, self.weights.arch
        name, attend = attention.choose(
            arch.heads, arch.dim_head, weights.device, weights.dtype, varlen=self.switches.varlen
        )
        return replace(
            self.machine,
            ops=TorchOps(weights, gelu_epilogue=self.switches.gelu_epilogue),
            attend=attend,
            attend_name=name,
            network=torch.compile(velocity, dynamic=False),
        )

    @torch.inference_mode()
    def vocoder_plan(self, frames: int, items: int) -> VocoderPlan:
        """The vocoder's plan for this bucket."""
        if self.vocos is None:
            raise ValueError("this engine was built without a vocoder")
        vocos, mel = self.vocos, self.weights.arch.mel_dim

        def make() -> VocoderPlan:
            self.captures += 1
            return VocoderPlan(
                vocos, frames, items, mel, self._pool,
                tf32=self.switches.vocoder_tf32, blocks=self._vocos_blocks,
                inverse=self._vocos_inverse,
            )  # fmt: skip

        if self.bucket == 1 and self._pool is None:
            return make()
        return self._vocoder_plans.get_or_make((frames, items), make)

    @torch.inference_mode()
    def mels(
        self,
        jobs: Sequence[Job],
        tables: Tables,
        *,
        cancelled: Callable[[], bool] = never,
        progress: Callable[[], None] = silent,
    ) -> list[Tensor]:
        """Finished mels of jobs that share a schedule. Raises Cancelled between steps."""
        if not 1 <= len(jobs) <= MAX_BATCH:
            raise ValueError(f"a batch holds 1 to {MAX_BATCH} jobs, not {len(jobs)}")
        guided = {job.guidance >= NO_GUIDANCE for job in jobs}
        if len(guided) != 1:
            raise ValueError("jobs with and without guidance cannot share a batch")
        with self._lock:
            frames = self.rounded(max(job.frames for job in jobs))
            plan = self.step_plan(frames, _batch_size(len(jobs)), guided.pop())
            plan.load(jobs)
            pace = _Pace(self.weights.device)
            for index in range(tables.schedule.steps):
                if cancelled():
                    raise Cancelled
                if not self.switches.schedule:
                    tables = self._evaluated(tables.schedule)
                plan.step(tables, index)
                self.steps_run += 1
                pace.wait()
                progress()
            return [plan.result(index, job) for index, job in enumerate(jobs)]

    @torch.inference_mode()
    def waves(self, mels: Sequence[Tensor]) -> list[Wave]:
        """Samples of finished mels, on the host."""
        with self._lock:
            if not self.switches.istft and self.vocos is not None:
                decoded = [vocoder.decode_with_torch(self.vocos, mel) for mel in mels]
            else:
                frames = self.rounded(max(mel.shape[0] for mel in mels))
                decoded = self.vocoder_plan(frames, _batch_size(len(mels)))(mels)
            return self._outbox(decoded)

    def render(
        self,
        jobs: Sequence[Job],
        tables: Tables,
        *,
        cancelled: Callable[[], bool] = never,
        progress: Callable[[], None] = silent,
    ) -> list[Rendered]:
        """`mels`, then `waves`."""
        with self._lock:
            mels = self.mels(jobs, tables, cancelled=cancelled, progress=progress)
            if cancelled():
                raise Cancelled
            waves = self.waves(mels)
        return [Rendered(mel, wave) for mel, wave in zip(mels, waves, strict=True)]

    def schedule(self, nfe: int, sway: float | None) -> Schedule:
        return build(nfe, sway)

    def stats(self) -> dict[str, float | int]:
        """Counters since the start."""
        stats: dict[str, float | int] = {
            "steps": self.steps_run,
            "plans": len(self._step_plans) + len(self._vocoder_plans),
            "captures": self.captures,
            "graphs": int(self.machine.graphs),
            "fused_kernels": int(self.machine.ops.fused),
        }
        if self.weights.device.type == "cuda":
            stats["device_bytes"] = torch.cuda.memory_allocated(self.weights.device)
            stats["device_bytes_peak"] = torch.cuda.max_memory_allocated(self.weights.device)
        return stats


class _Pace:
    """Keeps the host one step ahead of the device, so that cancelling saves the steps behind."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._pending: torch.cuda.Event | None = None

    def wait(self) -> None:
        if not self._cuda:
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call,unused-ignore]
        event.record()
        if self._pending is not None:
            self._pending.synchronize()
        self._pending = event


def _with_modulation_on_device(weights: Weights) -> Weights:
    """As upstream has it: evaluated in every step, so that host memory must not be read for it."""
    device = weights.device

    def move(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(tensor.to(device) for tensor in value)
        return value.to(device)

    part = weights.modulation
    moved = {field.name: move(getattr(part, field.name)) for field in fields(part)}
    return replace(weights, modulation=Modulation(**moved))


def _batch_size(count: int) -> int:
    """1, 2, 4, 8, 16: few sizes, so that plans are met again."""
    size = 1
    while size < count:
        size *= 2
    return size


def _choose_ops(weights: Weights, switches: Switches, cache_dir: Path | None) -> TorchOps:
    if switches.kernels and weights.device.type == "cuda" and weights.dtype == torch.float16:
        from f5_tts.fast.kernels import FusedOps, KernelsUnavailable

        try:
            return FusedOps(
                weights,
                gelu_epilogue=switches.gelu_epilogue,
                conv=switches.conv,
                gemm=switches.gemm,
                norms=switches.norms,
                pdl=switches.pdl,
                text_kernels=switches.text_kernels,
                cache_dir=cache_dir,
            )
        except KernelsUnavailable as error:
            # No NVRTC in this build, or a GPU it does not know: plain torch does the same.
            log.warning("plain torch computes every step, which costs time: %s", first_line(error))
    return TorchOps(weights, gelu_epilogue=switches.gelu_epilogue)


def _choose_vocoder(
    vocos: vocoder.VocosWeights | None, switches: Switches, ops: TorchOps, cache_dir: Path | None
) -> tuple[vocoder.Blocks | None, vocoder.Inverse | None]:
    """Our kernels for the vocoder's blocks and for its inverse STFT, where they are wanted and
    work, each by itself."""
    wanted = switches.kernels and switches.text_kernels
    if vocos is None or not wanted or vocos.window.device.type != "cuda":
        return None, None
    from f5_tts.fast import trial
    from f5_tts.fast.convnext import vocos_blocks
    from f5_tts.fast.istft import inverse_stft

    def blocks(w: vocoder.VocosWeights) -> tuple[vocoder.Blocks, bool]:
        tanh = switches.vocoder_tf32 and switches.gelu_epilogue
        made = vocos_blocks(w, cache_dir, tanh=tanh)
        with vocoder.fp32_products(tf32=switches.vocoder_tf32):
            return made, trial.vocos(made, w)

    def inverse(w: vocoder.VocosWeights) -> tuple[vocoder.Inverse, bool]:
        made = inverse_stft(w, cache_dir)
        return made, trial.inverse(made, w)

    chosen = (
        _where_right(blocks, vocos, "vocoder", ops),
        _where_right(inverse, vocos, "inverse STFT", ops),
    )
    # What the trials held belongs to the requests now.
    torch.cuda.empty_cache()
    return chosen


def _where_right(
    make: Callable[[vocoder.VocosWeights], tuple[Part, bool]],
    vocos: vocoder.VocosWeights,
    what: str,
    ops: TorchOps,
) -> Part | None:
    """What `make` makes, if it can and says that it is right; else one line in the log."""
    try:
        made, right = make(vocos)
        if right:
            return made
        why = "it computes wrongly here"
    except RuntimeError as error:
        # No NVRTC or driver for them, or a library that has no such product.
        why = str(error)
    ops.miss(what, why, called=f"kernels of the {what}")
    return None
