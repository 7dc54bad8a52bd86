"""The Jupyter Kernel Gateway of a sandbox: it listens nowhere, and dials out to the host's socket instead.

Every connection that it makes serves HTTP to the host. Two are kept idle, and another is made when the host takes one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from ipybox_sandbox import process
from ipybox_sandbox.addresses import new_socket
from ipybox_sandbox.paths import Paths

# Before Jupyter is imported: nothing that a cell can write configures the gateway.
os.environ["JUPYTER_NO_CONFIG"] = "1"

from kernel_gateway.gatewayapp import KernelGatewayApp
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, StreamClosedError
from traitlets.config import Config

from ipybox_sandbox.gateway_routes import Events
from ipybox_sandbox.generator import Generator
from ipybox_sandbox.kernels import ForkServerClient, KernelConnection, OneKernelSpec, SandboxKernels
from ipybox_sandbox.workspace_copy import WorkspaceCopy

IDLE_STREAMS = 2
REDIAL_SECONDS = 1.0
MAX_CELL_BYTES = 64 * 1024 * 1024
NEVER_SECONDS = 365 * 24 * 3600.0


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until the host's socket or the fork server is gone."""
    parser = argparse.ArgumentParser(prog="ipybox-gateway", description=__doc__)
    parser.add_argument("--fork-server-fd", type=int, required=True)
    parser.add_argument("--token-fd", type=int, required=True, help="a pipe that holds the token")
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--proxy-port", type=int, help="the forwarder to the host's proxy, on 127.0.0.1")
    Paths.add_options(parser)
    options = parser.parse_args(argv)
    process.die_with(os.getppid())
    process.forbid_inspection()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(options.token_fd) as pipe:
        token = pipe.read()
    paths = Paths.from_options(options)
    # In place of a configuration Jupyter makes an empty directory, which nobody removes: here it goes with the sandbox.
    tempfile.tempdir = paths.kernels
    app = DialOutGateway(
        paths=paths,
        fork_server=socket.socket(fileno=options.fork_server_fd),
        token=token,
        workspace=options.workspace,
        proxy_port=options.proxy_port,
    )
    app.initialize([])
    app.start()


class DialOutGateway(KernelGatewayApp):
    """The Kernel Gateway with the sandbox's kernels, routes and connections."""

    def __init__(
        self, paths: Paths, fork_server: socket.socket, token: str, workspace: str, proxy_port: int | None
    ) -> None:
        super().__init__(
            config=Config(
                {
                    "Session": {"key": b""},  # the directory of the sockets is the user's alone
                    # Who has to give the host loopback ports is refused unix sockets, and has a loopback of its own.
                    "KernelManager": {"transport": "tcp" if paths.on_loopback else "ipc"},
                }
            ),
            api="ipybox_sandbox.gateway_routes",
            log_level=logging.ERROR,
            runtime_dir=paths.kernels,
            cookie_secret=os.urandom(32),
            ws_ping_interval=0,
            kernel_manager_class=SandboxKernels,
            kernel_spec_manager_class=OneKernelSpec,
            kernel_websocket_connection_class=KernelConnection,
        )
        self._paths = paths
        self._fork_server = fork_server
        self._token = token
        self._workspace = workspace
        self._kernel_environment = proxy_environment(proxy_port, paths) if proxy_port else {}
        self._events = Events()
        self._tasks: set[asyncio.Task[Any]] = set()

    def load_config_file(self, suppress_errors: bool = True) -> None:
        """None: everything is set above."""

    def init_signal(self) -> None:
        """Signals keep their meaning: there is nothing to save."""

    def init_webapp(self) -> None:
        super().init_webapp()
        self.web_app.settings.update(
            ipybox_events=self._events,
            ipybox_workspace=self._workspace,
            ipybox_copy=WorkspaceCopy(self._workspace),
            ipybox_kernel_environment=self._kernel_environment,
            websocket_max_message_size=MAX_CELL_BYTES,
        )

    def init_http_server(self) -> None:
        self.http_server = HTTPServer(self.web_app, idle_connection_timeout=NEVER_SECONDS)

    def start(self) -> None:
        self.io_loop.add_callback(self._connect)
        self.io_loop.start()

    async def _connect(self) -> None:
        server = ForkServerClient(self._fork_server, self._on_kernel_exit)
        self.kernel_manager.fork_server = server
        self.web_app.settings["ipybox_generator"] = Generator()
        self._spawn(self._serve_kernels(server))
        for _ in range(IDLE_STREAMS):
            self._spawn(self._dial())

    async def _serve_kernels(self, server: ForkServerClient) -> None:
        await server.run()
        self.io_loop.stop()

    async def _dial(self) -> None:
        """Makes one idle stream, and arranges for its successor."""
        connection, target = new_socket(self._paths.gateway_address)
        stream = DialledStream(connection, on_taken=lambda: self._spawn(self._dial()))
        try:
            await stream.connect(target)
            await stream.write(json.dumps({"role": "gateway", "token": self._token}).encode() + b"\n")
        except StreamClosedError as error:
            self.log.error("the host's socket is gone: %s", error.real_error)
            self.io_loop.stop()
            return
        stream.on_closed_idle = lambda: IOLoop.current().call_later(REDIAL_SECONDS, self._spawn, self._dial())
        self.http_server.handle_stream(stream, self._paths.gateway_address)

    def _on_kernel_exit(self, kernel_id: str, cause: dict[str, Any]) -> None:
        self._spawn(self._forget(kernel_id, cause))

    async def _forget(self, kernel_id: str, cause: dict[str, Any]) -> None:
        try:
            await self.kernel_manager.forget(kernel_id)
        finally:
            self._events.publish({"event": "kernel-exited", "kernelId": kernel_id, "cause": cause})

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)


def proxy_environment(port: int, paths: Paths) -> dict[str, str]:
    """How programs learn of the host's proxy, and whom to trust behind it."""
    proxy = f"http://127.0.0.1:{port}"
    variables = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": "localhost,127.0.0.1"}
    environment = {name: value for upper, value in variables.items() for name in (upper, upper.lower())}
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
    return environment | dict.fromkeys(names, paths.ca_bundle)


class DialledStream(IOStream):
    """A connection to the host, idle until its first byte arrives."""

    def __init__(self, connection: socket.socket, on_taken: Callable[[], None]) -> None:
        super().__init__(connection)
        self._on_taken: Callable[[], None] | None = on_taken
        self.on_closed_idle: Callable[[], Any] | None = None

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        count: int | None = super().read_from_fd(buf)
        if count and self._on_taken is not None:
            on_taken, self._on_taken, self.on_closed_idle = self._on_taken, None, None
            on_taken()
        return count

    def _signal_closed(self) -> None:
        super()._signal_closed()
        on_closed, self.on_closed_idle = self.on_closed_idle, None
        if on_closed is not None:
            on_closed()


if __name__ == "__main__":
    main()
