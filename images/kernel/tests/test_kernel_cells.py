"""What a cell sees and what comes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Sandbox
from host import KernelSocket


@pytest.fixture(scope="module")
def kernel(sandbox: Sandbox) -> Iterator[KernelSocket]:
    socket = sandbox.host.connect(sandbox.host.start_kernel(env={"X": "v"}))
    yield socket
    socket.close()


def test_the_last_expression_is_the_result_and_state_is_kept(kernel: KernelSocket) -> None:
    assert kernel.execute("a = 2; a + 2").outputs == [("execute_result", "4")]
    assert kernel.execute("_ * a").text == "8"


def test_the_environment_holds_the_base_and_what_was_ordered(kernel: KernelSocket) -> None:
    names = kernel.execute("import os; print(*sorted(os.environ))").text.split()
    assert names == sorted(["PATH", "HOME", "USER", "LANG", "X", "IPYBOX_TOOLS"])  # the last without a container alone
    assert kernel.execute("os.environ['X']").text == "'v'"


def test_programs_find_no_terminal_to_colour_page_or_ask_at(kernel: KernelSocket) -> None:
    kernel.execute("open('tty.py', 'w').write('import os; print(*map(os.isatty, range(3)))')")
    for cell in ("!python3 tty.py", "%%bash\npython3 tty.py", "import os\nos.system('python3 tty.py');"):
        assert kernel.execute(cell).text == "False False False\n", cell


def test_an_interrupt_of_what_prepares_for_a_cell_ends_the_cell(kernel: KernelSocket) -> None:
    kernel.execute(
        "import signal\n"
        "def prepare(*_):\n"
        "    get_ipython().events.unregister('pre_run_cell', prepare)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "get_ipython().events.register('pre_run_cell', prepare)"
    )
    interrupted = kernel.execute("print(5 * 'ran')")
    assert interrupted.status == "error"
    assert "KeyboardInterrupt" in interrupted.text
    assert "ranran" not in interrupted.text


def test_output_keeps_the_order_in_which_it_was_written_whoever_wrote_it(kernel: KernelSocket) -> None:
    cell = kernel.execute(
        "import os, sys, subprocess\n"
        "print('1')\n"
        "print('2', file=sys.stderr)\n"
        "os.system('echo 3')\n"
        "subprocess.run(['sh', '-c', 'echo 4 >&2'])\n"
        "display(5)\n"
        "os.write(1, b'6\\n')\n"
        "print('7', end='')\n"
        "8"
    )
    assert cell.text.split() == ["1", "2", "3", "4", "56", "78"]
    assert "".join(text for name, text in cell.outputs if name == "stderr") == "2\n4\n"


def test_no_line_is_lost_and_flushed_lines_share_messages(kernel: KernelSocket) -> None:
    cell = kernel.execute("for i in range(20_000): print(i, flush=True)")
    assert cell.text == "".join(f"{i}\n" for i in range(20_000))
    assert cell.messages < 5_000


def test_inputs_and_sources_of_old_cells_are_forgotten(kernel: KernelSocket) -> None:
    kernel.execute("import linecache, ipybox_sandbox.kernel_app as app; app.KEPT_CELLS = 20")
    kernel.execute("def old(): return 1 / 0")
    kept = "len([n for n in globals() if n.startswith('_i')]), len([t for t in In if t])"
    for number in range(30):
        kernel.execute(f"{number}")
    assert "1 / 0" not in kernel.execute("old()").text
    names, inputs = eval(kernel.execute(kept).text)
    assert names < 30 and inputs < 25
    kernel.execute("def new(): return 1 / 0")
    assert "1 / 0" in kernel.execute("new()").text
    kernel.execute("app.KEPT_CELLS = 10_000")


def test_nothing_of_what_was_shown_is_kept(kernel: KernelSocket) -> None:
    kernel.execute("import resource\nprint('x' * 100)")
    kernel.execute("1 / 0")
    kept = "h = get_ipython().history_manager; len(h.outputs), len(h.exceptions)"
    assert kernel.execute(kept).text == "(0, 0)"
    peak = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    before = int(kernel.execute(peak).text)
    kernel.execute("for i in range(200): print(str(i) * 200_000)")
    assert int(kernel.execute(peak).text) - before < 20_000


def test_half_a_surrogate_pair_is_printed_as_its_escape(kernel: KernelSocket) -> None:
    assert kernel.execute("print('a\\ud800b')").text == "a\\ud800b\n"
    in_child = "import os\nif os.fork() == 0:\n    print('a\\ud800b')\n    os._exit(0)\nos.wait()[1]"
    assert kernel.execute(in_child).text == "a\\ud800b\n0"
    assert kernel.execute("raise ValueError('\\ud800')").text.endswith("ValueError: \ud800")


def test_a_long_line_arrives_whole(kernel: KernelSocket) -> None:
    assert kernel.execute("print('ä' * 5_000_000)").text == "ä" * 5_000_000 + "\n"


def test_lines_of_forked_processes_arrive_whole(kernel: KernelSocket) -> None:
    cell = kernel.execute(
        "import multiprocessing\n"
        "def work(i): print('line', i)\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: pool.map(work, range(20))\n"
    )
    assert sorted(cell.text.splitlines()) == sorted(f"line {i}" for i in range(20))


def test_a_traceback_shows_the_cell_as_it_was_written_without_colours(kernel: KernelSocket) -> None:
    cell = kernel.execute("print('before')\n!true\n1/0")
    assert cell.status == "error"
    assert cell.text.startswith("before\n")
    assert f"Cell In[{cell.count}], line 3" in cell.text
    assert "      2 !true\n----> 3 1/0" in cell.text
    assert "\x1b" not in cell.text


def test_shell_commands_and_cell_magics_work(kernel: KernelSocket) -> None:
    assert kernel.execute("name = 'x'\n!echo $name; exit 3").text == "x\n"
    assert kernel.execute("_exit_code").text == "3"
    assert kernel.execute("%%bash\necho in bash").text == "in bash\n"


def test_input_raises_at_once(kernel: KernelSocket) -> None:
    assert "StdinNotImplementedError" in kernel.execute("input()").text


def test_requests_wait_for_a_busy_kernel_whatever_their_length(kernel: KernelSocket) -> None:
    first = kernel.send("import time; time.sleep(0.2)")
    long = kernel.send("text = '" + "ä" * 1_000_000 + "'; len(text)")
    last = kernel.send("len(text) + 1")
    assert [kernel.collect(each).text for each in (first, long, last)] == ["", "1000000", "1000001"]


def test_top_level_await_works(kernel: KernelSocket) -> None:
    assert kernel.execute("import asyncio\nawait asyncio.sleep(0)\n'awaited'").text == "'awaited'"


def test_a_plot_is_shown_without_a_magic(kernel: KernelSocket) -> None:
    cell = kernel.execute("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert "image/png" in cell.mime_types
    assert kernel.execute("import os; 'MPLBACKEND' in os.environ").text == "False"


@pytest.mark.parametrize(
    ("env", "lines", "shown"),
    [
        ({}, "open('matplotlibrc', 'w').write('backend: agg\\nfigure.dpi: 70')", True),
        ({"MPLBACKEND": "agg"}, "", False),
        ({}, "import matplotlib\nmatplotlib.use('agg')", False),
    ],
)
def test_a_plot_is_shown_whatever_a_matplotlibrc_says_but_where_another_backend_is_asked_for(
    sandbox: Sandbox, env: dict[str, str], lines: str, shown: bool
) -> None:
    with closing(sandbox.host.connect(sandbox.host.start_kernel(env=env))) as other:
        cell = other.execute(f"{lines}\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    (sandbox.workspace / "matplotlibrc").unlink(missing_ok=True)
    assert ("image/png" in cell.mime_types) is shown


def test_modules_of_the_workspace_import_from_any_directory_as_soon_as_they_are_written(
    sandbox: Sandbox, kernel: KernelSocket
) -> None:
    kernel.execute("%cd /tmp")
    assert "ModuleNotFoundError" in kernel.execute("import mcptools.late").text
    _write(sandbox.workspace / "mcptools" / "late.py", "value = 1")
    assert kernel.execute("import mcptools.late; mcptools.late.value").text == "1"


def test_packages_of_the_volume_import_without_a_restart_but_never_replace_the_images(
    sandbox: Sandbox, kernel: KernelSocket
) -> None:
    generation = sandbox.directory / "packages" / "gen-1"
    _write(generation / "installed_later.py", "value = 1")
    _write(generation / "tornado" / "queues.py", "raise SystemError")
    os.symlink("gen-1", sandbox.directory / "packages" / "current")
    assert kernel.execute("import installed_later, tornado.queues; installed_later.value").text == "1"


def test_a_second_kernel_shares_nothing_with_the_first(sandbox: Sandbox, kernel: KernelSocket) -> None:
    kernel.execute("shared = 1; import random, os; first = random.random()")
    other = sandbox.host.connect(sandbox.host.start_kernel())
    assert "NameError" in other.execute("shared").text
    assert other.execute("import os; 'X' in os.environ").text == "False"
    assert other.execute("import random; random.random()").text != kernel.execute("first").text
    other.close()


def test_two_sockets_to_one_kernel_both_hear_everything(sandbox: Sandbox) -> None:
    kernel_id = sandbox.host.start_kernel()
    first, second = sandbox.host.connect(kernel_id), sandbox.host.connect(kernel_id)
    assert second.execute("x = 1; x").text == "1"
    assert first.execute("x").text == "1"
    first.close()
    second.close()


def test_a_socket_that_is_opened_again_finds_the_kernel_as_it_was(sandbox: Sandbox) -> None:
    kernel_id = sandbox.host.start_kernel()
    first = sandbox.host.connect(kernel_id)
    first.execute("x = 1")
    first.close()
    second = sandbox.host.connect(kernel_id)
    assert second.execute("x").text == "1"
    second.close()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_old_results_are_forgotten_without_a_word(kernel: KernelSocket) -> None:
    kernel.execute("get_ipython().displayhook.cache_size = len(get_ipython().user_ns['_oh']) + 2")
    assert [kernel.execute(str(i)).text for i in range(6)] == [str(i) for i in range(6)]
