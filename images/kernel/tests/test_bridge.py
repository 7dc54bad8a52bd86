"""The bridge client against a server of the tests' own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from ipybox_sandbox import bridge
from ipybox_sandbox.toolerrors import (
    InstallError,
    ToolError,
    ToolNotFoundError,
    ToolRejectedError,
    ToolTimeoutError,
    UpstreamUnavailableError,
)
from ipybox_sandbox.wire import MAX_CALLING_THREADS, MAX_FRAME_BYTES, MAX_LOOP_CALLS

Handler = Callable[["Peer", dict[str, Any]], None]


class Peer:
    """One accepted connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, message: object) -> None:
        self.send_raw(json.dumps(message).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        self.connection.sendall(data)

    def result(self, request: dict[str, Any], result: object) -> None:
        self.send({"jsonrpc": "2.0", "id": request["id"], "result": result})

    def error(self, request: dict[str, Any], message: str, kind: str) -> None:
        error = {"code": -32000, "message": message, "data": {"kind": kind}}
        self.send({"jsonrpc": "2.0", "id": request["id"], "error": error})


class Host:
    """A threaded unix server: every line goes to `handler`, and is kept in `seen`."""

    def __init__(self, path: str) -> None:
        self.handler: Handler = lambda peer, request: peer.result(request, {"content": [], "echo": request["params"]})
        self.seen: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.connections = 0
        self.ended: SimpleQueue[Peer] = SimpleQueue()
        self._peers: list[Peer] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            peer = Peer(connection)
            self._peers.append(peer)
            threading.Thread(target=self._serve, args=[peer], daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        try:
            for line in peer.connection.makefile("rb"):
                if not line.endswith(b"\n"):
                    break
                message = json.loads(line)
                self.seen.put(message)
                if "id" in message:
                    self.handler(peer, message)
        except OSError:
            pass
        self.ended.put(peer)

    def hang_up(self) -> None:
        for peer in self._peers:
            peer.connection.shutdown(socket.SHUT_RDWR)
            peer.connection.close()
        self._peers.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()


INTERRUPTED_CALLS = """
import itertools, random, signal, sys
from ipybox_sandbox import bridge

bridge.ADDRESS = sys.argv[1]
done = interrupted = 0
for n in range(1000):
    try:
        try:
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, 0.002))
            for m in itertools.count():
                assert bridge.call("s", "t", {"n": [n, m]})["n"] == [n, m]
                done += 1
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
    except KeyboardInterrupt:
        interrupted += 1
assert bridge.call("s", "t", {"n": -1})["n"] == -1
print(done, interrupted)
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    path = str(tmp_path / "s")
    monkeypatch.setattr(bridge, "ADDRESS", path)
    bridge._begin_anew()
    server = Host(path)
    yield server
    server.close()


def answer_argument(peer: Peer, request: dict[str, Any]) -> None:
    peer.result(request, {"content": [], "n": request["params"]["arguments"]["n"]})


def test_names_the_server_and_the_tool_and_nothing_else(host: Host) -> None:
    result = bridge.call("brave", "web-search", {"q": "ä\ud800"})
    assert result["echo"] == {"server": "brave", "tool": "web-search", "arguments": {"q": "ä\ud800"}}
    request = host.seen.get()
    assert request.keys() == {"jsonrpc", "id", "method", "params"}
    assert request["method"] == "tools/call"


def test_keeps_one_connection(host: Host) -> None:
    for n in range(5):
        bridge.call("s", "t", {"n": n})
    assert host.connections == 1


def test_matches_answers_that_come_out_of_order(host: Host) -> None:
    held: list[tuple[Peer, dict[str, Any]]] = []

    def hold(peer: Peer, request: dict[str, Any]) -> None:
        held.append((peer, request))
        if len(held) == 20:
            for earlier in reversed(held):
                answer_argument(*earlier)

    host.handler = hold
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda n: bridge.call("s", "t", {"n": n})["n"], range(20)))
    assert results == list(range(20))


def test_a_hundred_calls_of_asyncio_share_one_connection(host: Host) -> None:
    host.handler = answer_argument

    async def gather() -> list[dict[str, Any]]:
        return await asyncio.gather(*(bridge.acall("s", "t", {"n": n}) for n in range(100)))

    assert [result["n"] for result in asyncio.run(gather())] == list(range(100))
    assert host.connections == 1


def test_more_calls_than_the_host_admits_wait_for_their_turn(host: Host) -> None:
    held: SimpleQueue[tuple[Peer, dict[str, Any]]] = SimpleQueue()
    host.handler = lambda peer, request: held.put((peer, request))

    async def gather() -> list[dict[str, Any]]:
        calls = asyncio.gather(*(bridge.acall("s", "t", {"n": n}) for n in range(MAX_LOOP_CALLS + 20)))
        first = [await asyncio.to_thread(held.get) for _ in range(MAX_LOOP_CALLS)]
        assert held.empty()
        for answered, each in enumerate(first):
            answer_argument(*each)
            if answered < 20:
                answer_argument(*await asyncio.to_thread(held.get))
        return await calls

    assert [result["n"] for result in asyncio.run(gather())] == list(range(MAX_LOOP_CALLS + 20))


def test_more_threads_than_the_host_admits_wait_for_their_turn(host: Host) -> None:
    held: SimpleQueue[tuple[Peer, dict[str, Any]]] = SimpleQueue()
    host.handler = lambda peer, request: held.put((peer, request))
    threads = MAX_CALLING_THREADS + 5
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(lambda n: bridge.call("s", "t", {"n": n})["n"], range(threads))
        first = [held.get() for _ in range(MAX_CALLING_THREADS)]
        assert held.empty()
        for each in first:
            answer_argument(*each)
        for _ in range(threads - MAX_CALLING_THREADS):
            answer_argument(*held.get())
        assert list(results) == list(range(threads))
    assert host.connections <= MAX_CALLING_THREADS


def test_a_call_that_is_cancelled_before_its_turn_is_never_sent(host: Host) -> None:
    held: SimpleQueue[tuple[Peer, dict[str, Any]]] = SimpleQueue()
    host.handler = lambda peer, request: held.put((peer, request))

    async def cancel_last() -> None:
        calls = [asyncio.create_task(bridge.acall("s", "t", {"n": n})) for n in range(MAX_LOOP_CALLS + 1)]
        first = [await asyncio.to_thread(held.get) for _ in range(MAX_LOOP_CALLS)]
        calls[-1].cancel()
        await asyncio.wait([calls[-1]])  # a cancellation takes effect in a later turn of the loop
        for each in first:
            answer_argument(*each)
        await asyncio.wait(calls)
        host.handler = answer_argument
        await bridge.acall("s", "t", {"n": "next"})
        assert calls[-1].cancelled()

    asyncio.run(cancel_last())
    seen = [host.seen.get() for _ in range(host.seen.qsize())]
    assert [message["params"]["arguments"]["n"] for message in seen if "id" in message] == [
        *range(MAX_LOOP_CALLS),
        "next",
    ]


def test_a_hundred_threads_get_their_own_answers(host: Host) -> None:
    host.handler = answer_argument
    with ThreadPoolExecutor(100) as pool:
        results = list(pool.map(lambda n: bridge.call("s", "t", {"n": n, "pad": "x" * 5000})["n"], range(1000)))
    assert results == list(range(1000))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("tool", ToolError),
        ("not-found", ToolNotFoundError),
        ("rejected", ToolRejectedError),
        ("timeout", ToolTimeoutError),
        ("unavailable", UpstreamUnavailableError),
        ("limit", ToolError),
        ("cancelled", ToolError),
        ("of-the-future", ToolError),
    ],
)
def test_errors_have_the_class_of_their_kind(host: Host, kind: str, expected: type[ToolError]) -> None:
    host.handler = lambda peer, request: peer.error(request, "the upstream's words", kind)
    with pytest.raises(ToolError) as caught:
        bridge.call("brave", "search", {})
    assert type(caught.value) is expected
    assert (str(caught.value), caught.value.server, caught.value.tool) == ("the upstream's words", "brave", "search")


def test_without_a_host_the_error_says_so_and_a_later_call_works(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bridge.ADDRESS
    monkeypatch.setattr(bridge, "ADDRESS", path + "-absent")
    with pytest.raises(UpstreamUnavailableError, match="no connection to the host"):
        bridge.call("s", "t", {})
    monkeypatch.setattr(bridge, "ADDRESS", path)
    assert "echo" in bridge.call("s", "t", {})


def test_a_connection_that_ends_fails_its_calls_and_the_next_call_gets_another(host: Host) -> None:
    answer = host.handler
    host.handler = lambda peer, request: host.hang_up()
    with pytest.raises(UpstreamUnavailableError):
        bridge.call("s", "t", {})
    host.handler = answer
    assert "echo" in bridge.call("s", "t", {})
    host.hang_up()
    assert "echo" in bridge.call("s", "t", {})
    assert host.connections == 3


def test_a_connection_that_ends_fails_the_calls_of_its_event_loop_alike(host: Host) -> None:
    answer = host.handler

    async def calls() -> None:
        host.handler = lambda peer, request: host.hang_up()
        with pytest.raises(UpstreamUnavailableError):
            await bridge.acall("s", "t", {})
        host.handler = answer
        assert "echo" in await bridge.acall("s", "t", {})

    asyncio.run(calls())
    assert host.connections == 2


def test_a_frame_over_the_limit_is_refused_before_anything_is_sent(host: Host) -> None:
    with pytest.raises(ToolError, match="too large"):
        bridge.call("s", "t", {"x": "y" * MAX_FRAME_BYTES})
    assert "echo" in bridge.call("s", "t", {})
    assert host.seen.qsize() == 1


def test_a_frame_just_below_the_limit_arrives_both_ways(host: Host) -> None:
    text = "y" * (MAX_FRAME_BYTES - 500)
    assert bridge.call("s", "t", {"x": text})["echo"]["arguments"]["x"] == text


def test_answers_that_nobody_asked_for_are_ignored(host: Host) -> None:
    def chatter(peer: Peer, request: dict[str, Any]) -> None:
        for message in ({"id": 10**9, "result": {}}, {"id": "x"}, {"id": None}, [], 3, {"method": "x"}):
            peer.send(message)
        peer.result(request, {"content": [], "mine": True})

    host.handler = chatter
    assert bridge.call("s", "t", {})["mine"] is True


def test_an_answer_that_is_not_json_ends_the_connection_with_an_error(host: Host) -> None:
    host.handler = lambda peer, request: peer.send_raw(b"{nonsense\n")
    with pytest.raises(UpstreamUnavailableError):
        bridge.call("s", "t", {})
    with pytest.raises(UpstreamUnavailableError):
        asyncio.run(bridge.acall("s", "t", {}))


def test_a_connection_that_the_host_refuses_fails_its_call_with_the_host_s_words(host: Host) -> None:
    def refuse(peer: Peer, request: dict[str, Any]) -> None:
        peer.error({"id": None}, "no more connections", "limit")
        host.hang_up()

    host.handler = refuse
    with pytest.raises(ToolError, match="no more connections"):
        bridge.call("s", "t", {})


def test_an_interrupt_ends_the_call_at_the_host_and_the_next_call_works(host: Host) -> None:
    answer = host.handler
    host.handler = lambda peer, request: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        bridge.call("s", "slow", {})
    host.ended.get(timeout=5)
    host.handler = answer
    assert "echo" in bridge.call("s", "t", {})


def test_what_a_signal_handler_raises_arrives_as_it_is(host: Host) -> None:
    def ring(*_: object) -> None:
        raise TimeoutError("my own")

    host.handler = lambda peer, request: os.kill(os.getpid(), signal.SIGALRM)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(TimeoutError, match="my own"):
            bridge.call("s", "slow", {})
    finally:
        signal.signal(signal.SIGALRM, before)
    host.ended.get(timeout=5)


def test_an_interrupt_ends_the_call_also_where_a_forked_child_has_its_connection(host: Host) -> None:
    children: list[int] = []
    release, held = os.pipe()

    def fork(peer: Peer, request: dict[str, Any]) -> None:
        child = os.fork()
        if child == 0:
            os.close(held)
            os.read(release, 1)
            os._exit(0)
        children.append(child)
        os.kill(os.getpid(), signal.SIGINT)

    host.handler = fork
    with pytest.raises(KeyboardInterrupt):
        bridge.call("s", "slow", {})
    host.ended.get(timeout=5)
    os.close(held)
    assert os.waitpid(children[0], 0)[1] == 0


def test_an_interrupt_in_the_middle_of_a_large_frame_does_not_tear_it(host: Host) -> None:
    host.handler = answer_argument
    arguments = {"n": 1, "x": "y" * 12_000_000}
    timer = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(1000):
            bridge.call("s", "t", arguments)
    timer.join()
    assert bridge.call("s", "t", {"n": 7})["n"] == 7


def test_interrupts_at_random_moments_never_mix_answers_up(host: Host) -> None:
    host.handler = answer_argument
    # A process of its own, because the interrupts hit whatever runs just then.
    argv = [sys.executable, "-c", INTERRUPTED_CALLS, bridge.ADDRESS]
    root = Path(bridge.__file__).parents[1]
    output = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True).stdout
    done, interrupted = map(int, output.split())
    assert done > 100
    assert interrupted > 10


def test_cancelling_a_task_cancels_the_call(host: Host) -> None:
    host.handler = lambda peer, request: None

    async def cancel() -> None:
        task = asyncio.create_task(bridge.acall("s", "t", {}))
        asked = await asyncio.to_thread(host.seen.get)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await asyncio.to_thread(host.seen.get))["params"] == {"id": asked["id"]}

    asyncio.run(cancel())


def test_a_forked_child_makes_its_own_connection(host: Host) -> None:
    host.handler = answer_argument
    bridge.call("s", "t", {"n": 1})
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if bridge.call("s", "t", {"n": 2})["n"] == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert bridge.call("s", "t", {"n": 3})["n"] == 3
    assert host.connections == 2


def test_installs_through_the_bridge(host: Host) -> None:
    host.handler = lambda peer, request: peer.result(request, {"output": f"did {request['params']['requirement']}"})
    assert bridge.install("numpy>=2") == "did numpy>=2"
    host.handler = lambda peer, request: peer.error(request, "no such package", "install")
    with pytest.raises(InstallError, match="no such package"):
        bridge.install("nope")


def test_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, ipybox_sandbox.bridge; print([m for m in ('pydantic', 'IPython', 'requests') if m in sys.modules])"
    )
    root = Path(bridge.__file__).parents[1]
    output = subprocess.run([sys.executable, "-S", "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
