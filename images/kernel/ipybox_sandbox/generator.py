"""The worker that generates Python APIs: slow to start, so it is kept for a while, and large, so not for ever."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from ipybox_sandbox import process

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
IDLE_SECONDS = 300.0
PATIENCE_SECONDS = 30.0
SECONDS_PER_TOOL = 0.1
"""Twenty times what one takes."""


class GenerationError(Exception):
    """The worker refused, or ended in the middle."""


class Generator:
    """One worker process, asked one thing at a time, started when it is needed and ended when it no longer is."""

    def __init__(
        self,
        command: tuple[str, ...] = (sys.executable, "-I", "-m", "ipybox_sandbox.apigen.worker"),
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._command = command
        self._patience_seconds = PATIENCE_SECONDS
        self._idle_seconds = idle_seconds
        self._end_of_idleness: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._worker: asyncio.subprocess.Process | None = None
        self._ids = itertools.count(1)

    @property
    def is_stopped(self) -> bool:
        """Whether a cell has stopped the worker, by a signal: it is ours, and nobody else would."""
        if self._worker is None:
            return False
        try:
            return os.waitid(os.P_PID, self._worker.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # it has ended
            return False

    async def warm_up(self) -> None:
        """Starts the worker, so that a request that is to come need not wait for its imports."""
        async with self._in_use():
            try:
                await self._running()
            except GenerationError as error:
                print(f"generator: {error}", file=sys.stderr, flush=True)

    async def generate(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's result. Cancelling ends the worker: it may never answer."""
        async with self._in_use():
            request_id = next(self._ids)
            worker = await self._running()
            question = json.dumps({"id": request_id, **request}).encode() + b"\n"
            seconds = self._patience_seconds + SECONDS_PER_TOOL * len(request.get("tools", ()))
            try:
                line = await _in_time(seconds, _ask(worker, question))
            except BaseException:
                await self._end(worker)
                raise
            reply = _parse(line)
            if reply.get("id") != request_id:
                await self._end(worker)
                raise GenerationError("The generator ended unexpectedly")
            if "error" in reply:
                raise GenerationError(str(reply["error"]))
            result: dict[str, Any] = reply["result"]
            return result

    @asynccontextmanager
    async def _in_use(self) -> AsyncIterator[None]:
        async with self._turn:
            if self._end_of_idleness is not None:
                self._end_of_idleness.cancel()
            try:
                yield
            finally:
                self._end_of_idleness = asyncio.get_running_loop().call_later(self._idle_seconds, self._close_soon)

    def _close_soon(self) -> None:
        self._closing = asyncio.ensure_future(self.close())  # the loop itself holds tasks weakly

    async def _running(self) -> asyncio.subprocess.Process:
        if self._worker is not None and self._worker.returncode is None:
            return self._worker
        worker = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=process.base_environment(),
            cwd="/",
            limit=MAX_MESSAGE_BYTES,
        )
        try:
            if not _parse(await _in_time(self._patience_seconds, _read_line(worker))).get("ready"):
                raise GenerationError("The generator could not be started")
        except BaseException:
            await self._end(worker)
            raise
        self._worker = worker
        return worker

    async def close(self) -> None:
        """Ends the worker; the next request starts another."""
        async with self._turn:
            if self._worker is not None:
                await self._end(self._worker)

    async def _end(self, worker: asyncio.subprocess.Process) -> None:
        self._worker = None
        if worker.returncode is None:
            worker.kill()
        # To the end of its output, so that the loop is done with its pipes.
        await worker.communicate()


async def _in_time(seconds: float, answer: Coroutine[Any, Any, bytes]) -> bytes:
    """Nobody waits for a worker that a cell has stopped."""
    try:
        return await asyncio.wait_for(answer, seconds)
    except TimeoutError:
        raise GenerationError(f"The generator did not answer within {seconds:.0f} s") from None


async def _ask(worker: asyncio.subprocess.Process, line: bytes) -> bytes:
    assert worker.stdin is not None  # a pipe was asked for
    worker.stdin.write(line)
    try:
        await worker.stdin.drain()
    except ConnectionError:
        return b""
    return await _read_line(worker)


async def _read_line(worker: asyncio.subprocess.Process) -> bytes:
    assert worker.stdout is not None  # a pipe was asked for
    try:
        return await worker.stdout.readline()
    except ValueError as error:
        raise GenerationError("The generator's answer is too long") from error


def _parse(line: bytes) -> dict[str, Any]:
    """The object in `line`; an empty one when the worker has ended or wrote something else."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
