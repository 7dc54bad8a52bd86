"""Runs the sandbox's kernel as Jupyter starts kernels: `kernel_launcher.py CONNECTION_FILE`."""

import sys

from ipybox_sandbox.kernel_app import SandboxKernelApp

app = SandboxKernelApp.instance(connection_file=sys.argv[1])
app.initialize([])
app.start()
