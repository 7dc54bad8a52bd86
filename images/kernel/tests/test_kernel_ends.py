"""How kernels end: by themselves, by signals, by the host, and what is left of them."""

from __future__ import annotations

import json
import signal
from typing import Any

from conftest import Sandbox
from host import is_alive, wait_for_end

PRINT_PIDS = "import os; print(os.getppid(), os.getpid())"
ESCAPE = (
    "import os, subprocess\n"
    "escaped = subprocess.Popen(['setsid', 'sh', '-c', '(setsid sleep 1000 & echo $!) '], stdout=subprocess.PIPE)\n"
    "print(escaped.stdout.readline().decode())"
)


def test_a_kernel_that_exits_is_told_of_with_its_code_and_its_last_output(sandbox: Sandbox) -> None:
    event, text = _end_by(sandbox, "print('before'); import os; os._exit(3)")
    assert event["cause"] == {"type": "exit", "code": 3}
    assert text == "before\n"


def test_a_kernel_that_crashes_is_told_of_with_its_signal(sandbox: Sandbox) -> None:
    event, _ = _end_by(sandbox, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert event["cause"] == {"type": "signal", "signal": "SIGSEGV"}


def test_nothing_that_was_written_before_a_kill_is_lost(sandbox: Sandbox) -> None:
    lines = "for i in range(20_000): print(i)\nprint('x' * 3_000_000)\nprint('no line', end='')\n"
    _, text = _end_by(sandbox, f"{lines}display(1)\nimport os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert text == "".join(f"{i}\n" for i in range(20_000)) + "x" * 3_000_000 + "\nno line1"


def test_a_kernel_whose_subreaper_is_killed_ends_with_what_it_started(sandbox: Sandbox) -> None:
    kernel_id = sandbox.host.start_kernel()
    events = sandbox.host.listen()
    kernel = sandbox.host.connect(kernel_id)
    escaped = int(kernel.execute(ESCAPE).text)
    kernel.send("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    assert json.loads(events.readline())["cause"] == {"type": "signal", "signal": "SIGKILL"}
    wait_for_end(escaped)


def test_deleting_a_kernel_kills_daemons_that_it_started(sandbox: Sandbox) -> None:
    kernel_id = sandbox.host.start_kernel()
    kernel = sandbox.host.connect(kernel_id)
    escaped = int(kernel.execute(ESCAPE).text)
    own = [int(pid) for pid in kernel.execute(PRINT_PIDS).text.split()]
    assert is_alive(escaped)
    assert sandbox.host.request("DELETE", f"/api/kernels/{kernel_id}")[0] == 204
    for pid in (escaped, *own):
        wait_for_end(pid)
    assert kernel.receive_until_closed() is None


def test_deleting_a_kernel_works_when_its_subreaper_is_stopped(sandbox: Sandbox) -> None:
    kernel_id = sandbox.host.start_kernel()
    kernel = sandbox.host.connect(kernel_id)
    kernel.execute("import os, signal; os.kill(os.getppid(), signal.SIGSTOP)")
    assert sandbox.host.request("DELETE", f"/api/kernels/{kernel_id}")[0] == 204


def test_deleting_one_kernel_leaves_the_others_alone(sandbox: Sandbox) -> None:
    first, second = sandbox.host.start_kernel(), sandbox.host.start_kernel()
    other = sandbox.host.connect(second)
    child = int(other.execute("import subprocess; print(subprocess.Popen(['sleep', '1000']).pid)").text)
    assert sandbox.host.request("DELETE", f"/api/kernels/{first}")[0] == 204
    assert other.execute("1 + 1").text == "2"
    assert is_alive(child)
    assert sandbox.host.request("DELETE", f"/api/kernels/{second}")[0] == 204
    wait_for_end(child)


def test_an_interrupt_ends_the_cell_and_keeps_the_kernel(sandbox: Sandbox) -> None:
    kernel_id = sandbox.host.start_kernel()
    kernel = sandbox.host.connect(kernel_id)
    kernel.execute("x = 1")
    message_id = kernel.send("print('started', flush=True)\nwhile True: pass")
    kernel.receive_stream("started\n")
    assert sandbox.host.request("POST", f"/api/kernels/{kernel_id}/interrupt")[0] == 204
    cell = kernel.collect(message_id)
    assert cell.status == "error"
    assert "KeyboardInterrupt" in cell.text
    assert kernel.execute("x").text == "1"


def test_an_interrupt_ends_a_cell_that_awaits(sandbox: Sandbox) -> None:
    kernel_id = sandbox.host.start_kernel()
    kernel = sandbox.host.connect(kernel_id)
    message_id = kernel.send("import asyncio\nprint('started')\nawait asyncio.sleep(1000)")
    kernel.receive_stream("started\n")
    sandbox.host.request("POST", f"/api/kernels/{kernel_id}/interrupt")
    assert "CancelledError" in kernel.collect(message_id).text
    assert kernel.execute("1 + 1").text == "2"


def test_an_interrupt_reaches_subprocesses(sandbox: Sandbox) -> None:
    kernel_id = sandbox.host.start_kernel()
    kernel = sandbox.host.connect(kernel_id)
    message_id = kernel.send("!echo started; sleep 1000")
    kernel.receive_stream("started\n")
    sandbox.host.request("POST", f"/api/kernels/{kernel_id}/interrupt")
    assert "KeyboardInterrupt" in kernel.collect(message_id).text


def test_an_interrupt_of_an_idle_kernel_changes_nothing(sandbox: Sandbox) -> None:
    kernel_id = sandbox.host.start_kernel()
    kernel = sandbox.host.connect(kernel_id)
    kernel.execute("x = 1")
    sandbox.host.request("POST", f"/api/kernels/{kernel_id}/interrupt")
    assert kernel.execute("x").text == "1"


def test_a_kernel_that_cannot_start_is_an_error_and_the_next_one_works(sandbox: Sandbox) -> None:
    status, answer = sandbox.host.request("POST", "/api/kernels", {"name": "ipybox", "cwd": "/no/such/directory"})
    assert status == 500
    assert "before it was ready" in answer["message"]
    assert sandbox.host.connect(sandbox.host.start_kernel()).execute("1").text == "1"


def test_killed_is_the_word_for_a_kernel_that_was_killed(sandbox: Sandbox) -> None:
    event, _ = _end_by(sandbox, f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert event["cause"] == {"type": "signal", "signal": "SIGKILL"}


def _end_by(sandbox: Sandbox, code: str) -> tuple[dict[str, Any], str]:
    kernel_id = sandbox.host.start_kernel()
    events = sandbox.host.listen()
    kernel = sandbox.host.connect(kernel_id)
    cell = kernel.collect(kernel.send(code))
    kernel.close()
    event = json.loads(events.readline())
    assert (event["event"], event["kernelId"]) == ("kernel-exited", kernel_id)
    return event, cell.text
