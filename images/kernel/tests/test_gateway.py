"""The gateway's side of the wire: idle streams, routes, generation."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import sys

import pytest
from conftest import Sandbox
from host import request_on
from PIL import Image

from ipybox_sandbox.generator import GenerationError, Generator
from ipybox_sandbox.process_tree import children_of

WORKER = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["server"] == "crash":
        sys.exit(1)
    if request["server"] == "refused":
        print(json.dumps({"id": request["id"], "error": "no"}), flush=True)
    elif request["server"] != "hang":
        print(json.dumps({"id": request["id"], "result": {"modules": [request["server"]]}}), flush=True)
"""


def test_a_new_stream_is_dialled_when_one_is_taken_and_not_before(sandbox: Sandbox) -> None:
    first = sandbox.host.streams.get(timeout=30)
    second = sandbox.host.streams.get(timeout=30)
    assert sandbox.host.streams.empty()
    assert request_on(first, "GET", "/api/kernels/none")[0] == 404
    third = sandbox.host.streams.get(timeout=30)
    for stream in (second, third):
        sandbox.host.streams.put(stream)


def test_a_stream_serves_one_request_after_another(sandbox: Sandbox) -> None:
    stream = sandbox.host.streams.get(timeout=30)
    for _ in range(3):
        assert request_on(stream, "POST", "/ipybox/generate", [])[0] == 400
    stream.close()


def test_only_the_routes_of_the_contract_exist(sandbox: Sandbox) -> None:
    for path in ("/api", "/api/sessions", "/api/kernelspecs", "/api/contents", "/metrics", "/"):
        assert sandbox.host.request("GET", path)[0] == 404


@pytest.mark.parametrize(
    "body",
    [{"name": "python3"}, {"env": {"A": 1}}, {"env": {"A=B": "x"}}, {"env": ["A"]}, {"env": {"A": "\0"}}, {"cwd": 1}],
)
def test_a_malformed_order_for_a_kernel_is_refused(sandbox: Sandbox, body: dict[str, object]) -> None:
    assert sandbox.host.request("POST", "/api/kernels", body)[0] == 400


def test_generation_writes_into_the_workspace(sandbox: Sandbox) -> None:
    tool = {"name": "add", "module": "add", "description": "Adds.", "inputSchema": {"type": "object"}}
    status, answer = sandbox.host.request("POST", "/ipybox/generate", {"server": "calc", "tools": [tool]})
    assert (status, answer) == (200, {"modules": [{"module": "add", "fallback": None}]})
    assert (sandbox.workspace / "mcptools" / "calc" / "add.py").is_file()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_scaled_down_until_it_fits(sandbox: Sandbox, kind: str) -> None:
    noise = Image.frombytes("RGB", (800, 600), os.urandom(800 * 600 * 3))
    encoded = io.BytesIO()
    noise.save(encoded, kind)
    body = {"data": base64.b64encode(encoded.getvalue()).decode(), "maxBytes": 100_000}
    status, answer = sandbox.host.request("POST", "/ipybox/shrink", body)
    assert status == 200
    data = base64.b64decode(answer["data"])
    assert len(data) <= 100_000
    smaller = Image.open(io.BytesIO(data))
    assert smaller.format == kind
    assert smaller.width / smaller.height == pytest.approx(800 / 600, rel=0.05)


def test_what_is_no_picture_is_refused(sandbox: Sandbox) -> None:
    for data, status in (("bm8gcGljdHVyZQ==", 422), (1, 400)):
        assert sandbox.host.request("POST", "/ipybox/shrink", {"data": data, "maxBytes": 5})[0] == status


def test_the_generator_starts_again_after_a_crash() -> None:
    async def run() -> None:
        generator = _generator()
        with pytest.raises(GenerationError):
            await generator.generate({"server": "crash"})
        assert await generator.generate({"server": "x"}) == {"modules": ["x"]}
        await generator.close()

    asyncio.run(run())


def test_a_refusal_is_an_error_with_the_workers_words_and_the_worker_stays() -> None:
    async def run() -> None:
        generator = _generator()
        with pytest.raises(GenerationError, match=r"^no$"):
            await generator.generate({"server": "refused"})
        assert await generator.generate({"server": "x"}) == {"modules": ["x"]}
        await generator.close()

    asyncio.run(run())


def test_a_request_that_is_given_up_does_not_block_the_next() -> None:
    async def run() -> None:
        generator = _generator()
        await generator.warm_up()
        hanging = asyncio.create_task(generator.generate({"server": "hang"}))
        await asyncio.sleep(0)
        hanging.cancel()
        assert await generator.generate({"server": "x"}) == {"modules": ["x"]}
        await generator.close()

    asyncio.run(run())


def test_a_worker_that_does_not_answer_is_replaced() -> None:
    async def run() -> None:
        generator = Generator((sys.executable, "-c", WORKER))
        await generator.warm_up()
        generator._patience_seconds = 0.0
        with pytest.raises(GenerationError, match="did not answer within 0 s"):
            await generator.generate({"server": "hang"})
        generator._patience_seconds = 30.0
        assert await generator.generate({"server": "x"}) == {"modules": ["x"]}
        await generator.close()

    asyncio.run(run())


def test_a_stopped_worker_is_noticed() -> None:
    async def run() -> None:
        generator = _generator()
        assert not generator.is_stopped
        others = children_of(os.getpid())
        await generator.warm_up()
        (worker,) = children_of(os.getpid()) - others
        assert not generator.is_stopped
        os.kill(worker, signal.SIGSTOP)
        os.waitid(os.P_PID, worker, os.WSTOPPED | os.WNOWAIT)
        assert generator.is_stopped
        await generator.close()
        assert not generator.is_stopped

    asyncio.run(run())


def test_a_worker_without_work_ends_and_is_started_again_when_there_is_some() -> None:
    async def run() -> None:
        generator = _generator(idle_seconds=0.0)
        for _ in range(2):
            assert await generator.generate({"server": "x"}) == {"modules": ["x"]}
            worker = generator._worker
            assert worker is not None
            await worker.wait()
        await generator.close()

    asyncio.run(run())


def test_the_generator_is_started_ahead_of_its_use(sandbox: Sandbox) -> None:
    assert sandbox.host.request("POST", "/ipybox/generator", {}) == (204, None)


def test_a_worker_that_cannot_start_is_an_error() -> None:
    async def run() -> None:
        with pytest.raises(GenerationError):
            await Generator((sys.executable, "-c", json.dumps("nothing"))).generate({"server": "x"})

    asyncio.run(run())


def _generator(idle_seconds: float = 60.0) -> Generator:
    return Generator((sys.executable, "-c", WORKER), idle_seconds)
