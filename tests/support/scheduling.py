"""Which process gets which tests when `pytest -n` starts several (pytest-xdist)."""

from __future__ import annotations

from xdist.scheduler.loadscope import LoadScopeScheduling  # type: ignore[import-untyped]

BOXES = "tests/box/"
LONG_FIRST = (BOXES, "tests/whole/", "tests/embedding/", "tests/series/", "tests/scenario/")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Whole files, as their fixtures are costly; and all of the containers in one process.

    Containers share this machine's network with each other, and with it the daemon's own port.
    What takes longest is begun first, so that the processes come to an end at about the same time.
    """

    def _split_scope(self, nodeid: str) -> str:
        return BOXES if nodeid.startswith(BOXES) else nodeid.split("::", 1)[0]

    def _assign_work_unit(self, node: object) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=self._rank), last=False)
        super()._assign_work_unit(node)

    def _rank(self, file: str) -> tuple[int, int]:
        folder = next((n for n, start in enumerate(LONG_FIRST) if file.startswith(start)), 99)
        return folder, -len(self.workqueue[file])
