"""What the host can ask the gateway for over HTTP. See docs/architecture.md."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from contextlib import suppress
from typing import Any

from jupyter_client.jsonutil import json_default
from kernel_gateway.jupyter_websocket import JupyterWebsocketPersonality
from kernel_gateway.services.kernels.handlers import KernelHandler, MainKernelHandler
from kernel_gateway.services.kernels.handlers import default_handlers as kernel_handlers
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from ipybox_sandbox.generator import GenerationError, Generator
from ipybox_sandbox.kernels import KERNEL_NAME, KernelStartError
from ipybox_sandbox.workspace_copy import Limits, Receiver, WorkspaceCopy

_MAX_WAITING_EVENTS = 1000
_SHRINK_SECONDS = 20
_MAX_RECEIVED_BYTES = 2**40  # the host bounds what it sends


class Events:
    """Tells every listener of `GET /ipybox/events` what happens."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[dict[str, Any]]] = set()

    def publish(self, event: dict[str, Any]) -> None:
        for listener in self._listeners:
            if listener.qsize() < _MAX_WAITING_EVENTS:
                listener.put_nowait(event)

    def listen(self) -> asyncio.Queue[dict[str, Any]]:
        listener: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._listeners.add(listener)
        return listener

    def leave(self, listener: asyncio.Queue[dict[str, Any]]) -> None:
        self._listeners.discard(listener)


class StartKernelHandler(MainKernelHandler):
    """`POST /api/kernels`, with the environment and the directory that Jupyter's own handler does not take."""

    async def post(self) -> None:
        body = self.get_json_body() or {}
        env = body.get("env", {})
        cwd = body.get("cwd", self.settings["ipybox_workspace"])
        if body.get("name", KERNEL_NAME) != KERNEL_NAME:
            raise HTTPError(400, "no such kernel: %s", body["name"])
        if not isinstance(env, dict) or not all(map(_is_variable, env.items())) or not isinstance(cwd, str):
            raise HTTPError(400, "env must be an object of strings, cwd a string")
        env = {**self.settings["ipybox_kernel_environment"], **env}
        try:
            kernel_id = await self.kernel_manager.start_kernel(kernel_name=KERNEL_NAME, env=env, cwd=cwd)
        except KernelStartError as error:
            raise HTTPError(500, str(error).replace("%", "%%")) from error
        self.set_status(201)
        self.finish(json.dumps(self.kernel_manager.kernel_model(kernel_id), default=json_default))


class EndKernelHandler(KernelHandler):
    """`DELETE /api/kernels/ID` fails where a cell has stopped the generator: the sandbox is to go, not the kernel."""

    async def delete(self, kernel_id: str) -> None:
        generator: Generator = self.settings["ipybox_generator"]
        if generator.is_stopped:
            raise HTTPError(409, "the generator was stopped")
        await super().delete(kernel_id)


class EventsHandler(RequestHandler):
    """`GET /ipybox/events`: JSON lines without end."""

    _task: asyncio.Task[Any] | None = None

    async def get(self) -> None:
        events: Events = self.settings["ipybox_events"]
        self._task = asyncio.current_task()
        self.set_header("Content-Type", "application/x-ndjson")
        listener = events.listen()
        try:
            await self._tell({"event": "hello"})
            while True:
                await self._tell(await listener.get())
        except (StreamClosedError, asyncio.CancelledError):
            pass  # the listener has left
        finally:
            events.leave(listener)

    async def _tell(self, event: dict[str, Any]) -> None:
        self.write(json.dumps(event) + "\n")
        await self.flush()

    def on_connection_close(self) -> None:
        if self._task is not None:
            self._task.cancel()


class WarmUpHandler(RequestHandler):
    """`POST /ipybox/generator`: starts the generator, which the host then has use for."""

    async def post(self) -> None:
        generator: Generator = self.settings["ipybox_generator"]
        self.set_status(204)
        await generator.warm_up()


class GenerateHandler(RequestHandler):
    """`POST /ipybox/generate`: writes the package of one server's tools into the workspace."""

    _task: asyncio.Task[Any] | None = None

    async def post(self) -> None:
        generator: Generator = self.settings["ipybox_generator"]
        self._task = asyncio.current_task()
        try:
            body = json.loads(self.request.body)
            request = {
                "workspace": self.settings["ipybox_workspace"],
                "server": body["server"],
                "tools": body["tools"],
            }
        except (ValueError, KeyError, TypeError) as error:
            self.set_status(400)
            self.finish({"error": f"not a generation request: {type(error).__name__}"})
            return
        try:
            answer = await generator.generate(request)
        except GenerationError as error:
            self.set_status(422)
            answer = {"error": str(error)}
        except asyncio.CancelledError:
            return  # the host no longer waits
        self.finish(answer)

    def on_connection_close(self) -> None:
        if self._task is not None:
            self._task.cancel()


class ShrinkHandler(RequestHandler):
    """`POST /ipybox/shrink`: scales a picture down until it fits. One at a time, each in a process of its own."""

    _turn = asyncio.Lock()
    _task: asyncio.Task[Any] | None = None

    async def post(self) -> None:
        self._task = asyncio.current_task()
        try:
            body = json.loads(self.request.body)
            data, max_bytes = base64.b64decode(body["data"]), int(body["maxBytes"])
        except (ValueError, KeyError, TypeError) as error:
            self.set_status(400)
            self.finish({"error": f"not a picture: {type(error).__name__}"})
            return
        try:
            async with self._turn, asyncio.timeout(_SHRINK_SECONDS):
                smaller = await _shrink(data, max_bytes)
        except TimeoutError:
            smaller = None
        except asyncio.CancelledError:
            return  # the host no longer waits
        if smaller is None:
            self.set_status(422)
            self.finish({"error": "the picture can't be scaled down"})
        else:
            self.finish({"data": base64.b64encode(smaller).decode()})

    def on_connection_close(self) -> None:
        if self._task is not None:
            self._task.cancel()


class CopyChangesHandler(RequestHandler):
    """`POST /ipybox/copy/changes`: what cells did to a workspace that is a copy. The host asks one thing at a time."""

    async def post(self) -> None:
        body = json.loads(self.request.body)
        copy: WorkspaceCopy = self.settings["ipybox_copy"]
        limits = Limits(body["maxEntries"], body["maxFileBytes"], body["maxBytes"])
        blocks = copy.changes(body["applied"], limits)
        with suppress(StreamClosedError):  # the host does not want the rest
            while block := await asyncio.to_thread(next, blocks, b""):
                self.write(block)
                await self.flush()


@stream_request_body
class CopyReceiveHandler(RequestHandler):
    """`POST /ipybox/copy/receive?applied=true`: what changed on the host; answers which paths changed here as well."""

    _receiver: Receiver

    def prepare(self) -> None:
        connection: HTTP1Connection = self.request.connection
        connection.set_max_body_size(_MAX_RECEIVED_BYTES)
        copy: WorkspaceCopy = self.settings["ipybox_copy"]
        self._receiver = copy.receive(self.get_query_argument("applied") == "true")

    def data_received(self, chunk: bytes) -> None:
        self._receiver.feed(chunk)

    def post(self) -> None:
        self.finish({"refused": self._receiver.refused})

    def on_connection_close(self) -> None:
        self._receiver.close()


async def _shrink(data: bytes, max_bytes: int) -> bytes | None:
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "ipybox_sandbox.shrink", str(max_bytes)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        smaller, _ = await worker.communicate(data)
        return smaller if worker.returncode == 0 else None
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


class SandboxPersonality(JupyterWebsocketPersonality):
    """The kernel routes of the Jupyter server and ours; no others."""

    def create_request_handlers(self) -> list[Any]:
        ours = {MainKernelHandler: StartKernelHandler, KernelHandler: EndKernelHandler}
        routes = [(path, ours.get(handler, handler)) for path, handler in kernel_handlers]
        return [
            *routes,
            ("/ipybox/events", EventsHandler),
            ("/ipybox/generator", WarmUpHandler),
            ("/ipybox/generate", GenerateHandler),
            ("/ipybox/shrink", ShrinkHandler),
            ("/ipybox/copy/changes", CopyChangesHandler),
            ("/ipybox/copy/receive", CopyReceiveHandler),
        ]


def create_personality(*args: Any, **kwargs: Any) -> SandboxPersonality:
    """Where the Kernel Gateway looks for its routes."""
    return SandboxPersonality(*args, **kwargs)


def _is_variable(item: tuple[Any, Any]) -> bool:
    name, value = item
    return isinstance(value, str) and bool(name) and "=" not in name and "\0" not in name + value
