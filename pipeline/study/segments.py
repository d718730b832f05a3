"""Which utterances are parts of one recording, and which of them overlap: from a table of utterances.

A recording is known by the bytes of its whole file (`audio_content` of the manifest), so that copies at two paths are
one; in manifests written before there was such a column, by its path.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool

from strata.trainers.inputs.data import ROUNDING_S, Segments

SPAN = ["recording", "start_s", "end_s"]
"""Columns that say what was heard."""


def spans(table: pd.DataFrame) -> pd.DataFrame:
    """The columns `SPAN` of utterances, by the table's index."""
    recording = table["audio"].astype(object)
    if "audio_content" in table:
        recording = table["audio_content"].astype(object).where(table["audio_content"].notna(), recording)
    start = table["start_s"].astype(float)
    end = start + table["duration_s"].astype(float)
    return pd.DataFrame({"recording": recording, "start_s": start, "end_s": end})


def of(table: pd.DataFrame) -> Segments:
    """As trainers take them."""
    found = spans(table)
    return Segments(found["recording"].tolist(), found["start_s"].to_numpy(), found["end_s"].to_numpy())


def overlapping(table: pd.DataFrame, heard: pd.DataFrame) -> Bool[np.ndarray, " utterances"]:
    """Which utterances share audio with what was heard: the columns `SPAN` of the latter."""
    own = spans(table)
    heard = heard[heard["recording"].isin(own["recording"])]
    found = np.zeros(len(own), bool)
    if heard.empty:
        return found
    # Stretches that were heard without a gap, one after the other within each recording.
    numbers = Segments(heard["recording"].tolist(), heard["start_s"].to_numpy(), heard["end_s"].to_numpy()).overlaps()
    stretches = heard.groupby(numbers).agg(
        recording=("recording", "first"), start_s=("start_s", "min"), end_s=("end_s", "max")
    )
    own = own.assign(row=np.arange(len(own)))
    pairs = own.merge(stretches, on="recording", suffixes=("", "_heard"))
    shared = np.minimum(pairs["end_s"], pairs["end_s_heard"]) - np.maximum(pairs["start_s"], pairs["start_s_heard"])
    found[pairs["row"][shared.round(6) > ROUNDING_S]] = True
    return found
