"""Runs the task: `python -I -m ipybox_sandbox.installer [option…] <json>`."""

import os
import sys

from ipybox_sandbox.installer.install import main

if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # The forwarder's thread may still hold connections, of which asyncio would speak at a proper end.
    os._exit(code)
