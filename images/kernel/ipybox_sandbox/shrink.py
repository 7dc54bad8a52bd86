"""Scales a picture down until it fits into a number of bytes: `python -I -m ipybox_sandbox.shrink MAX_BYTES <in >out`.

A process of its own, since what it decodes came from a cell.
"""

from __future__ import annotations

import io
import math
import os
import resource
import sys
import warnings
from collections.abc import Sequence

from PIL import Image

_MAX_MEMORY_BYTES = 1024**3
_MAX_CPU_SECONDS = 20
_MIN_SIDE = 16
_FORMATS = ("PNG", "JPEG")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the picture to stdout, in its own format; fails for what is no PNG or JPEG, or too large to decode."""
    max_bytes = int((sys.argv[1:] if argv is None else argv)[0])
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_MAX_CPU_SECONDS, _MAX_CPU_SECONDS))
    os.nice(10)
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        data = shrink(sys.stdin.buffer.read(), max_bytes)
    except (OSError, ValueError, MemoryError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        print(f"shrink: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(data)
    return 0


def shrink(data: bytes, max_bytes: int) -> bytes:
    """The picture in at most `max_bytes`, as large as a few attempts find."""
    picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    kind = picture.format
    picture.load()
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # palettes can't be interpolated
    size = len(data)
    while size > max_bytes:
        factor = 0.9 * math.sqrt(max_bytes / size)
        width, height = (max(1, int(side * factor)) for side in picture.size)
        if max(width, height) < _MIN_SIDE:
            raise ValueError("it does not get small enough")
        picture = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
        buffer = io.BytesIO()
        picture.save(buffer, kind)  # metadata, which may be most of it, stays behind
        data, size = buffer.getvalue(), buffer.tell()
    return data


if __name__ == "__main__":
    sys.exit(main())
