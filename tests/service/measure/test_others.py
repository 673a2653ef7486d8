"""What other programs take of the processors, counted with a program that really takes one."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from ishowtts_ops.measure.others import OthersUse


def test_what_others_take_is_counted_and_what_we_take_is_not() -> None:
    """A real program that keeps a processor busy, first as somebody else's, then as the daemon."""
    code = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
    hog = subprocess.Popen([sys.executable, "-c", code])
    try:
        stranger, daemon = OthersUse(None), OthersUse(hog.pid)
        time.sleep(0.8)
        difference = stranger.share() - daemon.share()
    finally:
        hog.kill()
        hog.wait()
    assert 0 < difference <= 1.0 / os.cpu_count() + 0.1  # type: ignore[operator]
    assert difference > 0.05 / os.cpu_count()  # type: ignore[operator]
