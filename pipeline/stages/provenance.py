"""Where a result comes from, for whoever reads it: audio, weights, code and library versions.

None of this decides whether a result is made anew: see `stages.identity`.
"""

import hashlib
import subprocess
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

from strata import trainers
from strata.pipeline.study.folder import Study
from strata.pipeline.study.sources import Cached


def provenance_of(study: Study, views: Mapping[str, Cached]) -> dict[str, object]:
    """Where a result comes from: audio, weights, code and library versions."""
    return {
        "views": {
            view: {
                **cached.store.notes,
                "fingerprint": dict(cached.store.header.fingerprint),
                "rows": len(cached.store),
            }
            for view, cached in views.items()
        },
        "manifest": manifest_hash(study.manifest),
        "versions": {name: version(name) for name in ("strata-speech", "torch", "scikit-learn", "POT", "numpy")},
        "code": _code_version(),
    }


@cache
def _code_version() -> str:
    """The git commit of this code where it runs from a checkout, marked if edited since; else the installed version."""
    here = Path(trainers.__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return version("strata-speech")
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True)
    except OSError:  # no git on this machine
        return version("strata-speech")
    return found.stdout.strip() or version("strata-speech")


def manifest_hash(path: Path) -> str:
    """Tells one state of a manifest from another."""
    return _hash(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _hash(path: Path, _mtime_ns: int) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
