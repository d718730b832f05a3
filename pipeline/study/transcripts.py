"""data/transcripts.parquet: what recognisers heard, a row per recording and a column `transcript_<name>` for each.

Beside the texts it keeps by which section and by which model a column was made, in the metadata of the file's schema.
Rows of recordings that leave the corpus stay, and cost nothing when those come back. Knows no audio and no model.
"""

import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from strata.extractors.recogniser import RecogniserSection
from strata.pipeline.errors import StageError
from strata.pipeline.files import write_if_changed

_MADE_BY = b"strata.made_by"


MOST_COMPRESSION = 2.4
"""A text that shrinks further than this repeats itself: Whisper's own threshold (Radford et al., 2023, section 4.5)."""
MOST_CHARACTERS_PER_S = 30.0
"""Nobody speaks faster; the fastest say some 25."""
_STRETCH = 480
"""Characters that are looked at together: about half a minute of speech. Longer texts shrink further by themselves."""


def doubt(text: str, seconds: float) -> str | None:
    """The reason why a recogniser's text is not to be trusted; None where there is none.

    Args:
        text: what it heard.
        seconds: how long the recording lasts; less than a second counts as one.
    """
    # By letters and not by bytes: scripts of three bytes a letter are no more repetitive than others.
    numbers = {letter: number for number, letter in enumerate(dict.fromkeys(text))}
    code = b"".join(numbers[letter].to_bytes(1 + (len(numbers) > 256)) for letter in text)
    size = _STRETCH * (1 + (len(numbers) > 256))
    stretches = [code[start : start + size] for start in range(0, max(1, len(code) - size // 2), size // 2)]
    ratio = max((len(stretch) / len(zlib.compress(stretch)) for stretch in stretches), default=0.0)
    if ratio > MOST_COMPRESSION:
        return f"its text repeats itself: it compresses {ratio:.1f} times, more than {MOST_COMPRESSION:g}"
    rate = len(text) / max(seconds, 1.0)
    if rate > MOST_CHARACTERS_PER_S:
        return f"its text is too long: {rate:.0f} characters a second, more than {MOST_CHARACTERS_PER_S:g}"
    return None


def column(name: str) -> str:
    """The column of a recogniser's texts."""
    return f"transcript_{name}"


@dataclass
class Transcripts:
    """The table in memory."""

    path: Path
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    """Recogniser → content → text."""
    made_by: dict[str, dict[str, object]] = field(default_factory=dict)
    """Recogniser → `section` and `fingerprint` of its texts."""

    @classmethod
    def read(cls, path: Path) -> "Transcripts":
        """The table of a file; an empty one where there is none.

        Raises:
            StageError: the file is no such table.
        """
        found = cls(path)
        if not path.exists():
            return found
        try:
            table = pq.read_table(path)
            found.made_by = json.loads(table.schema.metadata[_MADE_BY])
            contents = table["content"].to_pylist()
            for name in found.made_by:
                texts = zip(contents, table[column(name)].to_pylist(), strict=True)
                found.texts[name] = {content: text for content, text in texts if text is not None}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StageError(
                f"{path} is not a table of transcripts ({type(error).__name__}): remove it, and `strata transcribe` "
                "makes it anew"
            ) from error
        return found

    def write(self) -> bool:
        """Puts the table in place, if it has changed; whether it has. The same texts give the same bytes."""
        contents = sorted(set().union(*self.texts.values()))
        names = sorted(self.made_by)
        columns = {column(name): [self.texts[name].get(content) for content in contents] for name in names}
        schema = pa.schema([("content", pa.string()), *((name, pa.string()) for name in columns)])
        made_by = json.dumps(self.made_by, sort_keys=True).encode()
        table = pa.table({"content": contents, **columns}, schema=schema).replace_schema_metadata({_MADE_BY: made_by})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return write_if_changed(self.path, buffer.getvalue())

    def made_from(self, name: str, section: RecogniserSection) -> Mapping[str, object] | None:
        """The fingerprint of the model that made a recogniser's texts from this section; None where none has."""
        made = self.made_by.get(name, {})
        return made.get("fingerprint") if made.get("section") == _as_kept(section) else None

    def begin(self, name: str, section: RecogniserSection, fingerprint: Mapping[str, object]) -> int:
        """Makes room for a recogniser's texts; those of another model or setting under its name are forgotten.

        Returns:
            How many were forgotten.
        """
        forgotten = 0
        if self.made_by.get(name, {}).get("fingerprint") != fingerprint:
            forgotten = len(self.texts.get(name, {}))
            self.texts[name] = {}
        self.made_by[name] = {"section": _as_kept(section), "fingerprint": dict(fingerprint)}
        return forgotten


def merged(table: pd.DataFrame, path: Path, sections: Mapping[str, RecogniserSection]) -> pd.DataFrame:
    """The manifest with the column of every recogniser that params name and that has been run as they say now.

    Raises:
        StageError: a label of the corpus has the name of such a column, or the file is no table of transcripts.
    """
    for name in sections:
        if column(name) in table:
            raise StageError(
                f"the corpus has a label {column(name)}, which is the column of transcribe.{name}: give the recogniser "
                "another name in params.yaml"
            )
    if not sections:
        return table
    found = Transcripts.read(path)
    columns = {}
    for name, section in sections.items():
        if found.made_by.get(name, {}).get("section") == _as_kept(section):
            texts = pd.Series(map(found.texts[name].get, table["content"]), index=table.index, dtype=object)
            corpora = table["utterance"].str.split("/", n=1).str[0]
            columns[column(name)] = texts.where(corpora.isin(section.corpora), None) if section.corpora else texts
    return table.assign(**columns)


def memory(name: str) -> str:
    """The name under which `study.fingerprints` remembers a recogniser."""
    return f"transcribe/{name}"


def stale(folder: Path, path: Path, sections: Mapping[str, RecogniserSection]) -> dict[str, Path]:
    """The columns of `merged` that another state of a local checkpoint made, as far as that can be told by sizes and
    times of its files, and the checkpoint's folder. Silent where the checkpoint is not here, or was never used here.

    Args:
        folder: the study's.
        path: of the table.
        sections: of params.
    """
    if not sections or not path.exists():
        return {}
    from strata.pipeline.study import fingerprints

    found, made_by = {}, json.loads(pq.read_schema(path).metadata[_MADE_BY])
    for name, section in sections.items():
        made = made_by.get(name, {})
        if made.get("section") == _as_kept(section):
            changed = fingerprints.changed(folder, memory(name), as_json(section), made["fingerprint"])
            if changed is not None:
                found[column(name)] = changed
    return found


def as_json(section: RecogniserSection) -> str:
    """What a recogniser's texts follow from, in params."""
    return section.model_dump_json(exclude={"corpora"})


def _as_kept(section: RecogniserSection) -> dict[str, object]:
    # Without defaults: an option that a later version adds makes no other section of an old one.
    return section.model_dump(mode="json", exclude_defaults=True, exclude={"corpora"})
