"""Counts kernels, bytes and FLOPs of a piece of work by watching every operator it runs.

Bytes are what the operators read and write, each operand once: what a chip without a large cache
must move. They are counted, not measured. Views move nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ACTIVE: list[Tally] = []


@dataclass
class Tally:
    """`launches` operators (at least one kernel each), `moved` bytes, `flops` of products."""

    launches: int = 0
    moved: int = 0
    flops: int = 0
    names: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, moved: int, flops: int = 0) -> None:
        self.launches += 1
        self.moved += moved
        self.flops += flops
        self.names[name] += 1


def size(tensor: Tensor) -> int:
    """Bytes of the tensor's elements; a broadcast dimension is read once."""
    count = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if stride:
            count *= length
    return count * tensor.element_size()


def fused(
    name: str,
    tensors: Sequence[Tensor | None],
    twice: Sequence[int],
    work: tuple[int, int] | None = None,
) -> None:
    """Called by our own kernels, which torch's dispatcher does not see.

    `twice`: which tensors are both read and written. `work`: bytes and operations as the caller
    counts them, instead of the tensors' sizes.
    """
    for tally in _ACTIVE:
        moved, flops = work or (0, 0)
        if work is None:
            moved = sum(
                size(t) * (2 if i in twice else 1) for i, t in enumerate(tensors) if t is not None
            )
        tally.add(name, moved, flops)


def counting() -> bool:
    return bool(_ACTIVE)


# Operators that only make a view, or memory that nobody has written yet.
_FREE = frozenset(
    ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias",
     "view", "_unsafe_view", "reshape", "as_strided", "t", "transpose", "permute", "expand",
     "slice", "select", "unsqueeze", "squeeze", "unbind", "split", "split_with_sizes", "chunk",
     "_reshape_alias", "unfold", "lift_fresh", "movedim", "view_as_real", "view_as_complex")
)  # fmt: skip


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call,unused-ignore]
    def __init__(self, tally: Tally) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self._tally = tally

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _FREE:
            return result
        tensors = [*_tensors(args), *_tensors(kwargs or {}), *_tensors(result)]
        if name in ("copy_", "fill_", "zero_"):
            tensors = tensors[:-1]
        self._tally.add(name, sum(size(tensor) for tensor in tensors), _flops(name, args, result))
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _flops(name: str, args: Sequence[Any], result: Any) -> int:
    if name in ("mm", "addmm", "addmm_", "_addmm_activation", "bmm", "linear"):
        # The last two: what they are added to may be a matrix too.
        matrices = [arg for arg in args if isinstance(arg, Tensor) and arg.dim() >= 2][-2:]
        return 2 * int(result.numel()) * int(matrices[0].shape[-1])
    if name == "convolution":
        weight = args[1]
        return 2 * int(result.numel()) * int(weight.shape[1] * weight.shape[2])
    if "attention" in name:
        q, k = args[0], args[1]
        if q.dim() == 4:
            return 4 * int(q.numel()) * int(k.shape[2] if "scaled" in name else k.shape[1])
        return 4 * int(q.numel()) * int(args[6])
    return 0


@contextmanager
def watching() -> Iterator[Tally]:
    """Everything run inside is counted."""
    tally = Tally()
    _ACTIVE.append(tally)
    try:
        with _Watch(tally):
            yield tally
    finally:
        _ACTIVE.remove(tally)


def kernels(work: Callable[[], None]) -> tuple[int, float]:
    """Kernels and copies that the device really ran for `work`, and their summed microseconds."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    events = [e for e in profiler.events() if str(e.device_type).endswith("CUDA")]
    return len(events), float(sum(e.device_time for e in events))
