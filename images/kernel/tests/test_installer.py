"""The installer against real uv and an index of the test's own behind a unix socket; no network, no container."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from ipybox_sandbox.installer import delivery
from ipybox_sandbox.installer.generations import current_generation, in_generation, new_generation
from ipybox_sandbox.installer.install import run
from ipybox_sandbox.installer.task import BuildNeededError, InstallError, Paths, Request, Step
from ipybox_sandbox.installer.view import distributions


class Index:
    """Files by name, served as `/index/0/simple/<project>/` and `/files/<name>`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def add_wheel(self, name: str, version: str, files: dict[str, str], requires: tuple[str, ...] = ()) -> str:
        """Make a wheel and offer it."""
        info = f"{name}-{version}.dist-info"
        requirements = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        content = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirements}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},{digest(text.encode())},{len(text.encode())}\n" for path, text in content.items())
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path, text in {**content, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
                archive.writestr(path, text)
        filename = f"{name}-{version}-py3-none-any.whl"
        self.files[filename] = buffer.getvalue()
        return filename

    def page(self, project: str) -> str | None:
        """Return the project's page, or None when there is no such project."""
        names = [name for name in self.files if re.split(r"-\d", name)[0].replace("_", "-") == project]
        links = [
            f'<a href="/files/{name}#sha256={hashlib.sha256(self.files[name]).hexdigest()}">{name}</a>'
            for name in names
        ]
        return "\n".join(links) if links else None


def digest(content: bytes) -> str:
    """Return a hash as RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


class UnixServer(ThreadingMixIn, UnixStreamServer):
    """An HTTP server on a unix socket."""

    daemon_threads = True


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index behind `egress.sock`."""
    offered = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = re.fullmatch(r"/index/0/simple/([^/]+)/", self.path)
            file = offered.files.get(self.path.removeprefix("/files/"))
            text = offered.page(page[1]) if page else None
            body = text.encode() if text is not None else file
            self.send_response(404 if body is None else 200)
            self.send_header("content-type", "text/html" if page else "application/octet-stream")
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with UnixServer(str(tmp_path / "egress.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield offered
        server.shutdown()
        thread.join()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A volume of the test's own, and an image that has one package."""
    image = tmp_path / "image"
    info = image / "frozen-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Frozen\nVersion: 1.0\n")
    (info / "RECORD").write_text("frozen/__init__.py,,\n")
    (image / "frozen").mkdir()
    (image / "frozen" / "__init__.py").write_text("")
    volume = tmp_path / "volume"
    volume.mkdir()
    return Paths(
        volume=volume,
        staging=volume / ".staging-x",
        delivery=tmp_path / "scratch" / "build" / "view",
        egress_address=str(tmp_path / "egress.sock"),
        image_site=image,
    )


def install(request: Request, paths: Paths) -> None:
    """Install as the host does where nothing has to be built."""
    run(request, paths)


def build_and_commit(requirement: str, paths: Paths, *, local: bool = False) -> None:
    """Install as the host does where something has to be built; the first step can't write the volume."""
    build(requirement, paths, local=local)
    run(request(requirement, local=local, step="commit"), paths)


def build(requirement: str, paths: Paths, *, local: bool = False) -> None:
    """Take the first of these steps."""
    scratch = paths.delivery.parent
    scratch.parent.mkdir(exist_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)
    before = snapshot(paths.volume)
    try:
        run(request(requirement, local=local, step="build"), replace(paths, staging=scratch))
    finally:
        assert snapshot(paths.volume) == before


def request(requirement: str, *, local: bool = False, step: Step = "wheels", builds: bool = True) -> Request:
    """Ask for something as the host does."""
    return Request(step=step, requirement=requirement, local=local, indexes=1, hosts=False, builds=builds)


def snapshot(volume: Path) -> dict[str, str]:
    """Return what is in a volume: every file with its content, every link with its target."""
    found = {}
    for path in sorted(volume.rglob("*")):
        name = str(path.relative_to(volume))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_installs_with_dependencies_and_compiles(
    index: Index, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    index.add_wheel("alpha", "1.0", {"alpha/__init__.py": "import beta\nvalue = beta.value\n"}, ("beta>=1",))
    index.add_wheel("beta", "1.2", {"beta.py": "value = 7\n"})
    install(request("alpha"), paths)
    current = paths.volume / "current"
    assert str(current.readlink()) == "gen-1"
    command = [sys.executable, "-c", "import alpha; print(alpha.value)"]
    environment = {**os.environ, "PYTHONPATH": str(current)}
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "7\n"
    assert list((current / "alpha" / "__pycache__").glob("*.pyc"))
    assert capsys.readouterr().out.rstrip().endswith("Installed alpha 1.0, beta 1.2")
    assert sorted(path.name for path in paths.volume.iterdir()) == ["current", "gen-1"]


def test_what_others_hard_link_of_the_image_is_no_change(
    index: Index, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environments that uv makes on one host share their files, and a link more changes the status of a file."""
    metadata = paths.image_site / "frozen-1.0.dist-info" / "METADATA"
    original = index.page

    def page(project: str) -> str | None:
        os.link(metadata, tmp_path / f"of-another-environment-{project}")
        return original(project)

    monkeypatch.setattr(index, "page", page)
    index.add_wheel("thing", "1.0", {"thing.py": ""})
    install(request("thing"), paths)
    assert (paths.volume / "current" / "thing.py").exists()


def test_a_new_generation_leaves_the_previous_one_as_it_was(index: Index, paths: Paths) -> None:
    index.add_wheel("alpha", "1.0", {"alpha/__init__.py": "one\n", "alpha/old.py": ""})
    index.add_wheel("keep", "1.0", {"keep.py": ""})
    index.add_wheel("alpha", "2.0", {"alpha/__init__.py": "two\n"})
    install(request("alpha==1.0"), paths)
    install(request("keep"), paths)
    before = snapshot(paths.volume / "gen-2")
    install(request("alpha>=2"), paths)
    assert snapshot(paths.volume / "gen-2") == before
    current = current_generation(paths.volume)
    assert current is not None
    assert (current / "alpha" / "__init__.py").read_text() == "two\n"
    assert not (current / "alpha" / "old.py").exists()
    assert not (current / "alpha-1.0.dist-info").exists()
    assert (current / "keep.py").stat().st_ino == (paths.volume / "gen-2" / "keep.py").stat().st_ino
    assert sorted(path.name for path in paths.volume.iterdir()) == ["current", "gen-2", "gen-3"]


def test_what_is_installed_is_not_installed_again(
    index: Index, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    index.add_wheel("alpha", "1.0", {"alpha.py": ""})
    install(request("alpha"), paths)
    install(request("alpha>=1"), paths)
    install(request("frozen"), paths)
    assert str((paths.volume / "current").readlink()) == "gen-1"
    assert capsys.readouterr().out.count("Nothing to do") == 2


def test_a_package_that_does_not_exist_changes_nothing(
    index: Index, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    index.add_wheel("alpha", "1.0", {"alpha.py": ""})
    install(request("alpha"), paths)
    before = snapshot(paths.volume)
    with pytest.raises(InstallError, match="nothing was changed"):
        install(request("missing"), paths)
    assert "missing was not found" in capsys.readouterr().out
    assert snapshot(paths.volume) == before


def test_the_image_s_packages_can_not_be_replaced(index: Index, paths: Paths) -> None:
    index.add_wheel("frozen", "2.0", {"frozen/__init__.py": ""})
    index.add_wheel("wants", "1.0", {"wants.py": ""}, ("frozen>=2",))
    for requirement in ("frozen>=2", "wants"):
        with pytest.raises(InstallError, match=r"Frozen 1\.0.*build --requirements"):
            install(request(requirement), paths)
    assert snapshot(paths.volume) == {}


def test_a_wheel_of_the_image_s_package_by_path_is_refused(index: Index, paths: Paths, tmp_path: Path) -> None:
    wheel = tmp_path / index.add_wheel("frozen", "1.0", {"frozen/__init__.py": "evil\n"})
    wheel.write_bytes(index.files[wheel.name])
    with pytest.raises(InstallError, match=r"build --requirements"):
        install(request(str(wheel), local=True), paths)
    assert snapshot(paths.volume) == {}


def test_start_up_files_and_shadowing_modules_are_left_out(
    index: Index, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = {"alpha.py": "", "evil.pth": "import os", "sitecustomize.py": "", "frozen/__init__.py": "", "frozen.py": ""}
    index.add_wheel("alpha", "1.0", evil)
    install(request("alpha"), paths)
    names = {path.name for path in (paths.volume / "current").iterdir()}
    assert names == {"alpha.py", "alpha-1.0.dist-info", "__pycache__"}
    said = capsys.readouterr().out
    for name in ("evil.pth", "sitecustomize.py", "frozen", "frozen.py"):
        assert f"Left out: {name}\n" in said


def test_a_directory_that_can_not_be_written_is_built(index: Index, paths: Paths, tmp_path: Path) -> None:
    source = tmp_path / "project"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    # A backend that writes beside its sources, as most do.
    wheel = index.add_wheel("local_thing", "3.0", {"local_thing.py": "built = True\n"})
    content = index.files.pop(wheel)
    (source / "backend.py").write_text(
        "import pathlib\n"
        "def build_wheel(directory, config_settings=None, metadata_directory=None):\n"
        "    pathlib.Path('left-behind').write_text('x')\n"
        f"    pathlib.Path(directory, {wheel!r}).write_bytes({content!r})\n"
        f"    return {wheel!r}\n"
    )
    with pytest.raises(BuildNeededError):
        install(request(str(source), local=True), paths)
    build_and_commit(str(source), paths, local=True)
    assert (paths.volume / "current" / "local_thing.py").exists()
    assert sorted(path.name for path in source.iterdir()) == ["backend.py", "pyproject.toml"]


def test_a_wheel_that_is_too_deep_is_refused_and_leaves_nothing_in_the_way(index: Index, paths: Paths) -> None:
    index.add_wheel("abyss", "1.0", {"/".join(["d"] * 1100) + "/x.py": ""})
    index.add_wheel("plain", "1.0", {"plain.py": ""})
    with pytest.raises(InstallError, match="directories in each other"):
        install(request("abyss"), paths)
    assert snapshot(paths.volume) == {}
    install(request("plain"), paths)
    assert (paths.volume / "current" / "plain.py").exists()


def test_a_build_that_fails_changes_nothing(index: Index, paths: Paths, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in {
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
            "backend.py": "raise RuntimeError('no way')\n",
            "PKG-INFO": "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n",
        }.items():
            entry = tarfile.TarInfo(f"broken-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    index.files["broken-1.0.tar.gz"] = buffer.getvalue()
    with pytest.raises(InstallError):
        build_and_commit("broken", paths)
    assert snapshot(paths.volume) == {}


def test_where_nothing_may_be_built_that_is_the_error(
    index: Index, paths: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text("[project]\nname = 'project'\nversion = '1'\n")
    with pytest.raises(InstallError):
        install(request(str(tmp_path / "project"), local=True, builds=False), paths)
    assert "is disabled" in capsys.readouterr().out


def test_an_upgrade_that_is_built_replaces_what_is_there(index: Index, paths: Paths, tmp_path: Path) -> None:
    """The build sees the metadata of the current generation, and changes nothing of it."""
    index.add_wheel("alpha", "1.0", {"alpha/__init__.py": "one\n", "alpha/old.py": ""})
    index.add_wheel("keep", "1.0", {"keep.py": ""})
    install(request("alpha"), paths)
    install(request("keep"), paths)
    wheel = tmp_path / index.add_wheel("alpha", "2.0", {"alpha/__init__.py": "two\n"}, ("keep",))
    wheel.write_bytes(index.files.pop(wheel.name))
    build_and_commit(str(wheel), paths, local=True)
    current = paths.volume / "current"
    assert (current / "alpha" / "__init__.py").read_text() == "two\n"
    assert not (current / "alpha" / "old.py").exists()
    assert set(distributions(current)) == {"alpha", "keep"}
    build_and_commit("alpha", paths)
    assert str(current.readlink()) == "gen-3"


def delivered(paths: Paths, tmp_path: Path, index: Index) -> Path:
    """Let the package alpha be built, and return the directory of modules that its build has left."""
    wheel = tmp_path / index.add_wheel("alpha", "1.0", {"alpha.py": ""})
    wheel.write_bytes(index.files.pop(wheel.name))
    build(str(wheel), paths, local=True)
    (site,) = paths.delivery.glob("lib/python*/site-packages")
    return site


def test_of_what_a_build_left_only_plain_files_are_taken(index: Index, paths: Paths, tmp_path: Path) -> None:
    site = delivered(paths, tmp_path, index)
    os.mkfifo(site / "fifo.py")
    (site / "link.py").symlink_to("/etc/passwd")
    (site / "directory").symlink_to("/etc")
    (site / "sitecustomize.py").write_text("")
    (site / "program").write_text("")
    (site / "program").chmod(0o6777)
    (paths.delivery / "evil.pth").write_text("import os")
    (paths.delivery / "frozen").mkdir()
    (paths.delivery / "frozen" / "__init__.py").write_text("")
    run(request("alpha", step="commit"), paths)
    names = {path.name for path in (paths.volume / "current").iterdir()}
    assert names == {"alpha.py", "alpha-1.0.dist-info", "__pycache__", "program"}
    assert (paths.volume / "current" / "program").stat().st_mode & 0o7777 == 0o755


def test_what_a_build_left_can_not_take_the_place_of_the_image_s(index: Index, paths: Paths, tmp_path: Path) -> None:
    site = delivered(paths, tmp_path, index)
    metadata = site / "frozen-1.0.dist-info" / "METADATA"
    metadata.unlink()
    metadata.write_text("Metadata-Version: 2.1\nName: Frozen\nVersion: 1.0\n")
    with pytest.raises(InstallError, match=r"Frozen 1\.0.*build --requirements"):
        run(request("alpha", step="commit"), paths)
    assert snapshot(paths.volume) == {}


LOCKED = [] if os.geteuid() == 0 else ["locked"]  # nothing is to root


@pytest.mark.parametrize("kind", ["deep", "many", *LOCKED, "nothing", "a file", "a link"])
def test_what_a_build_left_can_be_too_much_or_nothing(
    index: Index, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    site = delivered(paths, tmp_path, index)
    match kind:
        case "deep":
            os.makedirs(site / "/".join(["d"] * 100))
        case "many":
            monkeypatch.setattr(delivery, "MAX_ENTRIES", 3)
        case "locked":
            (site / "alpha.py").chmod(0)
        case _:
            shutil.rmtree(paths.delivery)
            if kind == "a file":
                paths.delivery.write_text("")
            elif kind == "a link":
                paths.delivery.symlink_to("/etc")
    with pytest.raises(InstallError, match=r"The build left more than|could not be read"):
        run(request("alpha", step="commit"), paths)
    assert snapshot(paths.volume) == {}


def test_a_path_that_is_not_there_is_said(index: Index, paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="does not exist in the workspace"):
        install(request(str(tmp_path / "none.whl"), local=True), paths)


def test_what_is_no_file_is_not_waited_for(index: Index, paths: Paths, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo-1-py3-none-any.whl")
    (tmp_path / "zero-1-py3-none-any.whl").symlink_to("/dev/zero")
    for name in ("fifo", "zero"):
        with pytest.raises(InstallError, match="is no file and no directory"):
            install(request(str(tmp_path / f"{name}-1-py3-none-any.whl"), local=True), paths)
    assert snapshot(paths.volume) == {}


def test_leftovers_of_a_killed_install_are_removed(index: Index, paths: Paths) -> None:
    index.add_wheel("alpha", "1.0", {"alpha.py": ""})
    for leftover in (".staging-dead/view", "gen-1"):
        (paths.volume / leftover).mkdir(parents=True)
        (paths.volume / leftover / "half").write_text("")
    install(request("alpha"), paths)
    assert sorted(path.name for path in paths.volume.iterdir()) == ["current", "gen-1"]
    assert not (paths.volume / "current" / "half").exists()


def test_scripts_run_and_find_the_volume(index: Index, paths: Paths) -> None:
    info = {"tool-1.0.dist-info/entry_points.txt": "[console_scripts]\ntool = tool:main\n"}
    index.add_wheel("tool", "1.0", {"tool.py": "def main(): print('ran')\n", **info})
    install(request("tool"), paths)
    script = paths.volume / "current" / "bin" / "tool"
    assert script.read_text().startswith(f"#!{sys.prefix}/bin/python")
    assert subprocess.run([script], capture_output=True, text=True).stdout == "ran\n"


@pytest.mark.parametrize(
    ("recorded", "place"),
    [
        ("a/b.py", "a/b.py"),
        ("../../../bin/tool", "bin/tool"),
        ("../../../../../etc/passwd", None),
        ("/etc/passwd", None),
    ],
)
def test_paths_of_a_record_stay_in_the_generation(recorded: str, place: str | None) -> None:
    generation = Path("/volume/gen-1")
    assert in_generation(generation, recorded) == (None if place is None else generation / place)


def test_a_link_that_names_no_generation_is_none(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("/etc")
    assert current_generation(tmp_path) is None
    assert new_generation(tmp_path, None).name == "gen-1"
    assert distributions(tmp_path / "gen-1") == {}
