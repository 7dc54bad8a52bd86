"""Processes that a cell forks: they end with the cell's code, and are never a second kernel."""

from __future__ import annotations

import pytest
from host import KernelSocket

FORK = "import os, sys\nchild = os.fork()\nif child: print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"


@pytest.mark.parametrize(
    ("in_child", "printed", "status"),
    [
        ("print('child')", "child\n", 0),
        ("sys.exit(3)", "", 3),
        ("sys.exit()", "", 0),
        ("sys.exit('why')", "why\n", 1),
        ("1 / 0", "ZeroDivisionError: division by zero", 1),
    ],
)
def test_a_child_ends_as_a_program_would(kernel: KernelSocket, in_child: str, printed: str, status: int) -> None:
    cell = kernel.execute(f"{FORK}else:\n    {in_child}")
    assert cell.text.endswith(f"{status}\n")
    assert printed in cell.text
    assert "attempted to send" not in cell.text
    assert cell.status == "ok"


def test_children_that_nobody_waits_for_take_no_request(kernel: KernelSocket) -> None:
    for number in range(5):
        kernel.execute("import os\nif os.fork() == 0:\n    mine = 1")
        assert kernel.execute(f"{number}, 'mine' in globals()").text == f"({number}, False)"
