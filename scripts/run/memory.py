"""The memory of a process that does many cases: what one has left behind is given back before the next.

Without, a process grows by a third over 200 small cases: pieces of freed memory lie between others that are in use, and
oneDNN keeps what it has compiled for a size of volume, of which each case has its own.
"""

from __future__ import annotations

import ctypes
import os

COMPILED = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")  # oneDNN's own, and PyTorch's of what it gave
FEW = "16"  # sizes for which each is kept; of itself, 1,024


def keep_few_compiled() -> None:
    """Let oneDNN keep less in this process and its children, where nobody says otherwise; before its first use."""
    for name in COMPILED:
        os.environ.setdefault(name, FEW)


def give_back() -> None:
    """Give what is free to the system, where the C library has a way (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
