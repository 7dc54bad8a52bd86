"""Killing trees of processes."""

from __future__ import annotations

import subprocess
import sys

from host import is_alive, wait_for_end

FAMILY = """
import os, subprocess, sys
from ipybox_sandbox import process
from ipybox_sandbox.process_tree import kill_descendants

process.adopt_orphans()
spared = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
spared_child = int(spared.stdout.readline())
killed = subprocess.Popen(
    ["sh", "-c", "(setsid sh -c 'sleep 1000 & echo $!; wait') & sleep 1000 & echo $!; exit"],
    stdout=subprocess.PIPE,
    text=True,
)
grandchildren = [int(killed.stdout.readline()), int(killed.stdout.readline())]
kill_descendants(os.getpid(), spared={spared.pid})
print(spared.pid, spared_child, *grandchildren, flush=True)
sys.stdin.read()
kill_descendants(os.getpid())
"""

ORPHANS_ELSEWHERE = """
import os, subprocess, sys
from ipybox_sandbox import process
from ipybox_sandbox.process_tree import children_of, kill_descendants

process.adopt_orphans()
helper = subprocess.Popen(["sleep", "1000"])
reading, writing = os.pipe()
killer = os.fork()
if killer == 0:
    helpers = children_of(os.getppid())
    orphan = subprocess.check_output(["setsid", "sh", "-c", "sleep 1000 >&- & echo $!"], text=True)
    child = subprocess.Popen(["sleep", "1000"])
    assert int(orphan) in children_of(os.getppid())
    kill_descendants(os.getpid(), os.getppid(), spared=helpers)
    os.write(writing, f"{orphan.strip()} {child.pid} {int(helpers == {helper.pid, os.getpid()})}".encode())
    os._exit(0)
os.waitpid(killer, 0)
print(helper.pid, os.read(reading, 100).decode(), flush=True)
sys.stdin.read()
kill_descendants(os.getpid())
"""

BOMB = """
import os, subprocess, sys
from ipybox_sandbox import process
from ipybox_sandbox.process_tree import kill_descendants

process.adopt_orphans()
bomb = (
    "import os\\n"
    "print(1, flush=True)\\n"
    "for _ in range(6):\\n"
    "    if os.fork() == 0: os.setsid()\\n"
    "while True: os.sched_yield()"
)
child = subprocess.Popen([sys.executable, "-c", bomb], stdout=subprocess.PIPE)
child.stdout.readline()
kill_descendants(os.getpid())
print(len(open(f"/proc/self/task/{os.getpid()}/children").read().split()))
"""


def test_descendants_die_however_they_are_detached_and_spared_trees_live() -> None:
    parent = subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    spared, spared_child, *grandchildren = map(int, parent.stdout.readline().split())
    for pid in grandchildren:
        assert not is_alive(pid)
    assert is_alive(spared)
    assert is_alive(spared_child)
    parent.communicate(timeout=30)
    for pid in (spared, spared_child):
        wait_for_end(pid)


def test_orphans_that_another_process_adopted_die_too_and_its_helpers_live() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS_ELSEWHERE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    helper, orphan, child, were_found = map(int, parent.stdout.readline().split())
    assert were_found
    assert is_alive(helper)
    for pid in (orphan, child):
        assert not is_alive(pid)
    parent.communicate(timeout=30)
    wait_for_end(helper)


def test_processes_that_fork_while_they_are_hunted_all_die() -> None:
    done = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n", done.stderr
