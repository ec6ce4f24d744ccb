"""How the C library keeps memory while torch computes on a processor."""

import ctypes
import os
import platform
from collections.abc import Mapping

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of options in glibc's malloc.h; mallopt(3) describes them."""
_NEVER = -1


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Let this process keep what it frees, and return whether that was set.

    glibc maps a large block anew each time that it's asked for, and gives it back when it's freed: every activation of
    every step then costs a page fault for each 4 KiB of it, an eighth to a quarter of a training step on a processor
    (`python -m benchmarks.training.allocator`). Kept memory counts as this process's until it ends, so this is for
    commands that compute and end, not for services. Nothing is set where the C library isn't glibc, or where the
    environment (`MALLOC_…`, `GLIBC_TUNABLES`) already says how memory is kept.
    """
    told = any(name.startswith("MALLOC_") for name in environment) or "malloc" in environment.get("GLIBC_TUNABLES", "")
    if told or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
