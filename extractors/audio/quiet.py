"""Keeps the MP3 decoder inside libsndfile from writing to the terminal: it complains to C's `stderr`, past everybody.

Python's own `sys.stderr`, and whatever else writes to the file descriptor, is not touched. What other C code writes to
`stderr` while an MP3 is being decoded is passed on afterwards. Does nothing where C's library is not glibc.
"""

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_FROM_DECODER = re.compile(rb"^(\[[^\]]*libmpg123[^\]]*\]|Note: |Warning: |Illegal |mpg123).*$|^\s*$")
_lock = threading.Lock()
_inside = 0
_kept: int | None = None
"""The file, and beside it the stream through which C writes into it."""
_original: int | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """While at least one thread is in here, C's `stderr` is a file, whose lines are looked through at the end."""
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _redirect()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore()


def _c():
    """C's library as the process has it, with its variable `stderr`; None where it has none of this name."""
    try:
        library = ctypes.CDLL(None)
        library.fdopen.restype = ctypes.c_void_p
        library.fflush.argtypes = library.fclose.argtypes = [ctypes.c_void_p]
        return library, ctypes.c_void_p.in_dll(library, "stderr")
    except (OSError, ValueError, AttributeError, TypeError):
        return None


_C = _c()
_stream: int | None = None


def _redirect() -> None:
    global _original, _kept, _stream
    if _C is None:
        return
    library, stderr = _C
    if _stream is None:
        with suppress(OSError, AttributeError):
            _kept = os.memfd_create("stderr")  # for as long as the process lives
            _stream = library.fdopen(os.dup(_kept), b"w")
    if _stream:
        _original, stderr.value = stderr.value, _stream


def _restore() -> None:
    global _original
    if _C is None or _original is None:
        return
    library, stderr = _C
    stderr.value, _original = _original, None
    library.fflush(_stream)
    if size := os.fstat(_kept).st_size:
        lines = os.pread(_kept, size, 0).splitlines(keepends=True)
        os.ftruncate(_kept, 0)
        os.lseek(_kept, 0, os.SEEK_SET)  # the duplicate shares the position
        others = b"".join(line for line in lines if not _FROM_DECODER.match(line.rstrip(b"\r\n")))
        if others:
            with suppress(OSError):
                os.write(2, others)
