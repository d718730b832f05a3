"""What a manifest keeps of corpora whose recordings are not on this machine: their rows, as they are.

A box that only trains holds the manifest and no audio, and `strata corpus` runs there too, at every `dvc repro`. A
corpus is taken for absent where nothing usable was found of it and none of the files that the manifest names for it is
there: one that lies where it lay, and cannot be read, is an error as ever. Reads data/manifest.parquet and the table of
what could not be used; where dvc.lock lists others than those at hand, they are pulled first. Opens no audio.
"""

import io
from collections.abc import Collection, Mapping
from functools import cached_property

import pandas as pd

from strata.pipeline.errors import StageError
from strata.pipeline.study import dvcfile
from strata.pipeline.study.folder import Study
from strata.pipeline.study.manifest import COLUMNS, corpus_of


class Earlier:
    """The state that an earlier run of `strata corpus` left, here or elsewhere."""

    def __init__(self, study: Study):
        """Fetches a study's manifest that is gone, where dvc.lock lists one; else reads nothing yet."""
        self._study = study
        self._lost = "" if study.manifest.exists() else self._fetch()

    def of(self, corpus: str, why: str) -> tuple[list[dict], list[dict]] | None:
        """Rows and failures of a corpus of which nothing was found here; None where it is not merely absent.

        Args:
            corpus: its name.
            why: nothing was found.

        Raises:
            StageError: dvc.lock lists a manifest, which is not here and cannot be fetched.
        """
        if self._lost:
            raise StageError(f"{corpus}: {why}, and {self._lost}")
        own = self._manifest[corpus_of(self._manifest) == corpus]
        if own.empty or any((self._study.folder / path).exists() for path in own["audio"].unique()):
            return None
        failures = [row for row in self._failures if str(row["utterance"]).startswith(f"{corpus}/")]
        return own.to_dict("records"), failures

    def is_all(self, corpora: Collection[str]) -> bool:
        """Whether the manifest is of these corpora and no others."""
        return set(corpora) == set(corpus_of(self._manifest))

    def says(self, content: bytes) -> bool:
        """Whether the manifest holds what these bytes of a Parquet file hold; another pyarrow writes other bytes."""
        path = self._study.manifest
        try:
            return path.exists() and pd.read_parquet(path).equals(pd.read_parquet(io.BytesIO(content)))
        except (OSError, ValueError):
            return False  # unreadable: to be written anew

    def _fetch(self) -> str:
        return dvcfile.bring(self._study, "corpus", self._study.manifest, self._study.corpus_failures)

    @cached_property
    def _manifest(self) -> pd.DataFrame:
        """Without the labels that only corpora had which params.yaml has no more."""
        self._fetch()  # what is here may be of an older revision than dvc.lock
        if not self._study.manifest.exists():
            return pd.DataFrame(columns=COLUMNS)
        table = pd.read_parquet(self._study.manifest)
        current = table[corpus_of(table).isin(list(self._study.params.corpora))]
        labels = [column for column in table if column not in COLUMNS]
        gone = [column for column in labels if table[column].notna().any() and current[column].isna().all()]
        return table.drop(columns=gone)

    @cached_property
    def _failures(self) -> list[Mapping]:
        if not self._study.corpus_failures.exists():
            return []
        return pd.read_csv(self._study.corpus_failures, keep_default_na=False, dtype=str).to_dict("records")
