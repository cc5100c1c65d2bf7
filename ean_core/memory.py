"""Memory that a step used stays with the process for the next one."""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Stop glibc from returning large freed blocks to the system; elsewhere, do nothing.

    A CPU tensor of megabytes is otherwise mapped anew at every step, and its pages are filled with zeros one by one by
    the system. The process keeps up to 2 GiB of what it has freed, so this is for programs and not for libraries.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_MMAP_THRESHOLD, 2**30)
