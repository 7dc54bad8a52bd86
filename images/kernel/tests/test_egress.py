"""The way out of a session, where the host offers one."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

from conftest import run_init

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
FETCH = "import urllib.request; print(urllib.request.urlopen('http://example.org/x').read())"
ORDER = {"mode": "session", "egress": {"caBundle": "certificates"}}
VARIABLES = (
    "import os; print(sorted(n for n in os.environ if 'proxy' in n.lower() or os.environ[n].endswith('ca.pem')))"
)


def offer_egress(run: Path) -> None:
    """A proxy of the host that answers everything alike."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(run / "egress.sock"))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as request:
            line = request.readline()
            connection.sendall(ANSWER if line.startswith(b"GET http://example.org/x ") else b"")
        listener.close()

    threading.Thread(target=serve, daemon=True).start()


def test_kernels_find_the_proxy_of_the_host_by_their_environment() -> None:
    with run_init(ORDER, offer_egress) as sandbox:
        kernel = sandbox.host.connect(sandbox.host.start_kernel())
        assert kernel.execute(FETCH).text == "b'hello'\n"


def test_the_variables_are_those_that_programs_know_and_an_order_can_change_them() -> None:
    with run_init(ORDER, offer_egress) as sandbox:
        kernel = sandbox.host.connect(sandbox.host.start_kernel(env={"HTTP_PROXY": "http://other"}))
        names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"]
        trust = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"]
        assert kernel.execute(VARIABLES).text == f"{sorted([*names, *trust])}\n"
        assert kernel.execute("print(os.environ['HTTP_PROXY'])").text == "http://other\n"
        assert kernel.execute("print(open(os.environ['SSL_CERT_FILE']).read())").text == "certificates\n"


def test_without_an_offer_there_is_neither_variable_nor_forwarder() -> None:
    with run_init({"mode": "session"}) as sandbox:
        kernel = sandbox.host.connect(sandbox.host.start_kernel())
        assert kernel.execute(VARIABLES).text == "[]\n"
        assert forwarders_of(sandbox.init.pid) == []


def test_the_end_of_the_forwarder_ends_the_sandbox() -> None:
    with run_init(ORDER, offer_egress) as sandbox:
        sandbox.host.streams.get(timeout=30)
        (pid,) = forwarders_of(sandbox.init.pid)
        os.kill(pid, signal.SIGKILL)
        assert sandbox.init.wait(30) == 1


def forwarders_of(init: int) -> list[int]:
    children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return [int(pid) for pid in children if b"ipybox_sandbox.forwarder" in Path(f"/proc/{pid}/cmdline").read_bytes()]
