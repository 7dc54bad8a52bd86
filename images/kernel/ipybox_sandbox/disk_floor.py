"""How much of the host's disk a task must leave free. Standard library only."""

from __future__ import annotations

import os

FLOOR_BYTES = 10**9
FLOOR_SHARE = 0.02
"""As for cells, whose disk the host watches itself: src/workspace/disk-space.ts."""
TOLERATED_BYTES = 16 * 10**6
"""What others write in the meantime."""


class DiskFloor:
    """Tells when too little is free on the disk that holds `path` and it became less since this object was made."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._free_before = self._look()[0]

    def is_crossed(self) -> bool:
        """False too where there is no such path."""
        free, total = self._look()
        return free < max(FLOOR_BYTES, total * FLOOR_SHARE) and free < self._free_before - TOLERATED_BYTES

    def _look(self) -> tuple[int, int]:
        try:
            status = os.statvfs(self._path)
        except OSError:
            return 2**63, 0
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
