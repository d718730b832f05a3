"""From the stores and the manifest to what a trainer takes: cached values and labels, one row per usable utterance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from strata.extractors.view import TextView, Upto, View
from strata.pipeline.errors import StageError
from strata.pipeline.progress import say
from strata.pipeline.study import dvcfile, keys, segments
from strata.pipeline.study.folder import Study
from strata.pipeline.study.gathered import Gathered
from strata.pipeline.study.manifest import COLUMNS, corpus_of
from strata.store import FeatureStore
from strata.trainers.inputs.data import Dataset
from strata.trainers.spec import Folds, Task


@dataclass(frozen=True)
class Cached:
    """A view's store, and which of its rows are those of the selected utterances."""

    store: FeatureStore
    keys: Sequence[str]
    """One per utterance."""


class Sources:
    """A study's manifest, stores and values, each read once however many experiments use it.

        with Sources(study) as sources:
            table, views = sources.select(…)
            data = sources.dataset(table, views, layers)  # to be used within

    What several experiments read is gathered together where all of them are selected first.
    """

    command = "extract"
    """What makes the stores."""

    def __init__(self, study: Study):
        self.study = study
        self._stores: dict[str, FeatureStore] = {}
        self._keys: dict[str, pd.Series] = {}
        self._there: dict[str, pd.Series] = {}
        self._asked: dict[str, set[str]] = {}
        self._gathered = Gathered(study.folder)
        self._tables: dict[bytes, tuple[pd.DataFrame, dict[str, list[str]]]] = {}
        self._said: set[str] = set()

    @property
    def has_said(self) -> bool:
        """Whether there was anything to be told of what was asked for so far."""
        return bool(self._said)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._gathered.close()

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """One row per utterance."""
        return self.study.read_manifest()

    def select(
        self, views: Sequence[str], tasks: Mapping[str, Task], folds: Folds, corpora: Sequence[str] = ()
    ) -> tuple[pd.DataFrame, dict[str, Cached]]:
        """The rows that every view has and at least one task is labelled for, and the views' values of them.

        Args:
            views: the views that must have an utterance.
            tasks: the tasks, one of which at least must be labelled.
            folds: tells whether utterances that share a text are kept apart.
            corpora: those whose utterances take part; all where none is named.

        Raises:
            StageError: nothing is left.
        """
        table = self.manifest
        if corpora:
            table = table[corpus_of(table).isin(corpora)]
        has_label = [labelled(table, name, task) for name, task in tasks.items() if (task.label or name) in table]
        usable = table[np.logical_or.reduce(has_label)] if has_label else table
        for view in views:
            there = self._present(view)[usable.index]
            if not there.all():
                self._say_once(
                    f"{(~there).sum()} of {len(usable)} utterances are not in view {view} and are left out; "
                    f"`strata {self.command} {view}` tells why"
                )
                usable = usable[there]
        if usable.empty:
            where = f" of {', '.join(corpora)}" if corpora else ""
            raise StageError(f"no utterance{where} is in all of {', '.join(views)} and labelled for {', '.join(tasks)}")
        # The cells of a grid share their rows: one table and one list of keys for all of them.
        rows = usable.index
        which = rows.to_numpy().tobytes()
        if which not in self._tables:
            self._tables[which] = (usable.reset_index(drop=True), {})
        usable, keys_of = self._tables[which]
        for view in views:
            keys_of.setdefault(view, self._keys[view][rows].tolist())
            self._asked.setdefault(view, set()).update(keys_of[view])
        cached = {view: Cached(self._stores[view], keys_of[view]) for view in views}
        for view, found in cached.items():
            section = self._section(view)
            if isinstance(section, TextView) and folds.disjoint != section.columns[0]:
                self._say_once(_shared_texts(view, section.columns[0], found, usable))
        return usable, cached

    def dataset(self, table: pd.DataFrame, views: Mapping[str, Cached], layers: Mapping[str, Sequence[str]]) -> Dataset:
        """Utterances with the layers of every view, gathered where that has not been done."""
        return Dataset(
            utterances=table["utterance"].tolist(),
            contents=table["content"].tolist(),
            labels=table.drop(columns=[c for c in COLUMNS if c not in ("speaker", "split", "transcript")]),
            features={
                view: self._gathered.pooled(view, cached.store, layers[view], cached.keys, self._asked.get(view, ()))
                for view, cached in views.items()
            },
            corpora=corpus_of(table).tolist(),
            segments=segments.of(table),
        )

    def seen_by(self, views: Iterable[str]) -> frozenset[str]:
        """Contents of the audio that something behind these views was trained on, which must not be tested: none."""
        return frozenset()

    def _present(self, view: str) -> pd.Series:
        """Which utterances of the manifest a view has."""
        if view not in self._there:
            store = self._open(view)
            known = keys.of(self._section(view), self.manifest)
            missing = set(store.missing(known.dropna().tolist()))
            self._stores[view], self._keys[view] = store, known
            self._there[view] = known.notna() & ~known.isin(missing)
        return self._there[view]

    def _open(self, view: str) -> FeatureStore:
        if dvcfile.lacking(self.study, view):  # a box that never extracts: another one has pushed it
            dvcfile.pull(self.study, view)
        store = FeatureStore.open(self.study.store(view))
        wanted = getattr(self._section(view), "layers", "all")
        wanted = range(wanted.upto + 1) if isinstance(wanted, Upto) else wanted
        if wanted != "all" and {str(layer) for layer in wanted} != set(store.layer_names):
            raise StageError(
                f"view {view}: params.yaml asks for the layers {', '.join(map(str, wanted))}, the store has "
                f"{', '.join(store.layer_names)}; write what it has, or give what you ask for a view of its own"
            )
        return store

    def _section(self, view: str) -> View:
        return self.study.params.views[view]

    def _say_once(self, line: str) -> None:
        if line and line not in self._said:
            self._said.add(line)
            say(line)


def labelled(table: pd.DataFrame, name: str, task: Task) -> pd.Series:
    """Which utterances have a label of a task; none where the manifest does not have such a label."""
    column = task.label or name
    known = table[column].notna() if column in table else pd.Series(False, index=table.index)
    return known & corpus_of(table).isin(task.corpora) if task.corpora else known


def _shared_texts(view: str, column: str, cached: Cached, table: pd.DataFrame) -> str:
    """A warning where several recordings have one text: folds keep recordings apart, and not what is said in them."""
    recordings = table.groupby(pd.Series(cached.keys, index=table.index))["content"].transform("nunique")
    shared = int((recordings > 1).sum())
    if not shared:
        return ""
    return (
        f"{view}: {shared} of {len(table)} utterances share their text with another recording, so a text that is "
        f"tested may have been trained on; `folds: {{disjoint: {column}}}` keeps texts apart"
    )


def shape_note(data: Dataset) -> str:
    """What a trainer was given, for a person."""
    sizes = ", ".join(f"{view} {f.shape[1]}×{f.shape[2]}" for view, f in data.features.items())
    return f"{len(data)} utterances, {sizes}, {np.sum([f.nbytes for f in data.features.values()]) / 1e6:.1f} MB"
