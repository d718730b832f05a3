"""Where a study is, as seen from a folder. Light: the command line looks before anything is imported."""

import os
from pathlib import Path

PARAMS = "params.yaml"
"""The file that makes a folder a study."""


def above(path: Path) -> Path | None:
    """The params file of a folder, or of the nearest one above it; None where there is none.

    Args:
        path: the folder; it need not exist.
    """
    folder = Path(os.path.abspath(path))
    files = (place / PARAMS for place in (folder, *folder.parents))
    # A link that leads nowhere is told by whoever reads it: a study further up is not the one that was meant.
    return next((file for file in files if os.path.isfile(file) or os.path.islink(file)), None)


def here() -> Path:
    """The params file of the current folder or of the nearest one above it, relative; where there is none, of this."""
    found = above(Path())
    return Path(PARAMS if found is None else os.path.relpath(found))
