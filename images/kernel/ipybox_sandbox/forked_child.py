"""What becomes of a process that a cell forks: it ends with the cell's code, as a program's child does.

IPython would take it back to the kernel's loop: a second kernel, which takes requests from the first one's pipe and can
answer none of them.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from traitlets import log

_KERNEL = [0]
"""The process that has called `watch_forks` last."""


def watch_forks() -> None:
    """To be called once, by the kernel."""
    _KERNEL[0] = os.getpid()
    # Of each display in a child jupyter_client says that it was not sent, with all of it.
    os.register_at_fork(after_in_child=lambda: log.get_logger().setLevel(logging.ERROR))


def is_child() -> bool:
    """Whether this process was forked by a cell, or by what a cell has forked."""
    return os.getpid() != _KERNEL[0]


def end_child(error: BaseException | None = None) -> NoReturn:
    """Ends it as Python ends a program, with what was raised, but for what the kernel would do at its own end."""
    with suppress(ValueError):  # in a thread that is not the main one, where no signal is handled
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # so that an interrupt ends it at once
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if not isinstance(error.code, int | None):
            print(error.code, file=sys.stderr)
    elif error is not None:
        code = 1
        traceback.print_exception(error)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)
