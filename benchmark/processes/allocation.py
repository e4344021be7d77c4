"""Sets how the C library returns freed memory."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of mallopt's parameters in glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees, up to 1 GiB, in place of giving it back to the system.

    By default glibc returns large tensors at once and takes them again page by page at the next forward, which makes
    a small CNN two to three times slower. Does nothing where the C library is another one.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    c = ctypes.CDLL(None)
    c.mallopt(_MMAP_THRESHOLD, 2**25)  # the most that every version takes
    c.mallopt(_TRIM_THRESHOLD, 2**30)
