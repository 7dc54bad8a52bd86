"""IPython's kernel, set up for the sandbox: what differs from ipykernel's own, and nothing else."""

from __future__ import annotations

import linecache
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from ipykernel.compiler import XCachingCompiler
from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.error import StdinNotImplementedError
from IPython.core.events import EventManager
from tornado.ioloop import IOLoop
from traitlets import Any as AnyTrait
from traitlets import Type
from traitlets.config import Config

from ipybox_sandbox import process
from ipybox_sandbox.forked_child import end_child, is_child, watch_forks
from ipybox_sandbox.inline_figures import InlineFigures
from ipybox_sandbox.output import CapturedStream, OutputPipe
from ipybox_sandbox.output_frames import pack_json
from ipybox_sandbox.shell_channel import ShellChannel

_CONFIG = Config(
    {
        # A pause before each reply, for clients that stop there. Ours waits for the idle state behind the output.
        "Kernel": {"_execute_sleep": 0.0},
        "HistoryManager": {"enabled": False},
        "InteractiveShell": {"colors": "nocolor"},
        "InteractiveShellApp": {"ignore_cwd": True},
        "IPCompleter": {"use_jedi": False},
        # Else a record is made of every message, which the handlers then leave out.
        "SandboxKernelApp": {"logging_config": {"loggers": {"SandboxKernelApp": {"level": "WARNING"}}}},
        "Session": {"packer": f"{pack_json.__module__}.{pack_json.__name__}"},
    }
)


KEPT_CELLS = 10_000
"""Inputs and sources of cells before the last so many are forgotten. IPython keeps all: a kilobyte a cell, for ever."""


class RawSourceCompiler(XCachingCompiler):
    """Tracebacks show cells as they were written: `!cmd` instead of `get_ipython().system("cmd")`."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, None] = {}

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        name: str = super().cache(transformed_code, number, raw_code)
        if raw_code is not None and raw_code != transformed_code:
            lines = [line + "\n" for line in raw_code.splitlines()]
            linecache.cache[name] = (len(raw_code), None, lines, name)
        self._names.pop(name, None)
        self._names[name] = None  # the newest is last
        if len(self._names) > KEPT_CELLS:
            oldest = next(iter(self._names))
            for kept in (self._names, self._filename_map, linecache.cache):
                kept.pop(oldest, None)
        return name


class QuietDisplayHook(ZMQShellDisplayHook):
    def cull_cache(self) -> None:
        """Forgets old values of `Out` without a warning, which would become part of some cell's output."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().cull_cache()


class InterruptibleEvents(EventManager):
    """What prepares for a cell is interrupted with the cell: IPython's would print the interrupt, and run the cell."""

    def trigger(self, event: str, *args: Any, **kwargs: Any) -> None:
        if not event.startswith("pre_"):
            super().trigger(event, *args, **kwargs)
            return
        for callback in list(self.callbacks[event]):
            try:
                callback(*args, **kwargs)
            except Exception:
                print(f"Error in {callback}, called at {event}:")
                self.shell.showtraceback()


class SandboxShell(ZMQInteractiveShell):
    displayhook_class = Type(QuietDisplayHook)
    _transformed: tuple[str, str] | None = None

    def init_instance_attrs(self) -> None:
        super().init_instance_attrs()
        warnings.filterwarnings("ignore", message="To exit: use 'exit', 'quit', or Ctrl-D.")  # after each sys.exit()
        self.compile = RawSourceCompiler()  # the kernel insists on a compiler_class of its own

    def init_events(self) -> None:
        super().init_events()
        registered = self.events.callbacks
        self.events = InterruptibleEvents(self, registered)
        self.events.callbacks = registered

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Nothing: IPython keeps a copy of all that was ever printed, for its `%notebook`."""
        yield

    def transform_cell(self, raw_cell: str) -> str:
        """Once a cell: ipykernel asks for it, and then IPython."""
        if self._transformed is None or self._transformed[0] != raw_cell:
            self._transformed = (raw_cell, super().transform_cell(raw_cell))
        return self._transformed[1]

    async def run_ast_nodes(self, *args: Any, **kwargs: Any) -> Any:
        has_raised = await super().run_ast_nodes(*args, **kwargs)
        if is_child():
            end_child()
        return has_raised

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        if is_child():
            end_child(sys.exc_info()[1])
        super().showtraceback(*args, **kwargs)

    def show_usage_error(self, exc: BaseException) -> None:
        """As an error like any other, not as output of the cell, beside which its reply would tell it again."""
        self._showtraceback(type(exc), exc, [f"UsageError: {exc}"])

    def payloadpage_page(self, strg: Any, *args: Any, **kwargs: Any) -> None:
        """`len?` and the like. Nobody reads the payload of a reply, so it is output as well."""
        self.display_pub.publish(strg if isinstance(strg, dict) else {"text/plain": strg})
        super().payloadpage_page(strg, *args, **kwargs)

    def set_next_input(self, text: str, replace: bool = False) -> None:
        """`%load` and the like: likewise."""
        print(text)
        super().set_next_input(text, replace)

    def ask_exit(self) -> NoReturn:
        """`exit()` ends the cell, as `sys.exit()` does: ipykernel's ends the kernel, 0.1 s later, in whatever cell."""
        raise SystemExit("the cell has ended here; for a new kernel there is reset")

    def forget_old_cells(self) -> None:
        """To be called after each cell."""
        self._transformed = None
        self.history_manager.outputs.clear()
        self.history_manager.exceptions.clear()
        self.history_manager.db_input_cache.clear()  # for a database that there is none of
        number = self.execution_count - KEPT_CELLS
        if number > 0:
            for inputs in (self.history_manager.input_hist_parsed, self.history_manager.input_hist_raw):
                inputs[number] = ""
            self.user_ns.pop(f"_i{number}", None)
            self.user_ns_hidden.pop(f"_i{number}", None)

    def init_environment(self) -> None:
        """None: the environment is set already, and ipykernel's would ask programs for colours."""

    def system_piped(self, cmd: str) -> None:
        """`!cmd`. Its output is captured at the descriptors, where it keeps its place among the cell's own."""
        command = self.var_expand(cmd, depth=1)
        code = subprocess.call(command, shell=True, executable="/bin/bash", stdin=subprocess.DEVNULL)
        self.user_ns["_exit_code"] = code

    system = system_piped


class NoShellThread:
    """Stands where ipykernel has a thread that hands requests on to subshells, of which there are none.

    Requests reach the main thread at once. It is false, and is asked nothing but which thread that is.
    """

    parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class SandboxKernel(IPythonKernel):
    shell_class = Type(SandboxShell)
    shell_stream = AnyTrait()  # a ShellChannel
    _supports_kernel_subshells = False

    def _publish_status(self, status: str, channel: str, parent: Any = None) -> None:
        if status != "busy":
            super()._publish_status(status, channel, parent)
            self.iopub_thread.ring()
            return
        # The request's first message follows.
        message = self.session.msg("status", {"execution_state": status}, parent=parent or self.get_parent(channel))
        self.iopub_thread.hold_multipart(self.session.serialize(message, self._topic("status")))

    def raw_input(self, prompt: str = "") -> NoReturn:
        raise StdinNotImplementedError("There is nobody to answer: input() is not available here.")

    def getpass(self, prompt: str = "", stream: Any = None) -> NoReturn:
        raise StdinNotImplementedError("There is nobody to answer: getpass() is not available here.")


class SandboxKernelApp(IPKernelApp):
    kernel_class = Type(SandboxKernel)
    outstream_class = f"{CapturedStream.__module__}.{CapturedStream.__name__}"

    def __init__(self, **traits: Any) -> None:
        # 1 stands for a parent that is not to be watched: the subreaper takes care.
        super().__init__(config=_CONFIG, parent_handle=1, **traits)

    def init_iopub(self, context: Any) -> None:
        self.configure_tornado_logger()
        self.iopub_thread = self.iopub_socket = OutputPipe(
            f"{self.abs_connection_file}.output", f"{self.abs_connection_file}.bell"
        )

    def init_control(self, context: Any) -> None:
        super().init_control(context)
        self.shell_channel_thread.io_loop.close()
        self.shell_channel_thread = NoShellThread()

    def init_kernel(self) -> None:
        super().init_kernel()
        # Of an interrupt right before or after a cell's code. The log is a part of the cell's output.
        self.log.addFilter(lambda record: not record.getMessage().startswith("KeyboardInterrupt caught in kernel"))
        self.kernel.shell_stream.close()
        self.kernel.shell_stream = ShellChannel(f"{self.abs_connection_file}.requests", self.iopub_thread)

    def init_io(self) -> None:
        super().init_io()
        # Python's own are not captured but at the descriptor, where they keep what they are given.
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc]

    def start(self) -> None:
        watch_forks()
        _wake_on_signals(IOLoop.current())
        super().start()
        while not self.shell.exit_now:  # a cell has stopped the loop
            with suppress(KeyboardInterrupt):
                self.io_loop.start()

    def init_heartbeat(self) -> None:
        """None: the subreaper tells of the kernel's end."""

    def init_gui_pylab(self) -> None:
        """Nothing but figures in the output: ipykernel's would set a variable for them."""
        sys.meta_path.insert(0, InlineFigures())

    def load_config_file(self, suppress_errors: Any = None) -> None:
        """None: a cell could have written it, and a new kernel starts afresh."""

    def _run_startup_files(self) -> None:
        """None, for the same reason."""


def _wake_on_signals(loop: IOLoop) -> None:
    """Lets an interrupt end a cell that awaits: ipykernel's handler asks the loop to cancel it, which may be asleep."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    loop.add_handler(reading, lambda *_: process.drain(reading), IOLoop.READ)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
