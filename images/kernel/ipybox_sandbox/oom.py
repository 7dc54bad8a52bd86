"""How often Linux has killed a process of this container for want of memory. Standard library only."""

from __future__ import annotations

_COUNTERS = (
    "/sys/fs/cgroup/memory.events",  # cgroup v2
    "/sys/fs/cgroup/memory/memory.oom_control",  # cgroup v1
)


def oom_kills() -> int:
    """The number so far; 0 where it can't be known."""
    for path in _COUNTERS:
        try:
            with open(path) as file:
                for line in file:
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        except (OSError, ValueError):
            pass
    return 0
