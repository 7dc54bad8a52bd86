"""Kernels as the gateway sees them: forked and watched by the fork server, connected to by WebSockets."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import zmq.asyncio
from jupyter_client.ioloop import AsyncIOLoopKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.provisioning import KernelProvisionerBase, KernelProvisionerFactory
from jupyter_server._tz import utcnow
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from kernel_gateway.services.kernels.manager import SeedingMappingKernelManager
from tornado.iostream import IOStream, StreamClosedError
from traitlets import default

KERNEL_NAME = "ipybox"
_MAX_EVENT_BYTES = 64 * 1024


class KernelStartError(Exception):
    """A kernel ended before it was ready; the sandbox's log says why."""


class KernelProcess:
    """A kernel that has been asked for. `exited` resolves to the cause of its end, once its whole tree is gone."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exited: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()


class ForkServerClient:
    """The gateway's end of the socket to the fork server."""

    def __init__(self, connection: socket.socket, on_exit: Callable[[str, dict[str, Any]], None]) -> None:
        self._stream = IOStream(connection)
        self._on_exit = on_exit
        self._kernels: dict[str, KernelProcess] = {}

    async def run(self) -> None:
        """Handles what the fork server tells; returns when it is gone."""
        while True:
            try:
                line = await self._stream.read_until(b"\n", max_bytes=_MAX_EVENT_BYTES)
            except StreamClosedError:
                return
            event = json.loads(line)
            if "ready" in event:
                kernel = self._kernels[event["ready"]]
                kernel.ready.set_result(None)
            else:
                kernel = self._kernels.pop(event["exited"])
                kernel.exited.set_result(event["cause"])
                if kernel.ready.done():
                    self._on_exit(event["exited"], event["cause"])
                else:
                    kernel.ready.set_exception(
                        KernelStartError(f"The kernel ended before it was ready: {event['cause']}")
                    )

    async def start(self, kernel_id: str, connection_file: str, env: dict[str, str], cwd: str) -> KernelProcess:
        """Resolves when the kernel has bound its sockets."""
        kernel = self._kernels[kernel_id] = KernelProcess()
        self._send({"start": kernel_id, "connectionFile": connection_file, "env": env, "cwd": cwd})
        await kernel.ready
        return kernel

    def interrupt(self, kernel_id: str) -> None:
        self._send({"interrupt": kernel_id})

    def kill(self, kernel_id: str) -> None:
        self._send({"kill": kernel_id})

    def _send(self, request: dict[str, Any]) -> None:
        self._stream.write(json.dumps(request).encode() + b"\n")


class ForkProvisioner(KernelProvisionerBase):
    """Gives Jupyter's kernel manager a kernel of the fork server where it expects a process of its own."""

    process: KernelProcess | None = None

    @property
    def has_process(self) -> bool:
        return self.process is not None

    async def poll(self) -> int | None:
        return None if self.process is not None and not self.process.exited.done() else 0

    async def wait(self) -> int | None:
        if self.process is not None:
            await self.process.exited
            self.process = None
        return 0

    async def send_signal(self, signum: int) -> None:
        if signum == signal.SIGINT:
            self._server.interrupt(self.kernel_id)
        else:
            await self.kill()

    async def kill(self, restart: bool = False) -> None:
        if self.process is not None:
            self._server.kill(self.kernel_id)
            await self.process.exited

    async def terminate(self, restart: bool = False) -> None:
        await self.kill(restart)

    async def cleanup(self, restart: bool = False) -> None:
        """Nothing is held beyond the process."""

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        manager = self.parent
        manager.write_connection_file()
        self.connection_info = manager.get_connection_info()
        return {"cmd": [], "env": kwargs["env"], "cwd": kwargs["cwd"]}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        self.process = await self._server.start(
            self.kernel_id, self.parent.connection_file, kwargs["env"], kwargs["cwd"]
        )
        return self.connection_info

    @property
    def _server(self) -> ForkServerClient:
        server: ForkServerClient = self.parent.parent.fork_server
        return server


class SandboxKernelManager(AsyncIOLoopKernelManager):
    @default("autorestart")
    def _default_autorestart(self) -> bool:
        return False

    async def _async_interrupt_kernel(self) -> None:
        # Jupyter interrupts what it is about to kill, which would wake every process of a fork bomb.
        if not self.shutting_down:
            await super()._async_interrupt_kernel()


class SandboxKernels(SeedingMappingKernelManager):
    """All kernels of the sandbox."""

    fork_server: ForkServerClient

    def _kernel_manager_class_default(self) -> str:
        return f"{SandboxKernelManager.__module__}.{SandboxKernelManager.__name__}"

    @default("buffer_offline_messages")
    def _default_buffer_offline_messages(self) -> bool:
        return False

    @default("context")
    def _context_default(self) -> zmq.asyncio.Context:
        context = zmq.asyncio.Context()
        context.sndhwm = 0  # at the default of 1,000 messages ZeroMQ drops output, and once the idle state with it
        context.rcvhwm = 0
        return context

    def start_watching_activity(self, kernel_id: str) -> None:
        """Nobody asks for it, and it would parse all output a second time."""
        kernel = self._kernels[kernel_id]
        kernel.execution_state = "idle"
        kernel.reason = ""
        kernel.last_activity = utcnow()

    async def shutdown_kernel(self, kernel_id: str, now: bool = True, restart: bool = False) -> None:
        """Kills at once, whatever is asked for: there is nothing that a kernel has to save."""
        await super().shutdown_kernel(kernel_id, now=True, restart=restart)

    async def forget(self, kernel_id: str) -> None:
        """Releases what is kept for a kernel that has ended by itself."""
        KernelConnection.close_those_of(kernel_id)
        if kernel_id in self and not self.get_kernel(kernel_id).shutting_down:
            await self.shutdown_kernel(kernel_id)


class KernelConnection(ZMQChannelsWebsocketConnection):
    """A WebSocket to a kernel. Requests wait until the subscription holds, so that no output can be missed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit_rate = False
        self._held: list[Any] | None = []

    @classmethod
    def close_those_of(cls, kernel_id: str) -> None:
        """Passes on what the kernel had sent before its end, then closes."""
        for connection in list(cls._open_sockets):
            if connection.kernel_id == kernel_id:
                for stream in connection.channels.values():
                    stream.flush()
                connection.websocket_handler.close(1000, "the kernel has ended")

    async def prepare(self) -> None:
        """The kernel's sockets are bound, so there is nothing to wait for."""
        await self._register_session()
        self.session.key = self.kernel_manager.session.key

    def connect(self) -> asyncio.Future[None] | None:
        connected = super().connect()
        if connected is not None:
            connected.add_done_callback(self._release)
        return connected

    def nudge(self) -> asyncio.Future[None]:
        """Resolves when the kernel has greeted the new subscriber, which it does by itself."""
        subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        iopub = self.channels["iopub"]

        def on_welcome(_: Any) -> None:
            iopub.stop_on_recv()
            if not subscribed.done():
                subscribed.set_result(None)

        iopub.on_recv(on_welcome)
        return subscribed

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        if self._held is None:
            super().handle_incoming_message(incoming_msg)
        else:
            self._held.append(incoming_msg)

    def _release(self, _: Any) -> None:
        held, self._held = self._held or [], None
        for message in held:
            super().handle_incoming_message(message)


class OneKernelSpec(KernelSpecManager):
    """There is one kind of kernel, and nothing on disk describes it."""

    def find_kernel_specs(self) -> dict[str, str]:
        return {KERNEL_NAME: ""}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name != KERNEL_NAME:
            raise NoSuchKernel(kernel_name)
        return KernelSpec(
            argv=[],
            display_name=KERNEL_NAME,
            language="python",
            metadata={"kernel_provisioner": {"provisioner_name": KERNEL_NAME}},
        )


# Jupyter finds provisioners among the entry points of installed distributions; this package is none.
KernelProvisionerFactory.provisioners[KERNEL_NAME] = EntryPoint(
    KERNEL_NAME, f"{ForkProvisioner.__module__}:{ForkProvisioner.__name__}", KernelProvisionerFactory.GROUP_NAME
)
