"""Runs the task: `python -I -m ipybox_sandbox.installer [option…] <json>`."""

import sys

from ipybox_sandbox.installer.install import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
