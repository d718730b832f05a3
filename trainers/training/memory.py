"""How a training process handles memory."""

import ctypes
import sys


def keep_memory() -> None:
    """Lets glibc keep freed memory, where it is the allocator.

    It hands blocks of megabytes back to the system at once otherwise, and every step of training pays for getting the
    same pages again: a third of the time of a step of TANGO on views of 512 and 1024 dimensions.
    """
    if sys.platform == "linux":
        allocator = ctypes.CDLL(None)
        if hasattr(allocator, "mallopt"):
            mmap_threshold, trim_threshold, most = -3, -1, 1 << 30
            allocator.mallopt(mmap_threshold, most)
            allocator.mallopt(trim_threshold, most)
