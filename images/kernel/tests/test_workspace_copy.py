"""The sandbox's end of a copied workspace."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ipybox_sandbox import workspace_copy
from ipybox_sandbox.workspace_copy import Limits, WorkspaceCopy

LIMITS = Limits(entries=1000, file_bytes=1_000_000, bytes=10_000_000)


def ask(copy: WorkspaceCopy, applied: bool = True, limits: Limits = LIMITS) -> list[str]:
    """The entries of an answer, as `type path` and what else counts."""
    return parse(b"".join(copy.changes(applied, limits)))


def parse(data: bytes) -> list[str]:
    entries = []
    while data:
        line, _, data = data.partition(b"\n")
        entry: dict[str, Any] = json.loads(line)
        words = [entry["type"], *(str(entry[key]) for key in ("path", "target", "why", "complete") if key in entry)]
        if entry["type"] == "file":
            content, data = data[: entry["size"]], data[entry["size"] :]
            words.append(content.decode())
        entries.append(" ".join(words))
    return entries


def tell(copy: WorkspaceCopy, *entries: dict[str, Any] | str) -> list[str]:
    """What was refused of these changes of the host's, which arrive byte by byte."""
    stream = "".join(entry if isinstance(entry, str) else json.dumps(entry) + "\n" for entry in entries)
    receiver = copy.receive(applied=True)
    for byte in stream.encode():
        receiver.feed(bytes([byte]))
    receiver.close()
    return receiver.refused


def file(path: str, content: str = "", mode: int = 0o644) -> tuple[dict[str, Any], str]:
    return {"type": "file", "path": path, "mode": mode, "mtimeMs": 1_700_000_000_000, "size": len(content)}, content


@pytest.fixture
def copy(tmp_path: Path) -> WorkspaceCopy:
    return WorkspaceCopy(str(tmp_path))


def test_what_the_host_sends_is_written_and_not_sent_back(copy: WorkspaceCopy, tmp_path: Path) -> None:
    refused = tell(
        copy,
        {"type": "directory", "path": "a"},
        *file("a/b", "text", 0o755),
        *file("empty"),
        {"type": "link", "path": "l", "target": "a/b"},
    )
    assert refused == []
    assert (tmp_path / "l").read_text() == "text"
    info = (tmp_path / "a/b").stat()
    assert (info.st_mode & 0o7777, info.st_mtime) == (0o755, 1_700_000_000)
    assert sorted(os.listdir(tmp_path)) == ["a", "empty", "l"]
    assert ask(copy) == ["end True"]
    tell(copy, {"type": "gone", "path": "l"}, {"type": "gone", "path": "a/b"}, {"type": "gone", "path": "a"})
    assert os.listdir(tmp_path) == ["empty"]
    assert ask(copy) == ["end True"]


def test_what_cells_do_is_told_once(copy: WorkspaceCopy, tmp_path: Path) -> None:
    tell(copy, *file("kept", "1"), *file("changed", "1"), *file("removed"), *file("d/inside"), *file("kind"))
    ask(copy)
    (tmp_path / "changed").write_text("22")
    (tmp_path / "removed").unlink()
    (tmp_path / "d/inside").unlink()
    (tmp_path / "d").rmdir()
    (tmp_path / "kind").unlink()
    (tmp_path / "kind").mkdir()
    (tmp_path / "kind/new").write_text("3")
    (tmp_path / "l").symlink_to("kind/new")
    told = ask(copy)
    assert told[:4] == ["gone removed", "gone kind", "gone d/inside", "gone d"]
    assert sorted(told[4:]) == ["directory kind", "end True", "file changed 22", "file kind/new 3", "link l kind/new"]
    assert ask(copy) == ["end True"]


def test_what_the_host_did_not_apply_is_told_again(copy: WorkspaceCopy, tmp_path: Path) -> None:
    tell(copy, *file("x", "1"))
    (tmp_path / "x").unlink()
    (tmp_path / "y").write_text("2")
    assert ask(copy) == ["gone x", "file y 2", "end True"]
    assert ask(copy, applied=False) == ["gone x", "file y 2", "end True"]
    assert ask(copy) == ["end True"]


def test_an_answer_that_was_not_read_to_its_end_is_none(copy: WorkspaceCopy, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).write_text("x" * 100_000)
    next(copy.changes(False, LIMITS))
    assert len(ask(copy, applied=True)) == 21


def test_what_changed_on_both_sides_is_refused_and_told(copy: WorkspaceCopy, tmp_path: Path) -> None:
    tell(copy, *file("changed", "1"), *file("gone", "1"))
    for name in ("changed", "gone", "new"):
        (tmp_path / name).write_text("by a cell")
    refused = tell(
        copy, {"type": "gone", "path": "gone"}, *file("changed", "host"), *file("new", "host"), *file("new/x")
    )
    assert refused == ["gone", "changed", "new", "new/x"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"by a cell"}
    assert sorted(ask(copy)) == [
        "end True",
        *(f"file {name} by a cell" for name in ("changed", "gone", "new")),
    ]


def test_a_directory_that_got_new_content_stays_and_is_told(copy: WorkspaceCopy, tmp_path: Path) -> None:
    tell(copy, {"type": "directory", "path": "d"})
    (tmp_path / "d/new").write_text("x")
    assert tell(copy, {"type": "gone", "path": "d"}) == []
    assert ask(copy) == ["directory d", "file d/new x", "end True"]


def test_what_is_too_large_or_special_is_named_once(copy: WorkspaceCopy, tmp_path: Path) -> None:
    os.truncate(os.open(tmp_path / "sparse", os.O_CREAT | os.O_WRONLY), 100 * 2**30)
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tmp_path)
        listener.bind("socket")
    (tmp_path / "fine").write_text("x")
    told = sorted(ask(copy))
    assert told == ["end True", "file fine x", "left fifo special", "left socket special", "left sparse too-large"]
    assert ask(copy) == ["end True"]


def test_what_is_too_much_at_once_comes_later(copy: WorkspaceCopy, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name * 10)
    limits = LIMITS._replace(bytes=25)
    first = ask(copy, limits=limits)
    assert [entry.split(" ")[0] for entry in first] == ["file", "file", "left", "end"]
    assert ask(copy, limits=limits)[0].startswith("file")
    assert ask(copy, limits=limits) == ["end True"]


def test_too_many_files_end_the_look_and_nothing_is_told_to_be_gone(copy: WorkspaceCopy, tmp_path: Path) -> None:
    tell(copy, *file("known"))
    (tmp_path / "known").unlink()
    for number in range(20):
        (tmp_path / str(number)).write_text("")
    told = ask(copy, limits=LIMITS._replace(entries=10))
    assert len(told) == 11
    assert told[-1] == "end False"
    assert "gone known" in ask(copy)


def test_a_directory_that_cannot_be_read_is_named_once_and_nothing_in_it_is_told_to_be_gone(
    copy: WorkspaceCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(copy, *file("d/e/x"), *file("gone"))
    ask(copy)
    (tmp_path / "gone").unlink()

    def refuse(name: str, parent: int | None = None) -> int:  # as the file system does, but to root
        if name == "d":
            raise PermissionError
        return open_directory(name, parent)

    open_directory = workspace_copy._open_directory
    with monkeypatch.context() as patched:
        patched.setattr(workspace_copy, "_open_directory", refuse)
        assert ask(copy) == ["gone gone", "directory d", "left d unreadable", "end True"]
        assert ask(copy) == ["end True"]
    (tmp_path / "d/e/x").unlink()
    assert ask(copy) == ["gone d/e/x", "directory d", "end True"]


def test_a_file_that_shrinks_while_it_is_sent_has_its_announced_length_and_comes_again(
    copy: WorkspaceCopy, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * 900_000)
    blocks = copy.changes(True, LIMITS)
    data = next(blocks)
    path.write_bytes(b"y")
    data += b"".join(blocks)
    header, _, content = data.partition(b"\n")
    assert len(content) - len(b'{"type": "end", "complete": true}\n') == json.loads(header)["size"]
    assert ask(copy) == ["file x y", "end True"]


def test_links_are_told_not_followed(copy: WorkspaceCopy, tmp_path: Path) -> None:
    (tmp_path / "passwd").symlink_to("/etc/passwd")
    (tmp_path / "etc").symlink_to("/etc")
    assert sorted(ask(copy)) == ["end True", "link etc /etc", "link passwd /etc/passwd"]


def test_a_directory_that_becomes_a_link_between_look_and_read_is_not_followed(
    copy: WorkspaceCopy, tmp_path: Path
) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "x").write_text("secret")
    (tmp_path / "a").write_bytes(b"a" * 600_000)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_text("fine")
    blocks = copy.changes(True, LIMITS)
    data = next(blocks)
    (tmp_path / "d").rename(tmp_path / "e")
    (tmp_path / "d").symlink_to(outside)
    assert b"secret" not in data + b"".join(blocks)


def test_names_that_are_no_text_cross_as_json(copy: WorkspaceCopy, tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff\n")
    lines = b"".join(copy.changes(True, LIMITS)).splitlines()
    assert json.loads(lines[0])["path"] == "\udcff\n"


def test_a_line_without_end_is_an_error(copy: WorkspaceCopy) -> None:
    with pytest.raises(ValueError, match="too long"):
        copy.receive(True).feed(b"x" * 70_000)


def test_a_stream_that_is_cut_off_leaves_nothing(copy: WorkspaceCopy, tmp_path: Path) -> None:
    receiver = copy.receive(True)
    header, _ = file("x", "12345")
    receiver.feed(json.dumps(header).encode() + b"\n12")
    receiver.close()
    assert os.listdir(tmp_path) == []
