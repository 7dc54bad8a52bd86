"""The generator as a process: a JSON object a line in, one out. Kept warm, since its imports take a second.

    → {"id": 1, "workspace": "/path", "server": "name", "tools": [{"name", "module", "description"?,
       "inputSchema", "outputSchema"?}]}
    ← {"id": 1, "result": {"modules": [{"module": "name", "fallback": null}]}}   or   {"id": 1, "error": "…"}

The first line it writes is {"ready": true}; end of input ends it.
"""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, BinaryIO

from ipybox_sandbox import process
from ipybox_sandbox.apigen.module import Tool, generate_modules
from ipybox_sandbox.apigen.package import write_package

DEADLINE_SECONDS = 60.0
"""For one request; another writer of the package, or a schema that is slow beyond its size, must not block for ever."""


class DeadlineError(BaseException):
    """A request took too long. Not an Exception, so that no attempt to make do with less swallows it."""


def main() -> None:
    """Serves requests from stdin until its end."""
    process.forbid_inspection()
    answers = _take_stdout()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _raise_deadline)
    _warm_up()
    _send(answers, {"ready": True})
    for line in sys.stdin.buffer:
        _send(answers, answer(line))


def answer(line: bytes) -> dict[str, Any]:
    """The answer to one request; never raises."""
    request_id = None
    try:
        request = json.loads(line)
        request_id = request["id"]
        with _deadline(DEADLINE_SECONDS):
            modules = write_package(request["workspace"], request["server"], [_tool(raw) for raw in request["tools"]])
        return {"id": request_id, "result": {"modules": [{"module": m, "fallback": f} for m, f in modules]}}
    except DeadlineError:
        return {"id": request_id, "error": f"API generation took more than {DEADLINE_SECONDS:.0f} s"}
    except OSError as error:
        return {"id": request_id, "error": f"the API could not be written: {error.strerror}: {error.filename}"}
    except (KeyError, TypeError, AttributeError) as error:
        return {"id": request_id, "error": f"malformed request: {type(error).__name__} {error}"}
    except Exception as error:
        return {"id": request_id, "error": f"{type(error).__name__}: {error}"[:1_000]}


def _warm_up() -> None:
    """What the first generation would pay for; and the collector need not look at the libraries' objects again."""
    generate_modules("warm", [Tool("up", "up", "", {"properties": {"text": {"type": "string"}}})])
    gc.collect()
    gc.freeze()


def _tool(raw: dict[str, Any]) -> Tool:
    name, module, description = raw["name"], raw["module"], raw.get("description")
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError("name and module are strings")
    text = description if isinstance(description, str) else ""
    return Tool(name, module, text, raw["inputSchema"], raw.get("outputSchema"))


def _take_stdout() -> BinaryIO:
    """The answers' own way out: whatever a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(2), "wb"), write_through=True)
    return answers


def _send(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _raise_deadline(_number: int, _frame: FrameType | None) -> None:
    raise DeadlineError


if __name__ == "__main__":
    main()
