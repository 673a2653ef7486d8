"""Work for the GPU where no daemon speaks: matrix products in half precision, as speech makes them,
by the engine's own interpreter. At the clocks and in the power mode that are set, so it takes no
more than speech at its busiest does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from ishowtts_ops.facts.asking import ask, failure
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

_MARK = "ishowtts-burn:"

_BURN = r"""
import json, sys, time
sys.path = [entry for entry in sys.path if entry]
seconds, device, left = json.loads(sys.argv[1])
born = time.monotonic()
import torch
if device == "cuda" and not torch.cuda.is_available():
    print("MARK" + json.dumps({"device": None, "seconds": 0.0, "tflop": 0.0}))
    sys.exit(0)
size, kind = (2048, torch.float16) if device == "cuda" else (256, torch.float32)
a = torch.randn(size, size, device=device, dtype=kind)
b = torch.randn(size, size, device=device, dtype=kind)
wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
(a @ b).sum().item()
began, count = time.monotonic(), 0
# Reading in torch took its part of the time; what is left of it is not exceeded.
end = min(began + seconds, born + left)
while time.monotonic() < end:
    for _ in range(10):
        c = a @ b
    wait()
    count += 10
took = time.monotonic() - began
name = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
told = {"device": name, "seconds": took, "tflop": count * 2 * size ** 3 / 1e12}
print("MARK" + json.dumps(told))
""".replace("MARK", _MARK)


class _Answer(BaseModel):
    device: str | None
    seconds: float
    tflop: float


@dataclass(frozen=True)
class Burnt:
    """What was computed.

    Attributes:
        tflop_per_s: half-precision matrix work per second.
    """

    device: str
    seconds: float
    tflop_per_s: float


def burn(
    host: Host, executable: str, seconds: float, limit_s: float, device: str = "cuda"
) -> Maybe[Burnt]:
    """Keep the GPU busy.

    Args:
        executable: the engine's interpreter, a box path.
        limit_s: for everything, the interpreter's start included.
    """
    if not host.exists(executable):
        return Unknown(f"there is no {executable}")
    request = json.dumps([seconds, device, limit_s - 1.0])
    argv = (executable, "-s", "-B", "-c", _BURN, request)
    result = ask(host, argv, limit_s)
    if isinstance(result, Unknown):
        return result
    if not result.ok:
        return failure(result, last=True)
    return parse_burn(executable, result.stdout)


def parse_burn(executable: str, text: str) -> Maybe[Burnt]:
    """The script's output; whatever stands before its own line is ignored."""
    lines = [line for line in text.splitlines() if line.startswith(_MARK)]
    try:
        told = _Answer.model_validate(json.loads(lines[-1].removeprefix(_MARK)))
    except (IndexError, ValueError, ValidationError, RecursionError):
        return Unknown(f"{executable} printed no answer")
    if told.device is None:
        return Unknown("torch finds no GPU")
    if not told.seconds > 0:
        return Unknown("there was no time left to compute anything")
    return Burnt(told.device, told.seconds, told.tflop / told.seconds)
