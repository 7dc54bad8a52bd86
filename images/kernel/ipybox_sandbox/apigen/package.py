"""`mcptools/<server>/` in the workspace: written beside, put in place in one step, never through a link.

Cells write in the same tree at the same time, so every path is one name below a directory that is held open, and
links are never followed. A manifest says which files are ours; all others survive. It also says what each module was
made from, so that a module whose tool has not changed is taken over as it stands.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipybox_sandbox.apigen.module import MAX_SOURCE_CHARS, Tool, generate_modules
from ipybox_sandbox.apigen.text import docstring, literal, readable

TOOLS_DIRECTORY = "mcptools"
MANIFEST = ".ipybox.json"
# Part of what a module is made from: raise it when the same schema gives another module.
GENERATOR_VERSION = 7

_MAX_MANIFEST_BYTES = 4_000_000
_MAX_FILE_BYTES = 4 * MAX_SOURCE_CHARS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ORIGINAL_MARKS = (b"from mcpygen.tool_exec.client import ToolRunner", b"from . import CLIENT")
_RENAME_EXCHANGE = 2


@dataclass(frozen=True)
class _Entry:
    """A file of ours: the hash of its content, and of what it was made from."""

    sha256: str
    origin: str
    fallback: str | None


def write_package(workspace: str, server: str, tools: Sequence[Tool]) -> list[tuple[str, str | None]]:
    """Replaces the package of a server; returns each module's name and why it is partly untyped, in order.

    Files of the package that are not ours stay; one that is in the way of a module, or a module that was edited by
    hand, is kept beside it as `<name>.kept`.

    Raises:
        OSError: where the workspace can't be written, or `mcptools` or the package is a link.
        ValueError: for names that are no module names.
    """
    _check_names(server, tools)
    with _opened(workspace) as root, _made(root, TOOLS_DIRECTORY) as parent:
        fcntl.flock(parent, fcntl.LOCK_EX)  # until it is closed
        _sweep(parent, server)
        with _existing(parent, server) as old:
            known = _read_manifest(old)
            files, entries, modules = _generate(server, tools, old, known)
            if old is not None and known == entries and all(_intact(old, name, known) for name in known):
                return modules
            staging = f".{server}.{secrets.token_hex(6)}"
            with _made(parent, staging) as new:
                _write(new, MANIFEST, _to_manifest(entries))
                for name, content in files.items():
                    _write(new, name, content)
                if old is None:
                    os.rename(staging, server, src_dir_fd=parent, dst_dir_fd=parent)
                    return modules
                _keep_edited(old, new, known, entries)
                _swap(parent, staging, server)
                _retire(parent, staging, old, new)
    return modules


def _check_names(server: str, tools: Sequence[Tool]) -> None:
    names = [server, *(tool.module for tool in tools)]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", name) or re.fullmatch(r"__.*__", name):
            raise ValueError(f"not a module name: {name[:100]!r}")
    if len({tool.module for tool in tools}) != len(tools):
        raise ValueError("two tools have the same module name")


def _generate(
    server: str, tools: Sequence[Tool], old: int | None, known: Mapping[str, _Entry]
) -> tuple[dict[str, bytes], dict[str, _Entry], list[tuple[str, str | None]]]:
    files: dict[str, bytes] = {"__init__.py": _init_source(server, tools).encode()}
    entries = {"__init__.py": _Entry(_sha256(files["__init__.py"]), "", None)}
    origins = {tool.module: _origin(server, tool) for tool in tools}
    for tool in tools:
        name = f"{tool.module}.py"
        entry = known.get(name)
        content = _read(old, name, _MAX_FILE_BYTES) if old is not None and entry is not None else None
        if entry is not None and entry.origin == origins[tool.module] and _sha256(content or b"") == entry.sha256:
            files[name], entries[name] = content or b"", entry
    missing = [tool for tool in tools if f"{tool.module}.py" not in files]
    for tool, module in zip(missing, generate_modules(server, missing), strict=True):
        name, content = f"{tool.module}.py", module.source.encode()
        files[name], entries[name] = content, _Entry(_sha256(content), origins[tool.module], module.fallback)
    return files, entries, [(tool.module, entries[f"{tool.module}.py"].fallback) for tool in tools]


def _init_source(server: str, tools: Sequence[Tool]) -> str:
    index = [f"{tool.module}: {tool.summary}" if tool.summary else tool.module for tool in tools]
    lines = [
        f"Tools of the MCP server {server}, one module each:",
        "",
        *(f"    {line}" for line in index),
        "",
        f"    from mcptools.{server}.<tool> import Params, run",
        "    result = run(Params(...))  # or: await arun(Params(...))",
    ]
    names = ", ".join(literal(tool.module) for tool in tools)
    return (
        f"{docstring(readable(chr(10).join(lines)))}\n\n"
        # Capitals, since modules of tools are lower case: an import here would hide a tool of that name.
        "from types import ModuleType as _MODULE\n\n"
        "from ipybox_sandbox.toolapi import load_tool_module as _LOAD\n\n"
        f"_TOOLS = [{names}]\n\n\n"
        "def __getattr__(name: str) -> _MODULE:\n"
        "    return _LOAD(__name__, name, _TOOLS)\n"
    )


def _origin(server: str, tool: Tool) -> str:
    made_from = [
        GENERATOR_VERSION, server, tool.name, tool.module, tool.description, tool.input_schema, tool.output_schema,
    ]  # fmt: skip
    return _sha256(json.dumps(made_from).encode())


# --- the exchange ---


def _keep_edited(old: int, new: int, known: Mapping[str, _Entry], entries: Mapping[str, _Entry]) -> None:
    """Saves what is about to be replaced though it is not as we wrote it."""
    for name in sorted({*known, *entries}):
        content = _read(old, name, _MAX_FILE_BYTES)
        if content is None or (name in known and _sha256(content) == known[name].sha256):
            continue
        if name in known or not any(mark in content for mark in _ORIGINAL_MARKS):
            _write(new, _free_name(old, new, f"{name}.kept"), content)


def _free_name(old: int, new: int, name: str) -> str:
    number = 1
    candidate = name
    while _exists(old, candidate) or _exists(new, candidate):
        number += 1
        candidate = f"{name}{number}"
    return candidate


def _swap(parent: int, staging: str, server: str) -> None:
    """Afterwards each name has the other's directory."""
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError):  # a C library without it
        if libc.renameat2(parent, os.fsencode(staging), parent, os.fsencode(server), _RENAME_EXCHANGE) == 0:
            return
        problem = ctypes.get_errno()
        if problem not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(problem, os.strerror(problem), server)
    # File systems that can't exchange, those of desktop virtual machines among them: two steps, nothing half-written.
    aside = f"{staging}.new"
    os.rename(staging, aside, src_dir_fd=parent, dst_dir_fd=parent)
    os.rename(server, staging, src_dir_fd=parent, dst_dir_fd=parent)
    os.rename(aside, server, src_dir_fd=parent, dst_dir_fd=parent)


def _retire(parent: int, name: str, old: int, package: int) -> None:
    """Moves what is not ours from a replaced directory into the package, and removes the rest."""
    ours = {*_read_manifest(old), MANIFEST}
    for entry in os.listdir(old):
        if entry == "__pycache__":
            shutil.rmtree(entry, ignore_errors=True, dir_fd=old)
        elif not stat.S_ISDIR(_mode(old, entry)) and (entry in ours or _exists(package, entry)):
            os.unlink(entry, dir_fd=old)
        elif not _exists(package, entry):
            os.rename(entry, entry, src_dir_fd=old, dst_dir_fd=package)
    with contextlib.suppress(OSError):  # something of the user's has no place in the package: it stays here
        os.rmdir(name, dir_fd=parent)


def _sweep(parent: int, server: str) -> None:
    """Finishes what an earlier run that was killed left behind."""
    pattern = re.compile(rf"\.{re.escape(server)}\.[0-9a-f]{{12}}(\.new)?")
    for name in os.listdir(parent):
        if pattern.fullmatch(name) and stat.S_ISDIR(_mode(parent, name)):
            if not _exists(parent, server):
                os.rename(name, server, src_dir_fd=parent, dst_dir_fd=parent)
                continue
            with _opened(name, parent) as leftover, _opened(server, parent) as package:
                _retire(parent, name, leftover, package)


# --- the manifest ---


def _to_manifest(entries: Mapping[str, _Entry]) -> bytes:
    files = {name: {"sha256": e.sha256, "origin": e.origin, "fallback": e.fallback} for name, e in entries.items()}
    about = "Files that ipybox wrote here, and may replace. Others are left alone."
    return json.dumps({"about": about, "files": files}, indent=1).encode()


def _read_manifest(directory: int | None) -> dict[str, _Entry]:
    content = None if directory is None else _read(directory, MANIFEST, _MAX_MANIFEST_BYTES)
    if content is None:
        return {}
    try:
        return {name: _to_entry(entry) for name, entry in json.loads(content)["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}  # not as we wrote it: then no file is known to be ours


def _to_entry(entry: Any) -> _Entry:
    fallback = entry["fallback"]
    return _Entry(str(entry["sha256"]), str(entry["origin"]), None if fallback is None else str(fallback)[:1_000])


def _intact(directory: int, name: str, known: Mapping[str, _Entry]) -> bool:
    content = _read(directory, name, _MAX_FILE_BYTES)
    return content is not None and _sha256(content) == known[name].sha256


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- one name below an open directory ---


@contextlib.contextmanager
def _opened(name: str, parent: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _made(parent: int, name: str) -> Iterator[int]:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o777, dir_fd=parent)
    with _opened(name, parent) as descriptor:
        yield descriptor


@contextlib.contextmanager
def _existing(parent: int, name: str) -> Iterator[int | None]:
    if _exists(parent, name):
        with _opened(name, parent) as descriptor:
            yield descriptor
    else:
        yield None


def _write(directory: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o666, dir_fd=directory), "wb") as file:
        file.write(content)


def _read(directory: int, name: str, limit: int) -> bytes | None:
    """Content of a regular file of at most `limit` bytes; None for anything else."""
    if "/" in name or "\0" in name:
        return None
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except (OSError, UnicodeEncodeError):
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        return file.read(limit) if stat.S_ISREG(status.st_mode) and status.st_size <= limit else None


def _exists(directory: int, name: str) -> bool:
    return _mode(directory, name) != 0


def _mode(directory: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0
