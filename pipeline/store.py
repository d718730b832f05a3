"""`strata store ACTION PATH`: what a store holds, whether it is whole, and how to be rid of it."""

import json
import shutil
from pathlib import Path

from pipeline import dvcfile, soundness
from pipeline.errors import StageError
from pipeline.progress import say
from store import FeatureStore
from store.lock import exclusive


def info(path: Path) -> None:
    """Prints what the store says of itself, as JSON."""
    store = FeatureStore.open(path)
    header = store.header
    summary = {
        "rows": len(store),
        "layers": list(header.layer_names),
        "dim": header.dim,
        "frames": list(header.frame_layers),
        "frame_rate_hz": header.frame_rate_hz,
        "bytes": store.num_bytes(),
        "block_rows": header.block_rows,
        "format": header.format,
        "fingerprint": dict(header.fingerprint),
    }
    print(json.dumps(summary, indent=1))


def verify(path: Path) -> None:
    """Reads every value.

    Raises:
        StageError: some are damaged; each damaged block has been named.
    """
    store = FeatureStore.open(path)
    damages = store.damage()
    problems = [store.describe(damage) for damage in damages] + store.damaged_documents()
    study = path.absolute().parent.parent
    if (study / "params.yaml").exists():  # then the next extraction knows what was found
        soundness.remember(study, store, damages)
    for problem in problems:
        say(problem)
    if problems:
        raise StageError(
            f"{path}: damaged in {len(problems)} places; `strata extract {store.view}` computes the damaged rows anew "
            "and keeps the others, `dvc checkout --force` brings back the store as it was last committed"
        )
    say(f"{path}: {len(store)} rows, all of them as they were written")


def drop(path: Path) -> None:
    """Removes a store, its list of failures, and what dvc.lock knows of it, so that it is computed anew."""
    if not path.name.endswith(".zarr"):
        raise StageError(f"expected the path of a store such as features/wavlm.zarr, got {path}")
    there = path.exists()
    if there:
        with exclusive(path):
            shutil.rmtree(path)
    if not dvcfile.forget_store(path.absolute().parent.parent, path.stem) and not there:
        raise StageError(f"no store at {path}, and no dvc.lock that knows of one; nothing was removed")
    path.with_suffix(".failures.csv").unlink(missing_ok=True)
    say(f"{path} is gone; `strata extract {path.stem}` computes it anew")


ACTIONS = {"info": info, "verify": verify, "drop": drop}
