"""How results are written: JSON that people can read, whole or not at all. Knows nothing of what the files hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strata.pipeline.files import write_if_changed


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, where the file holds something else."""
    write_if_changed(path, (json.dumps(content, indent=1) + "\n").encode())
