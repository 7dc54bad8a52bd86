"""What IPython has for people at a terminal or a notebook, where the only reader is the output of a cell."""

from __future__ import annotations

import pytest
from host import KernelSocket


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("len?", "Return the number of items in a container."),
        ("import textwrap\ntextwrap.dedent??", "def dedent(text"),
        ("%quickref", "IPython -- An enhanced Interactive Python"),
        ("open('paged.txt', 'w').write('a page')\n%less paged.txt", "a page"),
    ],
)
def test_what_goes_to_a_pager_is_shown(kernel: KernelSocket, cell: str, shown: str) -> None:
    assert shown in kernel.execute(cell).text


def test_what_would_become_the_next_input_is_shown(kernel: KernelSocket) -> None:
    kernel.execute("open('loaded.py', 'w').write('loaded = 1')")
    assert "loaded = 1" in kernel.execute("%load loaded.py").text


@pytest.mark.parametrize("leave", ["exit()", "quit(1)", "import sys; sys.exit(2)"])
def test_leaving_ends_the_cell_and_not_the_kernel(kernel: KernelSocket, leave: str) -> None:
    cell = kernel.execute(f"kept = 1\n{leave}\nprint('went on')")
    assert cell.status == "error"
    assert "SystemExit" in cell.text
    assert "went on" not in cell.text
    assert "To exit" not in cell.text
    assert kernel.execute("kept").text == "1"


def test_a_loop_that_a_cell_stops_goes_on(kernel: KernelSocket) -> None:
    kernel.execute("import asyncio\nkept = 2\nasyncio.get_running_loop().stop()")
    assert kernel.execute("await asyncio.sleep(0.01); kept").text == "2"
    assert kernel.execute("kept").text == "2"


def test_the_streams_that_python_started_with_are_shown(kernel: KernelSocket) -> None:
    cell = kernel.execute(
        "import sys\n"
        "print('1')\n"
        "print('2', end=' ', file=sys.__stdout__)\n"
        "print('3', file=sys.__stderr__)\n"
        "sys.stdout = None\n"
        "sys.stdout = sys.__stdout__\n"
        "print('4')"
    )
    assert cell.text == "1\n2 3\n4\n"


def test_a_cell_can_not_close_the_streams_of_the_next(kernel: KernelSocket) -> None:
    kernel.execute("import sys\nsys.stdout.close()\nsys.stderr.close()")
    assert kernel.execute("print('open')\nprint('too', file=sys.stderr)").text == "open\ntoo\n"
