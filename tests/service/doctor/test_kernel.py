"""The thorough look's own arithmetic, on the CPU: what it takes for a healthy GPU must be right.
Seen on a GPU: a sum of 262 144 ones in half precision is infinite, and doctor called that a fault.
On a GPU itself `tests/gpu/doctor_look.py` runs all of it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

from ishowtts_ops.facts import python_env


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_a_right_product_is_called_right_and_a_wrong_one_wrong() -> None:
    probe = python_env._PROBE
    found = re.search(r"one = (torch\.ones\(.*\))\n(?:\s*#.*\n)*\s*if (.*):\n", probe)
    assert found is not None, "the probe launches another kernel now: look at this test"
    ones, wrong = (text.replace('"cuda"', '"cpu"') for text in found.groups())
    script = f"import torch\none = {ones}\nprint({wrong})\none = one * 1.01\nprint({wrong})\n"
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
