"""The package in the workspace: replaced whole, never through a link, with what is not ours left alone."""

from __future__ import annotations

import json
import os
import pydoc
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from apigen_support import Workspace, obj, workspace_of

from ipybox_sandbox.apigen import package, worker
from ipybox_sandbox.apigen.module import Tool
from ipybox_sandbox.apigen.package import write_package

ROOT = Path(__file__).parents[1]
WORKER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from ipybox_sandbox.apigen.worker import main
main()
"""
LOCK_HOLDER = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
ONE = Tool("tool-1", "tool_1", "Does one thing.\nAnd more.", obj({"x": {"type": "string"}}))
TWO = Tool("tool-2", "tool_2", "Does another.", obj({"y": {"type": "string"}}))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    yield from workspace_of(tmp_path, monkeypatch)


def files(workspace: Workspace) -> set[str]:
    return {path.name for path in (workspace.path / "mcptools/srv").iterdir()}


def write(workspace: Workspace, *tools: Tool) -> list[tuple[str, str | None]]:
    return write_package(str(workspace.path), "srv", tools)


def test_a_package_is_an_index_and_its_modules(workspace: Workspace) -> None:
    assert write(workspace, ONE, TWO) == [("tool_1", None), ("tool_2", None)]
    assert files(workspace) == {"__init__.py", "tool_1.py", "tool_2.py", ".ipybox.json"}
    assert os.listdir(workspace.path / "mcptools") == ["srv"]
    assert (workspace.path / "mcptools/srv/tool_1.py").stat().st_mode & 0o777 == 0o666 & ~_umask()
    module = workspace.imported("srv")
    assert "tool_1: Does one thing.\n" in (module.__doc__ or "")
    assert "tool_2: Does another." in pydoc.render_doc(module)
    assert "tool_1" not in vars(module)
    assert module.tool_1.Params(x="a").x == "a"
    with pytest.raises(AttributeError):
        _ = module.tool_3


def test_both_ways_of_importing(workspace: Workspace) -> None:
    write(workspace, ONE)
    workspace.forget()
    names: dict[str, object] = {}
    exec("from mcptools.srv import tool_1\nfrom mcptools.srv.tool_1 import Params, run", names)
    assert {"tool_1", "Params", "run"} <= names.keys()


def test_no_tools_is_a_package_too(workspace: Workspace) -> None:
    assert write(workspace) == []
    assert workspace.imported("srv").__doc__


@pytest.mark.parametrize(
    "name", ["load_tool_module", "modules", "sys", "name", "types", "srv", "ipybox_sandbox", "annotations"]
)
def test_a_tool_may_be_called_like_anything_in_the_index(workspace: Workspace, name: str) -> None:
    write(workspace, Tool(name, name, "", obj({})))
    assert workspace.imported("srv").__getattr__(name).Params() is not None


def test_files_that_are_not_ours_survive_another_registration(workspace: Workspace) -> None:
    write(workspace, ONE, TWO)
    here = workspace.path / "mcptools/srv"
    (here / "mine.py").write_text("mine")
    (here / "copy.py").write_text((here / "tool_1.py").read_text())
    (here / "data").mkdir()
    (here / "data/x").write_text("x")
    (here / "link").symlink_to("/etc/passwd")
    (here / "__pycache__").mkdir()
    write(workspace, ONE)
    assert files(workspace) == {"__init__.py", "tool_1.py", ".ipybox.json", "mine.py", "copy.py", "data", "link"}
    assert (here / "data/x").read_text() == "x"
    assert os.listdir(workspace.path / "mcptools") == ["srv"]


def test_what_stands_in_the_way_or_was_edited_is_kept_beside(workspace: Workspace) -> None:
    here = workspace.path / "mcptools/srv"
    here.mkdir(parents=True)
    (here / "tool_1.py").write_text("mine")
    write(workspace, ONE)
    assert (here / "tool_1.py.kept").read_text() == "mine"
    with (here / "tool_1.py").open("a") as file:
        file.write("# edited\n")
    write(workspace, ONE, TWO)
    assert (here / "tool_1.py.kept2").read_text().endswith("# edited\n")
    assert "# edited" not in (here / "tool_1.py").read_text()
    write(workspace, TWO)
    assert {"tool_1.py.kept", "tool_1.py.kept2"} < files(workspace)


def test_files_of_earlier_versions_are_replaced(workspace: Workspace) -> None:
    here = workspace.path / "mcptools/srv"
    here.mkdir(parents=True)
    (here / "__init__.py").write_text("from mcpygen.tool_exec.client import ToolRunner\nCLIENT = 1\n")
    (here / "tool_1.py").write_text("from . import CLIENT\n")
    write(workspace, ONE)
    assert files(workspace) == {"__init__.py", "tool_1.py", ".ipybox.json"}


def test_what_has_not_changed_is_not_generated_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    write(workspace, ONE, TWO)
    before = (workspace.path / "mcptools/srv").stat().st_ino
    asked: list[str] = []
    generate = package.generate_modules
    monkeypatch.setattr(
        package,
        "generate_modules",
        lambda server, tools: asked.extend(t.name for t in tools) or generate(server, tools),
    )
    write(workspace, ONE, TWO)
    assert (asked, (workspace.path / "mcptools/srv").stat().st_ino) == ([], before)
    write(workspace, ONE, Tool("tool-2", "tool_2", "Changed.", TWO.input_schema))
    assert asked == ["tool-2"]


@pytest.mark.parametrize(
    "planted",
    [
        "{",
        "[]",
        '{"files": {"../../x": 1}}',
        '{"files": {"tool_1.py": {"sha256": 1, "origin": [], "fallback": {}}}}',
        "[" * 100_000,
    ],
)
def test_a_planted_manifest_changes_nothing(workspace: Workspace, planted: str) -> None:
    write(workspace, ONE)
    (workspace.path / "mcptools/srv/.ipybox.json").write_text(planted)
    assert write(workspace, ONE) == [("tool_1", None)]
    assert workspace.imported("srv.tool_1").Params(x="a").x == "a"


@pytest.mark.parametrize("where", ["mcptools", "mcptools/srv"])
def test_links_are_not_followed(workspace: Workspace, tmp_path: Path, where: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tool_1.py").write_text("precious")
    link = workspace.path / where
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        write(workspace, ONE)
    assert {path.name: path.read_text() for path in elsewhere.iterdir()} == {"tool_1.py": "precious"}


def test_links_and_devices_in_place_of_files_are_neither_read_nor_written(workspace: Workspace, tmp_path: Path) -> None:
    write(workspace, ONE)
    here = workspace.path / "mcptools/srv"
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("tool_1.py", "__init__.py", ".ipybox.json"):
        (here / name).unlink()
        (here / name).symlink_to(precious)
    os.mkfifo(here / "tool_2.py")
    write(workspace, ONE, TWO)
    assert precious.read_text() == "precious"
    assert all(
        (here / name).is_file() and not (here / name).is_symlink()
        for name in ("tool_1.py", "tool_2.py", ".ipybox.json")
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "", "__init__", "a b", "x.y", "é", "1a", "a" * 300])
def test_a_name_that_is_no_module_name_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(ValueError, match="not a module name"):
        write_package(str(workspace.path), name, [])
    with pytest.raises(ValueError, match="not a module name"):
        write(workspace, Tool("t", name, "", {}))
    assert not (workspace.path / "mcptools").exists()


def test_the_package_is_whole_at_every_moment(workspace: Workspace) -> None:
    write(workspace, ONE)
    stop, looks = threading.Event(), list[str]()

    def watch() -> None:
        while not stop.is_set():
            looks.append((workspace.path / "mcptools/srv/tool_1.py").read_text()[-20:])

    with ThreadPoolExecutor(1) as pool:
        watched = pool.submit(watch)
        for number in range(20):
            write(workspace, ONE, *([TWO] if number % 2 else []))
        stop.set()
        watched.result()
    assert len(set(looks)) == 1


def test_where_directories_cannot_be_exchanged_the_result_is_the_same(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(name)

    monkeypatch.setattr(package.ctypes, "CDLL", lambda *_args, **_kwargs: Library())
    write(workspace, ONE)
    (workspace.path / "mcptools/srv/mine.py").write_text("mine")
    write(workspace, TWO)
    assert files(workspace) == {".ipybox.json", "__init__.py", "tool_2.py", "mine.py"}
    assert os.listdir(workspace.path / "mcptools") == ["srv"]


def test_what_a_killed_run_left_is_cleared_and_what_is_the_users_comes_back(workspace: Workspace) -> None:
    write(workspace, ONE)
    leftover = workspace.path / "mcptools/.srv.0123456789ab"
    leftover.mkdir()
    (leftover / ".ipybox.json").write_text(
        json.dumps({"files": {"old.py": {"sha256": "", "origin": "", "fallback": None}}})
    )
    (leftover / "old.py").write_text("ours")
    (leftover / "mine.py").write_text("mine")
    write(workspace, ONE)
    assert os.listdir(workspace.path / "mcptools") == ["srv"]
    assert files(workspace) == {".ipybox.json", "__init__.py", "tool_1.py", "mine.py"}


def test_the_first_import_loads_nothing_large_beside_pydantic(workspace: Workspace) -> None:
    write(workspace, ONE)
    large = ("IPython", "datamodel_code_generator", "requests", "aiohttp")
    code = f"import sys, mcptools.srv.tool_1\nprint(set({large}) & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{workspace.path}"}
    assert _run(code, environment).strip() == "set()"


class Worker:
    """The generator as the gateway runs it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def receive(self) -> object:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())

    def ask(self, line: str) -> object:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.receive()

    def close(self) -> int:
        self._process.communicate()
        return self._process.returncode


@pytest.fixture
def generator() -> Iterator[Worker]:
    process = Worker()
    yield process
    process.close()


def test_the_worker_answers_line_by_line_and_ends_with_its_input(workspace: Workspace, generator: Worker) -> None:
    assert generator.receive() == {"ready": True}
    tools = [{"name": "a", "module": "a", "inputSchema": {}, "outputSchema": None}]
    request = {"id": 1, "workspace": str(workspace.path), "server": "srv", "tools": tools}
    assert generator.ask(json.dumps(request)) == {"id": 1, "result": {"modules": [{"module": "a", "fallback": None}]}}
    assert generator.ask("nonsense") == {
        "id": None,
        "error": "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    }
    assert generator.ask('{"id": 2}') == {"id": 2, "error": "malformed request: KeyError 'workspace'"}
    assert generator.ask("[" * 200_000)["id"] is None  # type: ignore[index]
    absent = {**request, "id": 3, "workspace": str(workspace.path / "absent")}
    assert "No such file" in generator.ask(json.dumps(absent))["error"]  # type: ignore[index]
    assert generator.close() == 0


def test_a_writer_that_never_ends_does_not_block_for_ever(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workspace, ONE)
    argv = [sys.executable, "-c", LOCK_HOLDER, str(workspace.path / "mcptools")]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    monkeypatch.setattr(worker, "DEADLINE_SECONDS", 0.2)
    previous = worker.signal.signal(worker.signal.SIGALRM, worker._raise_deadline)
    try:
        answer = worker.answer(
            json.dumps({"id": 1, "workspace": str(workspace.path), "server": "srv", "tools": []}).encode()
        )
        assert answer == {"id": 1, "error": "API generation took more than 0 s"}
    finally:
        worker.signal.signal(worker.signal.SIGALRM, previous)
        holder.communicate()


def _run(code: str, environment: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
