"""Paths that lead nowhere because of a symbolic link: told as that, for "missing" would be looked for in vain."""

import os
from pathlib import Path


def dangling(path: str | Path) -> str:
    """Words for the first link on the way that leads nowhere, with its target as written; empty where none does.

    A path that could not be one (a name with a NUL, or one that is too long) has none.
    """
    path = Path(path)
    try:
        for part in (*reversed(path.parents), path):
            if os.path.islink(part) and not os.path.exists(part):
                whose = "" if part == path else f"in a folder, {part.name}, that is "
                return f"{whose}a link that leads nowhere, to {os.readlink(part)}; mend the link, or copy what it meant"
    except (OSError, ValueError):
        pass
    return ""
