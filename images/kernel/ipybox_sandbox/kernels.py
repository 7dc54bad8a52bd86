"""Kernels as the gateway sees them: forked and watched by the fork server, connected to by WebSockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.ioloop import AsyncIOLoopKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.provisioning import KernelProvisionerBase, KernelProvisionerFactory
from jupyter_server._tz import utcnow
from kernel_gateway.services.kernels.manager import SeedingMappingKernelManager
from tornado.iostream import IOStream, StreamClosedError
from traitlets import default

from ipybox_sandbox.kernel_connection import KernelConnection
from ipybox_sandbox.published import PublishedOutput, Subscription
from ipybox_sandbox.shell_channel import Requests

KERNEL_NAME = "ipybox"
_MAX_EVENT_BYTES = 64 * 1024


class KernelStartError(Exception):
    """A kernel ended before it was ready; the sandbox's log says why."""


class KernelProcess:
    """A kernel that has been asked for. `exited` resolves to the cause of its end, once its whole tree is gone."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exited: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.interrupts: deque[asyncio.Future[None]] = deque()


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
            elif "interrupted" in event:
                self._kernels[event["interrupted"]].interrupts.popleft().set_result(None)
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

    async def interrupt(self, kernel: KernelProcess, kernel_id: str) -> None:
        """Resolves when the signal has been sent, so that it can't hit what the kernel is asked for next."""
        interrupt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        kernel.interrupts.append(interrupt)
        self._send({"interrupt": kernel_id})
        await asyncio.wait((interrupt, kernel.exited), return_when=asyncio.FIRST_COMPLETED)

    def kill(self, kernel_id: str) -> None:
        self._send({"kill": kernel_id})

    def _send(self, request: dict[str, Any]) -> None:
        self._stream.write(json.dumps(request).encode() + b"\n")


class ForkProvisioner(KernelProvisionerBase):
    """Gives Jupyter's kernel manager a kernel of the fork server where it expects a process of its own."""

    process: KernelProcess | None = None
    output: PublishedOutput | None = None
    requests: Requests | None = None

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
        if self.process is not None and signum == signal.SIGINT:
            await self._server.interrupt(self.process, self.kernel_id)
        else:
            await self.kill()

    async def kill(self, restart: bool = False) -> None:
        if self.process is not None:
            self._server.kill(self.kernel_id)
            await self.process.exited

    async def terminate(self, restart: bool = False) -> None:
        await self.kill(restart)

    async def cleanup(self, restart: bool = False) -> None:
        for pipe in (self.requests, self.output):
            if pipe is not None:
                pipe.finish()

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        manager = self.parent
        manager.write_connection_file()
        self.connection_info = manager.get_connection_info()
        return {"cmd": [], "env": kwargs["env"], "cwd": kwargs["cwd"]}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        connection_file = self.parent.connection_file
        output, bell, requests = (f"{connection_file}.{name}" for name in ("output", "bell", "requests"))
        self.output = PublishedOutput(output, bell)
        os.mkfifo(requests, 0o600)
        try:
            self.process = await self._server.start(self.kernel_id, connection_file, kwargs["env"], kwargs["cwd"])
            self.requests = Requests(requests, self.output.expect_reply)
        except KernelStartError:
            self.output.finish()
            raise
        except OSError as error:
            raise KernelStartError("The kernel ended as soon as it was ready") from error
        finally:
            for path in (output, bell, requests):
                os.unlink(path)  # the kernel has opened it, and nobody else is to
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

    def connect_iopub(self, identity: bytes | None = None) -> Subscription:
        subscription: Subscription = self.provisioner.output.subscribe()
        return subscription

    def connect_shell(self, identity: bytes | None = None) -> Requests:
        requests: Requests = self.provisioner.requests
        return requests


class SandboxKernels(SeedingMappingKernelManager):
    """All kernels of the sandbox."""

    fork_server: ForkServerClient

    def _kernel_manager_class_default(self) -> str:
        return f"{SandboxKernelManager.__module__}.{SandboxKernelManager.__name__}"

    @default("buffer_offline_messages")
    def _default_buffer_offline_messages(self) -> bool:
        return False

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
