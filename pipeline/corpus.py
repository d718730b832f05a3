"""`strata corpus`: the corpora named in params.yaml → data/manifest.parquet, one row per utterance.

Opens every file once: hashes its bytes, decodes it, and lists what cannot be used. What a file holds is remembered by
its size and time of change, so that a second run only looks at what is new.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from extractors import UnusableAudio, audio
from pipeline import dvcfile
from pipeline.corpora import Problem, Utterance, adapter
from pipeline.errors import StageError
from pipeline.files import failure_table, write_if_changed
from pipeline.params import CorpusStage
from pipeline.progress import bar, say
from pipeline.study import Study

COLUMNS = ["utterance", "audio", "start_s", "duration_s", "sampling_rate", "content", "speaker", "split", "transcript"]
"""Columns of every manifest, in order; one column per label follows."""


def run(study: Study) -> None:
    """Writes the manifest and `data/corpus.failures.csv`.

    Raises:
        StageError: no usable utterance, or a larger share of unusable ones than `corpus.max_failed`; what is usable has
            been written by then.
    """
    dvcfile.watch_corpora(study)
    rows, failures = [], []
    how = study.params.corpus
    with _Inspector(study, how) as inspector:
        for corpus, section in study.params.corpora.items():
            found, unusable = inspector.inspect(corpus, adapter(section.adapter).utterances(section, study.folder))
            note = " (synthetic: scores on it say nothing of real speech)" if section.synthetic else ""
            hours = sum(row["duration_s"] for row in found) / 3600
            say(f"{corpus}: {len(found)} utterances, {hours:.2f} h, {len(unusable)} unusable{note}")
            rows += found
            failures += unusable
    changed = write_if_changed(study.folder / "data" / "corpus.failures.csv", failure_table(failures))
    if not rows:
        raise StageError(
            f"no usable utterance in {', '.join(study.params.corpora)}; see data/corpus.failures.csv for the reasons"
        )
    changed |= write_if_changed(study.manifest, _manifest(rows).to_parquet(index=False))
    say(f"{study.manifest}: {len(rows)} utterances" + ("" if changed else ", up to date"))
    if len(failures) > how.max_failed * (len(rows) + len(failures)):
        raise StageError(
            f"{len(failures)} of {len(rows) + len(failures)} recordings cannot be used, more than corpus.max_failed "
            f"({how.max_failed:.0%}); data/corpus.failures.csv lists them with reasons; mend them, or raise the limit"
        )


class _Inspector:
    """Looks into audio files, several at a time, and remembers what it saw."""

    def __init__(self, study: Study, how: CorpusStage):
        self.study, self.how = study, how
        self.memory_file = study.folder / ".strata" / "inspected.parquet"

    def __enter__(self):
        try:
            table = pd.read_parquet(self.memory_file)
            self.memory = dict(zip(table["key"], table.drop(columns="key").to_dict("records"), strict=True))
        except (OSError, ValueError, KeyError):
            self.memory = {}  # none yet, or unreadable: it only saves time
        self.pool = ThreadPoolExecutor(os.cpu_count())
        return self

    def __exit__(self, *_):
        self.pool.shutdown(cancel_futures=True)
        if self.memory:
            table = pd.DataFrame.from_dict(self.memory, orient="index").rename_axis("key").reset_index()
            write_if_changed(self.memory_file, table.to_parquet(index=False))

    def inspect(self, corpus: str, items: Iterator[Utterance | Problem]) -> tuple[list[dict], list[dict]]:
        """Manifest rows and failures of one corpus, in the corpus's order."""
        items = list(items)
        rows, failures = [], []
        with bar(len(items), "files", corpus) as progress:
            for item, seen in zip(items, self.pool.map(self._look, items), strict=True):
                progress.update()
                name = f"{corpus}/{item.name}"
                if seen.get("reason"):
                    path = "" if item.audio is None else self._written(item.audio)
                    failures.append({"utterance": name, "audio": path, "reason": seen["reason"]})
                else:
                    labels = {k: v for k, v in item.labels.items() if k not in COLUMNS}
                    special = {k: item.labels.get(k) for k in ("speaker", "split", "transcript")}
                    known = {k: seen[k] for k in ("duration_s", "sampling_rate", "content")}
                    row = {"utterance": name, "audio": self._written(item.audio), "start_s": item.start_s}
                    rows.append(row | known | special | labels)
        return rows, failures

    def _look(self, item: Utterance | Problem) -> dict:
        if isinstance(item, Problem):
            return {"reason": item.reason}
        try:
            status = item.audio.stat()
        except OSError:
            return {"reason": "missing"}
        where = f"{item.audio.absolute()}#{item.start_s}+{item.duration_s}"
        key = f"{where}@{status.st_size},{status.st_mtime_ns},{status.st_ino},{self.how.silence_dbfs}"
        if key not in self.memory:
            self.memory[key] = self._open(item)
        return self.memory[key]

    def _open(self, item: Utterance) -> dict:
        nothing = {"duration_s": 0.0, "sampling_rate": 0, "content": "", "reason": ""}
        try:
            seen = audio.inspect(item.audio, item.start_s, item.duration_s, self.how.silence_dbfs)
        except UnusableAudio as error:
            return nothing | {"reason": str(error)}
        found = {"duration_s": seen.duration_s, "sampling_rate": seen.sampling_rate, "content": _content(item)}
        return nothing | found

    def _written(self, path: Path) -> str:
        """A path as the manifest has it: relative to the study, unless the corpus was given by an absolute one."""
        return str(path) if path.is_absolute() else os.path.relpath(path, self.study.folder)


def _content(item: Utterance) -> str:
    """Identity of an utterance's audio: a hash of the file's bytes and of the segment, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open(item.audio, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if item.start_s or item.duration_s is not None:
        digest.update(f"#{item.start_s!r}+{item.duration_s!r}".encode())
    return digest.hexdigest()


def _manifest(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    labels = [column for column in table if column not in COLUMNS]
    for column in ("speaker", "split", "transcript", *labels):
        known = table[column].dropna()
        if column in COLUMNS or known.map(type).eq(str).any():
            # Text in one corpus, numbers in another: text, so that the column has one type.
            table[column] = table[column].map(_as_text, na_action="ignore").astype(object)
            table[column] = table[column].where(table[column].notna(), None)
        else:
            table[column] = table[column].astype(float)
    _warn_of_shared_speakers(table)
    return table[COLUMNS + labels]


def _as_text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _warn_of_shared_speakers(table: pd.DataFrame) -> None:
    corpus = table["utterance"].str.split("/", n=1).str[0]
    counts = corpus.groupby(table["speaker"]).nunique()
    shared = list(counts[counts > 1].index)
    if shared:
        say(f"speaker {shared[0]!r} (and {len(shared) - 1} more) occurs in several corpora and is taken for one person")
