"""The pipe that carries what a kernel publishes."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipybox_sandbox import published
from ipybox_sandbox.output import _CapturedDescriptors
from ipybox_sandbox.output_frames import PLENTY_BYTES, FrameReader, FrameWriter, Message, Text
from ipybox_sandbox.published import MAX_UNSENT_BYTES, PublishedOutput, Subscription


class Pipe:
    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.writer = FrameWriter(writing)
        self._writing = writing

    def read_all(self, *writers: threading.Thread) -> list[Text | Message]:
        """What the threads write."""
        reader = FrameReader()
        for thread in writers:
            thread.start()
        closing = threading.Thread(target=self._close_after, args=(writers,))
        closing.start()
        items = [item for data in iter(lambda: os.read(self.reading, 1000), b"") for item in reader.feed(data)]
        closing.join()
        os.close(self.reading)
        return items

    def _close_after(self, writers: tuple[threading.Thread, ...]) -> None:
        for thread in writers:
            thread.join()
        os.close(self._writing)


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


def test_messages_and_text_of_several_threads_arrive_whole_and_in_the_order_of_each(pipe: Pipe) -> None:
    message = [b"topic", b"x" * 50_000, b"", memoryview(b"end")]

    def write(stream: str) -> None:
        for number in range(50):
            pipe.writer.write_text(stream, "cell", f"{number} ä\ud800" + "y" * 5_000 + "\n")
            pipe.writer.write_message(message)

    items = pipe.read_all(*(threading.Thread(target=write, args=(stream,)) for stream in ("stdout", "stderr")))
    expected = "".join(f"{number} ä\\ud800" + "y" * 5_000 + "\n" for number in range(50))
    for stream in ("stdout", "stderr"):
        texts = [item for item in items if isinstance(item, Text) and item.stream == stream]
        assert "".join(item.text for item in texts) == expected
        assert {item.parent for item in texts} == {"cell"}
    assert [item for item in items if isinstance(item, list)] == [[bytes(part) for part in message]] * 100


def test_text_in_a_row_is_one_but_for_another_stream_or_another_cell(pipe: Pipe) -> None:
    def write() -> None:
        for stream, parent, text in (("stdout", "1", "a"), ("stdout", "1", "b"), ("stderr", "1", "c")):
            pipe.writer.write_text(stream, parent, text)
        pipe.writer.write_text("stderr", "2", "d")

    items = pipe.read_all(threading.Thread(target=write))
    assert items == [Text("stdout", "1", "ab"), Text("stderr", "1", "c"), Text("stderr", "2", "d")]


def test_a_message_that_an_interrupt_cut_short_is_dropped_and_the_next_arrives(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write
    calls = iter(range(100))

    def write(descriptor: int, data: bytes) -> int:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(KeyboardInterrupt):
        pipe.writer.write_message([b"x" * 20_000])
    pipe.writer.write_message([b"next"])
    assert pipe.read_all() == [[b"next"]]


def test_what_is_held_goes_with_what_is_written_next_and_in_front_of_it(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: sizes.append(len(data)) or real_write(descriptor, data))
    large, small = [b"large" * 1_000], [b"x" * 1_500]
    for message in (large, small, small, small):
        pipe.writer.hold_message(message)
    pipe.writer.write_text("stdout", "cell", "text")
    assert pipe.read_all() == [large, small, small, small, Text("stdout", "cell", "text")]
    assert len(sizes) == 4 and max(sizes) <= select.PIPE_BUF  # two for the large one, which is not held


class Heard:
    """A listener."""

    def __init__(self) -> None:
        self.messages: list[list[Message]] = []
        self.something = asyncio.Event()

    def __call__(self, _: Subscription, messages: Sequence[Message]) -> None:
        self.messages.append(list(messages))
        self.something.set()


def test_who_writes_waits_for_a_listener_that_does_not_keep_up(tmp_path: Path) -> None:
    path, bell = str(tmp_path / "output"), str(tmp_path / "bell")
    written = 4 * MAX_UNSENT_BYTES

    async def listen() -> int:
        output = PublishedOutput(path, bell)
        writer = FrameWriter(os.open(path, os.O_WRONLY))
        heard = 0
        full = asyncio.Event()
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hear(listener: Subscription, messages: Sequence[Message]) -> None:
            nonlocal heard
            for message in messages:
                heard += len(message[-1])
                listener.await_sent(len(message[-1]), sent)
            if listener.unsent_bytes > MAX_UNSENT_BYTES:
                full.set()

        output.subscribe().on_recv_stream(hear)
        thread = asyncio.to_thread(writer.write_text, "stdout", "cell", "x" * written)
        writing = asyncio.ensure_future(thread)
        await full.wait()
        assert heard < 2 * MAX_UNSENT_BYTES and not writing.done()
        sent.set_result(None)
        await writing
        output.finish()
        return heard

    assert asyncio.run(listen()) == written


def test_what_a_request_brings_about_is_read_at_once_when_the_bell_rings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "FIRST_REST_SECONDS", 3600)
    path, bell = str(tmp_path / "output"), str(tmp_path / "bell")

    async def listen() -> list[list[Message]]:
        output, heard = PublishedOutput(path, bell), Heard()
        output.subscribe().on_recv_stream(heard)
        writer, ringing = FrameWriter(os.open(path, os.O_WRONLY)), os.open(bell, os.O_WRONLY)
        output.expect_reply()
        for message in (b"busy", b"result", b"idle"):
            writer.write_message([message])
            await asyncio.sleep(0)  # a turn of the loop: who waits for the pipe would read
        assert heard.messages == []
        os.write(ringing, b"\0")
        await heard.something.wait()
        output.finish()
        return heard.messages

    assert asyncio.run(listen()) == [[[b"busy"], [b"result"], [b"idle"]]]


def test_who_writes_plenty_rings_and_waits_for_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "FIRST_REST_SECONDS", 3600)
    monkeypatch.setattr(published, "_REST_SECONDS", 3600)
    path, bell = str(tmp_path / "output"), str(tmp_path / "bell")
    written = 64 * PLENTY_BYTES

    async def listen() -> int:
        output, heard = PublishedOutput(path, bell), Heard()
        output.subscribe().on_recv_stream(heard)
        descriptor, ringing = os.open(path, os.O_WRONLY), os.open(bell, os.O_WRONLY)
        writer = FrameWriter(descriptor, on_plenty=lambda: os.write(ringing, b"\0"))
        output.expect_reply()
        await asyncio.to_thread(writer.write_text, "stdout", "cell", "x" * written)
        output.finish()
        return sum(len(message[-1]) for messages in heard.messages for message in messages)

    assert asyncio.run(listen()) == written


def test_what_takes_longer_is_read_without_the_bell(tmp_path: Path) -> None:
    path, bell = str(tmp_path / "output"), str(tmp_path / "bell")

    async def listen() -> list[list[Message]]:
        output, heard = PublishedOutput(path, bell), Heard()
        output.subscribe().on_recv_stream(heard)
        output.expect_reply()
        FrameWriter(os.open(path, os.O_WRONLY)).write_message([b"busy"])
        await heard.something.wait()
        output.finish()
        return heard.messages

    assert asyncio.run(listen()) == [[[b"busy"]]]


def test_what_one_thread_has_read_of_a_program_is_passed_on_before_another_goes_on() -> None:
    passed: list[str] = []
    reading, moved, may_go = threading.Event(), threading.Event(), threading.Event()

    class Pipe:
        def append(self, _stream: object, _parent: object, text: str) -> None:
            reading.set()
            may_go.wait()
            passed.append(text)

    class AnnouncedLock:
        def __init__(self, lock: Any) -> None:
            self._lock = lock

        def __enter__(self) -> None:
            moved.set()
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    captured: Any = _CapturedDescriptors()
    stream: Any = SimpleNamespace(pub_thread=Pipe(), _parent_header_global={})
    descriptors = [os.open(os.devnull, os.O_WRONLY) for _ in range(2)]
    for descriptor in descriptors:
        captured.capture(stream, descriptor)
    os.write(descriptors[0], b"of a program")
    reading.wait()
    captured._lock = AnnouncedLock(captured._lock)
    passed_before: list[str] = []

    def go_on() -> None:
        captured.drain()
        passed_before.extend(passed)
        moved.set()

    other = threading.Thread(target=go_on)
    other.start()
    moved.wait()
    may_go.set()
    other.join()
    assert passed_before == ["of a program"]


def test_what_makes_no_sense_ends_the_output(tmp_path: Path) -> None:
    async def listen() -> list[Message]:
        path = str(tmp_path / "output")
        output = PublishedOutput(path, str(tmp_path / "bell"))
        descriptor = os.open(path, os.O_WRONLY)
        heard: list[Message] = []
        output.subscribe().on_recv_stream(lambda _, messages: heard.extend(messages))
        FrameWriter(descriptor).write_message([b"before"])
        os.write(descriptor, b"\xff" + bytes(6))
        output.finish()
        return heard

    assert asyncio.run(listen()) == [[b"before"]]
