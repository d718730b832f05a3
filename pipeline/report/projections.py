"""t-SNE of cached layers, side by side on all cores, and remembered: a report that is made again projects nothing.

What is remembered lies in `.strata/tsne/`, named by all that a projection follows from: the store's fingerprint, the
rows, the layer, and the library. With `tsne` the one part of the report that opens feature stores. Knows no labels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from strata.store import FeatureStore
from strata.trainers.scale import is_constant

FEWEST_POINTS = 8
"""Utterances below which a map says nothing."""
REVISION = 1
"""Raised when the same features come to other places, so that what is remembered is laid out again."""
SETTINGS = {"init": "pca", "max_iter": 500, "random_state": 0}


@dataclass(frozen=True)
class Projection:
    """Rows of one layer of one store, to be laid out in two dimensions."""

    store: Path
    fingerprint: str
    layer: str
    keys: tuple[str, ...]

    @property
    def identity(self) -> str:
        """A hash of all that the projection follows from."""
        about = [SETTINGS, REVISION, version("scikit-learn"), self.fingerprint, self.layer, self.keys]
        return blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()


def layouts(wanted: Sequence[Projection], folder: Path) -> list[np.ndarray | Exception]:
    """The layout of every projection, or why there is none.

    Args:
        wanted: what to lay out.
        folder: where layouts are remembered.

    Returns:
        Per projection [keys, 2], NaN for rows that are not finite in the store; the same for the same projection.
    """
    files = {projection: folder / f"{projection.identity}.npy" for projection in wanted}
    found: dict[Projection, np.ndarray | Exception | None] = {
        projection: _remembered(files[projection], len(projection.keys)) for projection in wanted
    }
    todo = [projection for projection in found if found[projection] is None]
    if todo:
        from joblib import Parallel, cpu_count, delayed

        try:
            laid_out = Parallel(n_jobs=min(len(todo), cpu_count()))(delayed(_layout)(projection) for projection in todo)
        except Exception as error:  # a process was ended from outside: no map is worth the page
            laid_out = [error] * len(todo)
        for projection, layout in zip(todo, laid_out, strict=True):
            found[projection] = layout
            if isinstance(layout, np.ndarray) and np.isfinite(layout).all():
                with suppress(OSError):  # remembering only saves time
                    _remember(files[projection], layout)
    return [found[projection] for projection in wanted]


def project(features: Float[np.ndarray, "utterances dim"]) -> Float32[np.ndarray, "utterances 2"]:
    """t-SNE of standardised features, the same for the same features."""
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # scikit-learn's own dependency

    varying = features[:, ~is_constant(features.mean(axis=0), features.std(axis=0))]  # stores hold float32
    if varying.shape[1] < 2:
        raise ValueError("fewer than two dimensions vary")
    perplexity = min(30.0, (len(varying) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, **SETTINGS)
    # Sums over threads round differently, and threads that wait for each other in a thousand short steps are slow.
    with threadpool_limits(1):
        return tsne.fit_transform(StandardScaler().fit_transform(varying).astype(np.float32))


def too_few(count: int) -> str:
    """Why there is no map of that many utterances."""
    return f"expected at least {FEWEST_POINTS} utterances that have both the label and features, found {count}"


def _layout(projection: Projection) -> Float32[np.ndarray, "utterances 2"] | Exception:
    try:
        features = FeatureStore.open(projection.store).pooled(list(projection.keys), layers=[projection.layer])
        features = np.asarray(features, dtype=np.float64)[:, 0]
        finite = np.isfinite(features).all(axis=1)
        if finite.sum() < FEWEST_POINTS:
            return ValueError(too_few(int(finite.sum())))
        layout = np.full((len(features), 2), np.nan, np.float32)
        layout[finite] = project(features[finite])
        return layout
    except Exception as error:  # whatever ails a store, it must not cost the reader the rest of the page
        return error


def _remembered(file: Path, count: int) -> np.ndarray | None:
    try:
        layout = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, or not what it should be: computed anew
        return None
    return layout if layout.shape == (count, 2) else None


def _remember(file: Path, layout: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".tmp")
    with open(partial, "wb") as out:
        np.save(out, layout)
    os.replace(partial, file)
