"""Init: the lifeline, sessions that lose a helper, tasks."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox, run_init
from host import wait_for_end

from ipybox_sandbox import init
from ipybox_sandbox.disk_floor import DiskFloor
from ipybox_sandbox.paths import Paths

TIMEOUT_SECONDS = 30


def test_closing_the_control_connection_ends_everything_with_code_0() -> None:
    with run_init({"mode": "session"}) as sandbox:
        kernel = sandbox.host.connect(sandbox.host.start_kernel())
        pids = kernel.execute("import os, subprocess; print(os.getpid(), subprocess.Popen(['sleep', '1000']).pid)")
        children = _children(sandbox.init.pid)
        sandbox.host.end_session()
        assert sandbox.init.wait(TIMEOUT_SECONDS) == 0
        for pid in (*children, *map(int, pids.text.split())):
            wait_for_end(pid)


@pytest.mark.parametrize("helper", ["gateway", "fork_server"])
def test_the_end_of_a_helper_ends_the_sandbox_and_is_told(helper: str) -> None:
    with run_init({"mode": "session"}) as sandbox:
        sandbox.host.streams.get(timeout=TIMEOUT_SECONDS)
        (pid,) = [pid for pid in _children(sandbox.init.pid) if f"ipybox_sandbox.{helper}" in _command(pid)]
        os.kill(pid, signal.SIGKILL)
        assert sandbox.init.wait(TIMEOUT_SECONDS) == 1
        assert _events(sandbox)[-1]["event"] == "log"


def test_signals_that_python_handles_do_not_end_init() -> None:
    with run_init({"mode": "session"}) as sandbox:
        os.kill(sandbox.init.pid, signal.SIGINT)
        os.kill(sandbox.init.pid, signal.SIGCHLD)
        assert sandbox.host.connect(sandbox.host.start_kernel()).execute("1").text == "1"


SOCKETS = """
import errno, socket
def made(family):
    try:
        socket.socket(family).close()
        return "made"
    except OSError as error:
        return errno.errorcode[error.errno]
[made(family) for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)]
"""


@pytest.mark.parametrize(
    ("options", "made"),
    [((), ["made", "made", "made"]), (("--no-inet",), ["EAFNOSUPPORT", "EAFNOSUPPORT", "made"])],
)
def test_cells_have_no_sockets_of_the_internet_only_where_init_is_told_so(
    options: tuple[str, ...], made: list[str]
) -> None:
    with run_init({"mode": "session"}, options=options) as sandbox:
        assert sandbox.host.connect(sandbox.host.start_kernel()).execute(SOCKETS).text == str(made)


def test_the_token_is_in_no_command_line_and_no_environment() -> None:
    with run_init({"mode": "session"}) as sandbox:
        sandbox.host.streams.get(timeout=TIMEOUT_SECONDS)
        for pid in (sandbox.init.pid, *_children(sandbox.init.pid)):
            assert sandbox.host.token not in _command(pid)
            environment = Path(f"/proc/{pid}/environ").read_text()
            assert sandbox.host.token not in environment
            assert pid == sandbox.init.pid or "SECRET" not in environment


def test_a_task_tells_its_output_and_its_exit_code(task: Task) -> None:
    *outputs, last = task.run(
        "import sys; print('out', flush=True); print('ä' * 20_000, flush=True); print('err', end='', file=sys.stderr);"
        "sys.exit(3)"
    )
    assert last == {"event": "exit", "code": 3}
    assert "".join(event["text"] for event in outputs) == "out\n" + "ä" * 20_000 + "\nerr"
    assert all(len(event["text"]) <= init.MAX_LINE_CHARS for event in outputs)


def test_a_task_that_is_killed_has_the_exit_code_of_a_shell(task: Task) -> None:
    assert task.run("import os; os.kill(os.getpid(), 9)") == [{"event": "exit", "code": 137}]


def test_a_task_whose_orphan_holds_its_output_open_ends_all_the_same(task: Task) -> None:
    *_, last = task.run("import subprocess; subprocess.Popen(['sleep', '5'])")
    assert last == {"event": "exit", "code": 0}


LEAVING = (
    "import os, subprocess, sys, time; os.makedirs(sys.argv[1] + '/locked/in'); os.chmod(sys.argv[1] + '/locked', 0); "
)
"""A task that makes what is hard to remove where it is told to work."""


@pytest.mark.parametrize(
    "end",
    [
        "print('begun', flush=True); time.sleep(1000)",  # the host closes the control connection then
        "os.kill(os.getpid(), 9)",
        "sys.exit(0)",
    ],
)
def test_whatever_ends_a_task_what_it_started_and_left_is_removed(task: Task, tmp_path: Path, end: str) -> None:
    task.paths = Paths(packages=str(tmp_path))
    (tmp_path / ".staging-of-another").mkdir()
    closing = threading.Thread(target=lambda: task.host.recv(1, socket.MSG_PEEK) and task.host.shutdown(socket.SHUT_WR))
    closing.start()
    task.run(LEAVING + "subprocess.Popen(['sleep', '1000']); " + end)
    closing.join()
    assert [path.name for path in tmp_path.iterdir()] == [".staging-of-another"]
    assert _children(os.getpid()) == []


def test_what_a_task_leaves_in_its_scratch_stays_there_for_another(task: Task, tmp_path: Path) -> None:
    task.paths = Paths(packages="/nowhere", scratch=str(tmp_path))
    task.writes = "scratch"
    (last,) = task.run("import os, sys; os.mkdir(sys.argv[1])")
    assert last == {"event": "exit", "code": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_a_task_that_fills_the_disk_is_ended_with_what_it_started_and_left(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.paths = Paths(packages=str(tmp_path))
    (tmp_path / "gen-1").mkdir()
    monkeypatch.setattr(DiskFloor, "is_crossed", lambda _: any(tmp_path.glob(".staging-*/locked")))
    output, last = task.run(LEAVING + "subprocess.Popen(['sleep', '1000']); time.sleep(1000)")
    assert "almost full" in output["text"]
    assert last == {"event": "exit", "code": errno.ENOSPC}
    assert [path.name for path in tmp_path.iterdir()] == ["gen-1"]


def test_a_task_is_watched_on_the_disk_that_it_writes(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.paths = Paths(packages="/nowhere", scratch=str(tmp_path))
    task.writes = "scratch"

    def is_crossed(floor: DiskFloor) -> bool:
        return floor._path == str(tmp_path) and any(tmp_path.glob("build/locked"))

    monkeypatch.setattr(DiskFloor, "is_crossed", is_crossed)
    output, last = task.run(LEAVING + "time.sleep(1000)")
    assert "almost full" in output["text"]
    assert last == {"event": "exit", "code": errno.ENOSPC}


def test_the_floor_is_crossed_by_what_becomes_less_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [5 * 10**9]
    monkeypatch.setattr(DiskFloor, "_look", lambda _: (free[-1], 20 * 10**9))
    floor = DiskFloor("/")
    for available, crossed in [(2 * 10**9, False), (10**9 - 1, True)]:
        free.append(available)
        assert floor.is_crossed() is crossed
    full_before = DiskFloor("/")
    assert not full_before.is_crossed()


def test_a_task_is_a_module_of_the_package(task: Task) -> None:
    with pytest.raises(OSError, match="not a module name"):
        init._run_task(task.control, Paths(), "../x", [], writes="packages")


def test_without_a_host_init_says_so_and_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "ipybox_sandbox.init", f"--run={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 1
    assert "No such file" in done.stderr


class Task:
    """Runs code as if it were a task's module, and keeps what init tells of it."""

    def __init__(self) -> None:
        self.host, self.control = socket.socketpair()
        self.paths = Paths(packages="/nowhere")
        self.writes = "packages"
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, code: str) -> list[dict[str, Any]]:
        assert init._run_task(self.control, self.paths, "task", [code], writes=self.writes) == 0
        self.control.close()
        with self.host.makefile() as lines:
            return [json.loads(line) for line in lines]

    def start(self, module: str, args: list[str], descriptors: list[int], output: int) -> subprocess.Popen[bytes]:
        staging, code = args
        command = [sys.executable, "-c", code, staging.removeprefix("--staging=")]
        process = subprocess.Popen(command, stdout=output, stderr=output)
        self.processes.append(process)
        return process


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    task = Task()
    monkeypatch.setattr(init, "_start", task.start)
    yield task
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    task.host.close()
    task.control.close()
    for process in task.processes:
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def _events(sandbox: Sandbox) -> list[dict[str, Any]]:
    """What init told until it closed the control connection."""
    control = sandbox.host.control.get(timeout=TIMEOUT_SECONDS)
    with control, control.makefile() as lines:
        return [json.loads(line) for line in lines]
