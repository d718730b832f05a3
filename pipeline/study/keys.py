"""Which row of a view's store is an utterance's: the row of its audio's content, or in text views that of its text.

Reads the manifest and a view's section; opens no store.
"""

import hashlib

import pandas as pd

from strata.extractors.view import TextView, View
from strata.pipeline.errors import StageError
from strata.pipeline.study.transcripts import doubt

CHARACTERS_PER_S = 15.0
"""Of a transcript, about: so that blocks of texts are made and watched like blocks of audio."""


def of(view: View, manifest: pd.DataFrame) -> pd.Series:
    """The key of each utterance's row; None where it has no text for a text view.

    Raises:
        StageError: the manifest lacks the column of a text view.
    """
    if not isinstance(view, TextView):
        return manifest["content"]
    return _texts(manifest, view.columns[0], view.without_loops).map(of_text, na_action="ignore").astype(object)


def of_text(text: str) -> str:
    """Identity of a text: a hash of its characters, 32 hexadecimal digits."""
    return hashlib.blake2b(f"text\0{text}".encode(), digest_size=16).hexdigest()


def rows(view: View, manifest: pd.DataFrame) -> pd.DataFrame:
    """What there is to compute: one row per key with `content` (the key), `utterance`, `audio`, `start_s`, `duration_s`
    and `text`, which is None for audio. What several utterances share goes by the name of the first.

    Raises:
        StageError: the manifest lacks a column of a text view, or all its columns are empty.
    """
    columns = ["content", "utterance", "audio", "start_s", "duration_s", "text"]
    if not isinstance(view, TextView):
        return manifest.drop_duplicates("content").assign(text=None)[columns]
    found = []
    for column in view.columns:
        texts = _texts(manifest, column, view.without_loops)
        spoken = {"content": texts.map(of_text, na_action="ignore"), "text": texts}
        table = manifest.assign(**spoken, start_s=0.0, duration_s=texts.map(len, na_action="ignore") / CHARACTERS_PER_S)
        found.append(table[texts.notna()])
    table = pd.concat(found).drop_duplicates("content")[columns].reset_index(drop=True)
    if table.empty:
        raise StageError(f"no utterance has a text in {', '.join(view.columns)}; transcribe the corpus first")
    return table


def _texts(manifest: pd.DataFrame, column: str, without_loops: bool) -> pd.Series:
    """A column's texts; blank ones are none, nor are those of a recogniser that loop where these are left out."""
    if column not in manifest:
        offered = [name for name in manifest if name.startswith("transcript")]
        raise StageError(
            f"a text view reads the column {column!r}, which the manifest lacks; it has "
            f"{', '.join(offered) or 'none'}: name one of those in its columns, or let `strata transcribe` fill it"
        )
    texts = manifest[column].astype(object)
    said = texts.notna() & texts.astype(str).str.strip().ne("")
    if without_loops and column != "transcript":  # the corpus's own are nobody's invention
        pairs = zip(texts.where(said, ""), manifest["duration_s"], strict=True)
        said &= pd.Series([doubt(text, seconds) is None for text, seconds in pairs], index=said.index, dtype=bool)
    return texts.where(said, None)
