"""Files of a study, in whose place a symbolic link may lie that leads nowhere, as to a disk that is not mounted."""

from pathlib import Path

from strata.extractors.links import dangling
from strata.pipeline.errors import StageError


def reachable(path: Path) -> Path:
    """The path itself, which need not exist.

    Raises:
        StageError: it, or a folder on the way to it, is a symbolic link that leads nowhere.
    """
    if lost := dangling(path):
        raise StageError(f"{path} is {lost}")
    return path
