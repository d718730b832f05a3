"""Files that other stages depend on: written whole or not at all, and only when their content changes."""

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FAILURE_COLUMNS = ["utterance", "audio", "reason"]


def write_if_changed(path: Path, content: bytes) -> bool:
    """Writes atomically; True if the file was not there or held something else."""
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    partial.write_bytes(content)
    os.replace(partial, path)
    return True


def failure_table(failures: Iterable[Mapping], extra: tuple[str, ...] = ()) -> bytes:
    """A failures table as CSV; the header is there even when nothing failed."""
    import pandas as pd

    return pd.DataFrame(list(failures), columns=[*FAILURE_COLUMNS, *extra]).to_csv(index=False).encode()


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Writes a Parquet file, whole or not at all."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_if_changed(path, buffer.getvalue())


@cache
def code_hash(folder: Path) -> str:
    """Identity of the Python files in a folder and below it: what other code remembered is looked at again."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
