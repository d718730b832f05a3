"""A study: the folder of one params.yaml, and where everything lies below it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from strata.pipeline.errors import StageError
from strata.pipeline.study import params as params_module
from strata.pipeline.study.links import reachable


@dataclass(frozen=True)
class Study:
    """Parameters and paths; nothing is read before it is asked for."""

    params_file: Path

    @property
    def folder(self) -> Path:
        """Where params.yaml lies and everything is written below."""
        return self.params_file.parent

    @cached_property
    def params(self) -> params_module.Params:
        """The checked parameters."""
        return params_module.load(self.params_file)

    @cached_property
    def raw_params(self) -> Mapping:
        """The parameters as written, for records and reports."""
        _ = self.params  # refuses a wrong file first
        return params_module.read(self.params_file)

    @property
    def manifest(self) -> Path:
        """One row per utterance."""
        return self.folder / "data" / "manifest.parquet"

    @property
    def corpus_failures(self) -> Path:
        """The recordings that cannot be used."""
        return self.folder / "data" / "corpus.failures.csv"

    def store(self, view: str) -> Path:
        """A view's feature store.

        Raises:
            StageError: a link that leads nowhere lies in its place.
        """
        return reachable(self.folder / "features" / f"{view}.zarr")

    def embeddings(self, name: str) -> Path:
        """The store of a trained model's embeddings.

        Raises:
            StageError: a link that leads nowhere lies in its place.
        """
        return reachable(self.folder / "embeddings" / f"{name}.zarr")

    def extract_failures(self, view: str) -> Path:
        """The utterances that a view could not take."""
        return self.folder / "features" / f"{view}.failures.csv"

    @property
    def transcripts(self) -> Path:
        """What recognisers heard: see `study.transcripts`."""
        return self.folder / "data" / "transcripts.parquet"

    @property
    def transcribe_failures(self) -> Path:
        """The utterances that a recogniser could not take."""
        return self.folder / "data" / "transcripts.failures.csv"

    def results(self, *names: str) -> Path:
        """The folder of an experiment's results, or `results("eliminate", name)`."""
        return self.folder.joinpath("results", *names)

    def read_manifest(self, *, check: bool = True):
        """The manifest as a DataFrame, with a column `transcript_<name>` for each recogniser that has been run.

        Args:
            check: says so where a local checkpoint has changed since it made such a column; once per study.

        Raises:
            StageError: there is none yet, a link that leads nowhere lies in its place, or a label has
                the name of such a column.
        """
        import pandas as pd

        from strata.pipeline.study.transcripts import merged

        if not reachable(self.manifest).exists():
            raise StageError(f"no {self.manifest}: run `strata corpus` first (or `dvc pull`, if it was made elsewhere)")
        table = merged(pd.read_parquet(self.manifest), self.transcripts, self.params.transcribe)
        if check:
            _ = self._stale_is_said
        return table

    @cached_property
    def _stale_is_said(self) -> bool:
        from strata.pipeline.progress import say
        from strata.pipeline.study.transcripts import stale

        found = stale(self.folder, self.transcripts, self.params.transcribe)
        for column, checkpoint in found.items():
            say(f"{column} was made by another state of {checkpoint}: run `strata transcribe`")
        return bool(found)

    def chosen(self, section: str, names: Sequence[str]) -> list[str]:
        """The names given on the command line, or all of the section.

        Raises:
            StageError: a name that the section does not have.
        """
        known = getattr(self.params, section)
        for name in names:
            if name not in known:
                raise StageError(f"{self.params_file} has no {section}.{name}; it has {', '.join(known) or 'none'}")
        return list(dict.fromkeys(names or known))
