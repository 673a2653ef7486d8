"""Buffers of one bucket, and the CUDA graphs captured over them.

A bucket is a number of frames, rounded up; a plan serves every request of its bucket, because
lengths, text, reference, noise, guidance and the step's modulation are all read from its buffers.
Each graph is one step, so a caller who leaves costs at most the steps already launched.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from f5_tts.fast import attention, embed, vocoder
from f5_tts.fast.modulation import Tables, row_bytes, split
from f5_tts.fast.ops import TorchOps
from f5_tts.fast.step import Network, StepInputs, step, velocity
from f5_tts.fast.weights import Weights
from torch import Tensor


@dataclass(frozen=True)
class Job:
    """One piece of speech to make, with everything already a number.

    `tokens`: vocabulary indices of reference and new text. `mel`: (reference mel frames, mel) on
    the device. `reference_frames`: whole hops of reference audio. `frames`: in all. `noise`:
    (frames, mel). `guidance`: strength of classifier-free guidance.
    """

    tokens: Sequence[int]
    mel: Tensor
    reference_frames: int
    frames: int
    noise: Tensor
    guidance: float

    @property
    def generated(self) -> int:
        return self.frames - self.reference_frames


@dataclass(frozen=True)
class Machine:
    """How steps are computed here: weights and the chosen implementations."""

    weights: Weights
    ops: TorchOps
    attend: attention.Attend
    attend_name: str
    fused_qkv: bool
    graphs: bool
    network: Network = velocity

    def folds_norms(self, tokens: int = 0) -> bool:
        """Whether steps over so many tokens want the folded norms among their modulation."""
        return tokens <= self.ops.folds_norms_to and self.fused_qkv


class Recorded:
    """A function without arguments that works in place: captured once, then replayed."""

    def __init__(self, work: Callable[[], None], pool: Any) -> None:
        self._work = work
        self._graph: torch.cuda.CUDAGraph | None = None
        if pool is None:
            return
        # Twice outside the capture: libraries pick kernels and allocate workspace on first use.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call,unused-ignore]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
            work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # A collection in mid-capture could free another plan's graph, which breaks this capture.
        collecting = gc.isenabled()
        gc.disable()
        try:
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                work()
        finally:
            if collecting:
                gc.enable()
        self._graph = graph

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def __call__(self) -> None:
        if self._graph is None:
            self._work()
        else:
            self._graph.replay()


class _Inbox:
    """What a step reads of its jobs beside tensors: one piece of memory, which one copy fills.

    `tokens` (items, frames) int64, each one more than the vocabulary's; `lengths` (items,) int64;
    `guidance` (items, 1, 1) fp32.
    """

    def __init__(self, items: int, frames: int, device: torch.device) -> None:
        at, size = items * frames, items * frames + items + -(-items // 2)
        self._there = torch.zeros(size, dtype=torch.int64, device=device)
        self.tokens = self._there[:at].view(items, frames)
        self.lengths = self._there[at : at + items].fill_(frames)
        self.guidance = self._there[at + items :].view(torch.float32)[:items].view(items, 1, 1)
        self._sent: torch.cuda.Event | None = None
        # Page-locked, and so as large as it must be: a few kilobytes for each second of speech.
        self._here = torch.zeros(size, dtype=torch.int64, pin_memory=self._there.is_cuda)
        self._written = self._here.numpy()

    def put(self, jobs: Sequence[Job]) -> None:
        """Fill it for these jobs, as many as there are items."""
        items, frames = self.tokens.shape
        if self._sent is not None:
            # What was written for a request before may still be on its way.
            self._sent.synchronize()
        tokens = self._written[: items * frames].reshape(items, frames)
        tokens.fill(0)
        for row, job in zip(tokens, jobs, strict=True):
            text = np.asarray(job.tokens[:frames], dtype=np.int64)
            row[: text.size] = text + 1
        at = items * frames
        self._written[at : at + items] = [job.frames for job in jobs]
        strengths = self._written[at + items :].view(np.float32)
        strengths[:items] = [job.guidance for job in jobs]
        self._there.copy_(self._here, non_blocking=True)
        if self._there.is_cuda:
            self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call,unused-ignore]
            self._sent.record()


class StepPlan:
    """Everything up to the finished mel, for `items` requests of at most `frames` frames."""

    def __init__(
        self,
        machine: Machine,
        frames: int,
        items: int,
        guided: bool,
        rotary: Tensor,
        positions: Tensor,
        pool: Any,
    ) -> None:
        weights, arch = machine.weights, machine.weights.arch
        device, dtype = weights.device, weights.dtype
        rows = 2 * items if guided else items
        self.frames, self.items, self.guided = frames, items, guided
        self._machine = machine
        self._positions = positions[:frames]
        self._inbox = _Inbox(items, frames, device)
        self._cond = torch.zeros(items, frames, arch.mel_dim, dtype=dtype, device=device)
        size = row_bytes(arch, dtype, folded=machine.folds_norms(rows * frames))
        self._modulation = torch.zeros(size, dtype=torch.uint8, device=device)
        self.inputs = StepInputs(
            y=torch.zeros(items, frames, arch.mel_dim, dtype=torch.float32, device=device),
            constant=torch.zeros(rows, frames, arch.dim, dtype=dtype, device=device),
            lengths=attention.make_lengths(rows, frames, device),
            rotary=rotary[:, :frames].contiguous(),
            modulation=split(self._modulation, arch, dtype),
            guidance=self._inbox.guidance if guided else None,
        )
        # Frames of `_cond` that may hold a reference.
        self._held = [0] * items
        self._prepare = Recorded(self._run_prepare, pool)
        self._step = Recorded(self._run_step, pool)

    @property
    def captured(self) -> bool:
        return self._step.captured

    def _run_prepare(self) -> None:
        tokens, lengths = self._inbox.tokens, self._inbox.lengths
        text = self._machine.ops.text(tokens, lengths, self._positions)
        both = embed.constant_input(self._machine.weights, text, self._cond)
        self.inputs.constant.copy_(both[: self.inputs.constant.shape[0]])
        rows = self.inputs.lengths.valid
        rows.copy_(lengths.repeat(rows.shape[0] // self.items))
        attention.update_lengths(self.inputs.lengths, self.frames)

    def _run_step(self) -> None:
        m = self._machine
        step(m.weights, m.ops, m.attend, self.inputs, fused_qkv=m.fused_qkv, network=m.network)

    def load(self, jobs: Sequence[Job]) -> None:
        """Fill the buffers for these jobs and encode their text. Missing items stay idle copies."""
        jobs = [jobs[min(index, len(jobs) - 1)] for index in range(self.items)]
        self._inbox.put(jobs)
        for index, job in enumerate(jobs):
            held, self._held[index] = self._held[index], job.mel.shape[0]
            self._cond[index, : job.mel.shape[0]] = job.mel
            if held > job.mel.shape[0]:
                self._cond[index, job.mel.shape[0] : held].zero_()
            self.inputs.y[index, : job.frames] = job.noise
        self._prepare()

    def step(self, tables: Tables, index: int) -> None:
        """One Euler step of the loaded jobs."""
        # The folded norms come last: a plan without them takes the rest.
        row = tables.rows[index, : self._modulation.shape[0]]
        self._machine.ops.take_row(row, self._modulation)
        self._step()

    def result(self, index: int, job: Job) -> Tensor:
        """(generated frames, mel) fp32: frames the reference reaches into are the reference's."""
        out = self.inputs.y[index, job.reference_frames : job.frames].clone()
        kept = job.mel.shape[0] - job.reference_frames
        if kept > 0:
            out[:kept] = job.mel[job.reference_frames :]
        return out


class VocoderPlan:
    """Vocos over `items` mels of at most `frames` frames."""

    def __init__(
        self,
        weights: vocoder.VocosWeights,
        frames: int,
        items: int,
        mel: int,
        pool: Any,
        *,
        tf32: bool = False,
        blocks: vocoder.Blocks | None = None,
        inverse: vocoder.Inverse | None = None,
    ) -> None:
        device = weights.window.device
        self._weights = weights
        self._tf32, self._blocks, self._inverse = tf32, blocks, inverse
        self._mel = torch.zeros(items, frames, mel, device=device)
        self._lengths = torch.full((items,), frames, dtype=torch.int64, device=device)
        self._wave = torch.zeros(items, vocoder.samples_for(weights, frames), device=device)
        self._decode = Recorded(self._run, pool)

    @property
    def captured(self) -> bool:
        return self._decode.captured

    def _run(self) -> None:
        with vocoder.fp32_products(tf32=self._tf32):
            vocoder.decode(
                self._weights, self._mel, self._lengths, self._blocks, self._inverse, self._wave
            )

    def __call__(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """Waveforms (samples,) of mels (frames, mel), still on the device."""
        for index, mel in enumerate(mels):
            self._mel[index, : mel.shape[0]] = mel
            # Not by assignment, which has the host wait for every step before.
            self._lengths[index].fill_(mel.shape[0])
        self._decode()
        return [
            self._wave[index, : vocoder.samples_for(self._weights, mel.shape[0])]
            for index, mel in enumerate(mels)
        ]
