"""Jupyter's own test suite for kernels, against ours."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import jupyter_kernel_test
from jupyter_client.manager import KernelManager

NAME = "ipybox-under-test"


class TestKernelProtocol(jupyter_kernel_test.KernelTests):
    kernel_name = NAME
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"
    completion_samples: ClassVar[list[dict[str, Any]]] = [{"text": "zi", "matches": {"zip"}}]
    complete_code_samples: ClassVar[list[str]] = ["1", "print('hello')", "def f(x):\n  return x * 2\n\n\n"]
    incomplete_code_samples: ClassVar[list[str]] = ["print('''hello", "def f(x):\n  x * 2"]
    invalid_code_samples: ClassVar[list[str]] = ["import = 7q"]
    code_execute_result: ClassVar[list[dict[str, str]]] = [{"code": "6 * 7", "result": "42"}]
    code_display_data: ClassVar[list[dict[str, str]]] = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math(r'\\frac{1}{2}'))", "mime": "text/latex"},
    ]
    # No samples for the history: ours keeps none, and the suite's test of it fails on stock ipykernel 7 as well.
    test_history = None

    @classmethod
    def setUpClass(cls) -> None:
        directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        spec = Path(directory, "kernels", NAME)
        spec.mkdir(parents=True)
        launcher = str(Path(__file__).with_name("kernel_launcher.py"))
        argv = [sys.executable, launcher, "{connection_file}"]
        (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": NAME, "language": "python"}))
        cls.enterClassContext(mock.patch.dict(os.environ, JUPYTER_PATH=directory))
        # As the suite's own, but for the transport: a port that was free may be taken before the kernel binds it.
        cls.km = KernelManager(kernel_name=NAME, transport="ipc")
        cls.km.start_kernel()
        cls.kc = cls.km.client()
        cls.kc.start_channels()
        cls.kc.wait_for_ready(timeout=60)
