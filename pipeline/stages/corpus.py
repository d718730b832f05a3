"""`strata corpus`: the corpora named in params.yaml → data/manifest.parquet, one row per utterance.

Opens every file once: hashes its bytes, decodes it, and lists what cannot be used. What a file holds is remembered by
its size and time of change, so that a second run only looks at what is new.
"""

import os
from argparse import ArgumentParser
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd

from strata.extractors import UnusableAudio, audio
from strata.extractors.links import dangling
from strata.pipeline.corpora import CorpusError, CorpusSection, Problem, Utterance, adapter
from strata.pipeline.errors import StageError, suggestion
from strata.pipeline.files import code_hash, failure_table, write_if_changed
from strata.pipeline.progress import bar, counted, say
from strata.pipeline.study import dvcfile, options
from strata.pipeline.study.absent import Earlier
from strata.pipeline.study.folder import Study
from strata.pipeline.study.manifest import COLUMNS, corpus_of
from strata.trainers.tasks.classification import class_name

LISTED = "data/corpus.failures.csv"
"""Where unusable recordings are listed, below the study's folder."""


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    parser.epilog = "example: strata corpus"
    options.add_study(parser)
    parser.set_defaults(call=lambda given: run(options.study_of(given)))


def run(study: Study) -> None:
    """Writes the manifest and the table of unusable recordings; of corpora that are not here both stay as they are.

    Raises:
        StageError: a corpus's `rename` does not fit its labels; no usable recording, or a larger share of unusable ones
            in a corpus than its `max_failed`. In the last case what is usable has been written by then.
    """
    dvcfile.mend(study)
    rows, failures, complaints, absent = [], [], [], {}
    earlier = Earlier(study)
    with _Inspector(study) as inspector:
        for corpus, section in study.params.corpora.items():
            found, unusable, why = _found_or_known(inspector, earlier, corpus, section)
            if why:
                rows += found
                failures += unusable
                absent[corpus] = why
                continue
            note = " (synthetic: scores on it say nothing of real speech)" if section.synthetic else ""
            hours = sum(row["duration_s"] for row in found) / 3600
            say(f"{corpus}: {counted(len(found), 'utterance')}, {hours:.2f} h, {len(unusable)} unusable{note}")
            if len(unusable) > section.max_failed * (len(found) + len(unusable)):
                complaints.append(
                    f"{corpus}: {len(unusable)} of {len(found) + len(unusable)} recordings cannot be used, more than "
                    f"corpora.{corpus}.max_failed ({section.max_failed:.0%})"
                )
            rows += found
            failures += unusable
    if absent:
        corpora, why = ", ".join(absent), next(iter(absent.values()))
        say(f"{corpora}: not on this machine ({why}); {study.manifest} keeps what it has of them")
    changed = write_if_changed(study.corpus_failures, failure_table(failures))
    if not rows:
        raise StageError(f"no usable recording in {', '.join(study.params.corpora)}; {LISTED} lists the reasons")
    if len(absent) < len(study.params.corpora) or not earlier.is_all(absent):  # else it stays as it is
        table = _manifest(rows).to_parquet(index=False)
        changed |= not earlier.says(table) and write_if_changed(study.manifest, table)
    say(f"{study.manifest}: {counted(len(rows), 'utterance')}" + ("" if changed else ", up to date"))
    if failures:
        say(f"{counted(len(failures), 'recording')} cannot be used; {study.corpus_failures} lists what is wrong")
    if complaints:
        raise StageError(f"{'; '.join(complaints)}; see {LISTED}, mend them, or raise the limit in params.yaml")


def _found_or_known(
    inspector: "_Inspector", earlier: Earlier, corpus: str, section: CorpusSection
) -> tuple[list, list, str]:
    """Manifest rows and failures of one corpus, and why they are those of an earlier run; empty where they are not."""
    found, unusable, why, error = [], [], "none of its files is here", None
    try:
        found, unusable = inspector.inspect(corpus, section)
    except CorpusError as caught:
        why, error = str(caught), caught
    known = None if found else earlier.of(corpus, why)
    if known is not None:
        return *known, why
    if error is not None:
        raise error
    return found, unusable, ""


class _Inspector:
    """Looks into audio files, several at a time, and remembers what it saw."""

    def __init__(self, study: Study):
        self.study = study
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

    def inspect(self, corpus: str, section: CorpusSection) -> tuple[list[dict], list[dict]]:
        """Manifest rows and failures of one corpus, in the corpus's order."""
        items = _renamed(corpus, section, list(adapter(section.adapter).utterances(section, self.study.folder)))
        rows, failures = [], []
        for item, seen in zip(items, self._seen(items, corpus, section), strict=True):
            name = f"{corpus}/{item.name}"
            if seen.get("reason"):
                path = "" if item.audio is None else self._written(item.audio)
                failures.append({"utterance": name, "audio": path, "reason": seen["reason"]})
            else:
                labels = {k: v for k, v in item.labels.items() if k not in COLUMNS}
                special = {k: item.labels.get(k) for k in ("speaker", "split", "transcript")}
                known = {k: seen[k] for k in ("duration_s", "sampling_rate", "content", "audio_content")}
                row = {"utterance": name, "audio": self._written(item.audio), "start_s": item.start_s}
                rows.append(row | known | special | labels)
        return rows, failures

    def _seen(self, items: Sequence[Utterance | Problem], corpus: str, section: CorpusSection) -> list[dict]:
        """What each item holds, or the reason why it cannot be used; files with several are looked into once."""
        seen: list[dict] = [{"reason": item.reason} if isinstance(item, Problem) else {} for item in items]
        files: dict[Path, list[int]] = {}
        for place, item in enumerate(items):
            if not seen[place]:
                files.setdefault(item.audio, []).append(place)

        def look(path: Path) -> list[dict]:
            segments = [(items[place].start_s, items[place].duration_s) for place in files[path]]
            return self._look(path, segments, section.silence_dbfs, section.channel)

        with bar(len(items), "files", corpus) as progress:
            progress.update(sum(map(bool, seen)))
            for places, found in zip(files.values(), self.pool.map(look, files), strict=True):
                progress.update(len(places))
                for place, each in zip(places, found, strict=True):
                    seen[place] = each
        return seen

    def _look(
        self, path: Path, segments: Sequence[audio.Segment], silence_dbfs: float, channel: audio.Channel
    ) -> list[dict]:
        try:
            status = path.stat()
        except OSError:
            return [{"reason": dangling(path) or "no such file"}] * len(segments)
        state = f"{status.st_size},{status.st_mtime_ns},{status.st_ctime_ns},{status.st_ino}"
        how = f"{state},{silence_dbfs},{channel},{code_hash(Path(audio.__file__).parent)}+audio_content"
        keys = [f"{path.absolute()}#{start_s}+{duration_s}@{how}" for start_s, duration_s in segments]
        new = {key: segment for key, segment in zip(keys, segments, strict=True) if key not in self.memory}
        try:
            found = dict(zip(new, _looked_into(path, list(new.values()), silence_dbfs, channel), strict=True))
        except (UnusableAudio, OSError) as error:
            found = {key: {"reason": str(error)} for key in new}
        except Exception as error:  # whatever a decoder does of a strange file, it costs that file only
            found = {key: {"reason": f"unreadable: {type(error).__name__}: {error}"} for key in new}
        # Reasons are not remembered: a disk may have been away.
        self.memory |= {key: seen for key, seen in found.items() if "reason" not in seen}
        return [found[key] if key in found else self.memory[key] for key in keys]

    def _written(self, path: Path) -> str:
        """A path as the manifest has it: relative to the study, unless the corpus was given by an absolute one."""
        given_absolute = path.is_absolute() and not path.is_relative_to(os.path.abspath(self.study.folder))
        return str(path) if given_absolute else os.path.relpath(path, self.study.folder)


def _looked_into(
    path: Path, segments: Sequence[audio.Segment], silence_dbfs: float, channel: audio.Channel
) -> list[dict]:
    """What is remembered of each segment, or its reason."""
    if not segments:
        return []
    inspected = audio.inspect_all(path, segments, silence_dbfs, channel)
    usable = [place for place, found in enumerate(inspected) if isinstance(found, audio.Inspection)]
    # A segment that goes beyond its file by a rounding is known by what is there of it.
    stretches = [(segments[place][0], inspected[place].duration_s) for place in usable]
    contents = dict(zip(usable, audio.contents(path, stretches, channel) if usable else (), strict=True))
    whole = audio.content(path) if usable else ""
    return [
        {
            "duration_s": found.duration_s,
            "sampling_rate": found.sampling_rate,
            "content": contents[place],
            "audio_content": whole,
        }
        if place in contents
        else {"reason": str(found)}
        for place, found in enumerate(inspected)
    ]


def _renamed(corpus: str, section: CorpusSection, items: list[Utterance | Problem]) -> list[Utterance | Problem]:
    """The items with their labels called as the section wants them."""
    labels = dict.fromkeys(column for item in items if isinstance(item, Utterance) for column in item.labels)
    if not labels:  # not one utterance: that is what is to be told
        return items
    where = f"corpora.{corpus}.rename"
    for old, new in section.rename.items():
        if old not in labels:
            hint = suggestion(old, labels)
            raise StageError(f"{where}: no label {old!r} in this corpus{hint}; it has {', '.join(labels)}")
        if new in labels and new not in section.rename:
            raise StageError(f"{where}: {old} cannot be called {new}, which the corpus has too; rename {new} as well")
    called = {column: section.rename.get(column, column) for column in labels}
    return [
        replace(item, labels={called[column]: value for column, value in item.labels.items()})
        if isinstance(item, Utterance)
        else item
        for item in items
    ]


def _manifest(rows: list[dict]) -> pd.DataFrame:
    names = dict.fromkeys((*COLUMNS, *(name for row in rows for name in row)))
    # As objects: pandas would make float64 of whole numbers among which one is missing, whatever digits that costs.
    table = pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})
    table = table.astype({"start_s": float, "duration_s": float, "sampling_rate": int})
    labels = [column for column in table if column not in COLUMNS]
    for column in ("speaker", "split", "transcript", *labels):
        if column in COLUMNS or not table[column].dropna().map(_is_float).all():
            # Text in one corpus, numbers in another: text, so that the column has one type.
            table[column] = table[column].map(class_name, na_action="ignore").astype(object)
            table[column] = table[column].where(table[column].notna(), None)
        else:
            table[column] = table[column].astype(float)
    _warn_of_shared_speakers(table)
    return table[COLUMNS + labels]


def _is_float(value: object) -> bool:
    """Whether a label is a number that float64 keeps, to its last digit."""
    try:
        return not isinstance(value, str) and float(value) == value
    except OverflowError:
        return False


def _warn_of_shared_speakers(table: pd.DataFrame) -> None:
    counts = corpus_of(table).groupby(table["speaker"]).nunique()
    shared = list(counts[counts > 1].index)
    if shared:
        say(f"speaker {shared[0]!r} (and {len(shared) - 1} more) occurs in several corpora and is taken for one person")
