"""Measurements. Each module writes its own table into RESULTS.md, with the machine and the command.

Ratios within one run on one machine: absolute times say more of the machine than of the code.
"""

import os
import platform
import re
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "RESULTS.md"


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Median wall time of `action`, after one run that does not count."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_mb() -> float:
    """Peak resident memory of this program so far; Linux counts that of whoever started it into `ru_maxrss`."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def write_table(
    name: str, command: str, header: Sequence[str], rows: Sequence[Sequence[object]], note: str = ""
) -> None:
    """Replaces the section `name` of RESULTS.md by a table, and prints it."""
    line = "| {} |".format
    table = [line(" | ".join(header)), line(" | ".join("---" for _ in header))]
    table += [line(" | ".join(map(str, row))) for row in rows]
    lines = [
        f"## {name}",
        "",
        f"`{command}`, {datetime.now(UTC):%F}, {_machine()}.",
        *([note] if note else []),
        "",
        *table,
    ]
    section = "\n".join(lines) + "\n"
    text = RESULTS.read_text() if RESULTS.exists() else "# Results\n\nWritten by `make bench`; do not edit.\n"
    text = re.sub(rf"\n## {re.escape(name)}\n.*?(?=\n## |\Z)", "", text, flags=re.DOTALL)
    RESULTS.write_text(text.rstrip() + "\n\n" + section)
    print(section)


def _machine() -> str:
    cpu = (
        re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    )
    return f"{os.cpu_count()} cores ({cpu[1] if cpu else platform.processor()}), NumPy {np.__version__}"
