"""A study's embeddings in the place of its views: their rows, and what their models were trained on.

Reads embeddings/<name>.zarr, which `strata embed` writes, and the list beside the rows of what must not be tested.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from strata.extractors.view import View
from strata.pipeline.errors import StageError
from strata.pipeline.study import keys, segments
from strata.pipeline.study.folder import Study
from strata.pipeline.study.sources import Cached, Sources
from strata.store import FeatureStore

LAYER = "embedding"
"""Name of the one layer of such a store."""
SEEN = "seen.parquet"
"""What audio the model was trained on, by content and as stretches of recordings: who uses its embeddings must not test
on it."""


def digest(content: bytes) -> str:
    """Identity of a file that an embedding follows from."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class Embeddings(Sources):
    """A study's manifest and embeddings, in the place of its views."""

    command = "embed"

    def __init__(self, study: Study):
        super().__init__(study)
        self._seen: dict[str, frozenset[str]] = {}

    def seen(self, name: str) -> frozenset[str]:
        """Contents of the audio that an embedding's model was trained on: also of segments of a recording that it heard
        whole, and of what else overlaps with what it heard.

        Of text views also that of other recordings of the same texts.
        """
        if name not in self._seen:
            self._seen[name] = self._read_seen(name)
        return self._seen[name]

    def _read_seen(self, name: str) -> frozenset[str]:
        store = self._open(name)
        try:
            heard = pd.read_parquet(io.BytesIO(self._seen_bytes(store)))
        except OSError as error:
            raise StageError(f"{store.path / SEEN} cannot be read ({error}); run `strata embed {name}` again") from None
        known = keys.of(self._section(name), self.manifest)
        trained = self.manifest["content"].isin(heard["content"])
        # As it was then, and as it is here: a recording may have left the corpus, or its name may be of another kind.
        spans = [segments.spans(self.manifest[trained]), *([heard] if segments.SPAN[0] in heard else [])]
        trained |= segments.overlapping(self.manifest, pd.concat(spans)[segments.SPAN])
        same = trained | known.isin(known[trained].dropna())
        return frozenset(heard["content"]) | frozenset(self.manifest["content"][same])

    def _seen_bytes(self, store: FeatureStore) -> bytes:
        content = (store.path / SEEN).read_bytes()
        if digest(content) != store.header.fingerprint["seen"]:
            raise OSError("it is not of this model")
        return content

    def dataset(self, table: pd.DataFrame, views: Mapping[str, Cached], layers: Mapping[str, object]):
        """See `Sources.dataset`; knows what must not be tested."""
        return replace(super().dataset(table, views, layers), seen=self.seen_by(views))

    def seen_by(self, views: Iterable[str]) -> frozenset[str]:
        """See `Sources.seen_by`: what any of the embeddings' models has heard."""
        return frozenset().union(*(self.seen(name) for name in views))

    def _open(self, view: str) -> FeatureStore:
        path = self.study.embeddings(view)
        if not FeatureStore.exists(path):
            raise StageError(f"no embeddings at {path}: run `strata embed {view}` first (or `dvc pull`)")
        return FeatureStore.open(path)

    def _section(self, view: str) -> View:
        # Rows go by the keys of the view that the model reads.
        read = self._open(view).header.fingerprint["view"]
        if read not in self.study.params.views:
            raise StageError(f"the embeddings {view} were made of view {read}, which params.yaml has no more")
        return self.study.params.views[read]
