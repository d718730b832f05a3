"""data/manifest.parquet: one row per utterance of all corpora, and what may be asked of its rows.

Knows neither how the rows came about (`stages.corpus`) nor what is computed from them.
"""

import pandas as pd

from strata.pipeline.corpora import adapter
from strata.pipeline.study.folder import Study

COLUMNS = [
    *("utterance", "audio", "start_s", "duration_s", "sampling_rate", "content", "audio_content"),
    *("speaker", "split", "transcript"),
]
"""Columns of every manifest, in order; one column per label follows."""


def corpus_of(manifest: pd.DataFrame) -> pd.Series:
    """The corpus of each utterance: the part of its id before the first slash."""
    return manifest["utterance"].str.split("/", n=1).str[0].rename("corpus")


def channels(study: Study, rows: pd.DataFrame) -> pd.Series:
    """Which channel of its file each utterance is, as the section of its corpus has it now; None: the mean of all."""
    chosen = {corpus: section.channel for corpus, section in study.params.corpora.items()}
    found = [chosen.get(corpus) for corpus in corpus_of(rows)]
    return pd.Series(found, index=rows.index, dtype=object, name="channel")


def make_absent_audio(study: Study, rows: pd.DataFrame) -> None:
    """Makes what recordings of synthetic corpora are absent: the manifest may have come from DVC's cache."""
    for corpus, section in study.params.corpora.items():
        own = rows[rows["utterance"].str.startswith(f"{corpus}/")]
        if section.synthetic and not all((study.folder / path).exists() for path in own["audio"]):
            for _ in adapter(section.adapter).utterances(section, study.folder):
                pass  # each file is there when its utterance is yielded


def synthetic_corpora(study: Study, table: pd.DataFrame) -> list[str]:
    """Those among the corpora of these utterances in which nobody ever spoke."""
    used = set(corpus_of(table))
    return [name for name, corpus in study.params.corpora.items() if corpus.synthetic and name in used]
