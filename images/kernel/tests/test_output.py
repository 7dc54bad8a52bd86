"""The publishing thread of a kernel."""

from __future__ import annotations

import threading

import zmq
from jupyter_client.session import Session

from ipybox_sandbox.output import OutputThread


def test_a_subscriber_that_arrives_while_the_thread_is_busy_sending_is_greeted() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher, context.socket(zmq.SUB) as subscriber:
        publisher.xpub_verbose = True
        publisher.bind("inproc://iopub")
        thread = OutputThread(publisher, Session(key=b""))
        thread.start()
        is_busy = threading.Event()

        def be_busy() -> None:
            is_busy.set()
            publisher.poll(10_000)  # until the subscription is there; takes the descriptor's signal, as a send can
            thread._really_send([b"topic", b"message"])

        thread.schedule(be_busy)
        is_busy.wait()
        subscriber.connect("inproc://iopub")
        subscriber.subscribe(b"")
        heard = b""
        while b"iopub_welcome" not in heard:
            assert subscriber.poll(10_000), "not greeted"
            heard = b"".join(subscriber.recv_multipart())
        thread.stop()
