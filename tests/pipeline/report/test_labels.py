import numpy as np
import pandas as pd
import pytest

from strata.pipeline.report import labels
from strata.pipeline.report.collect import collect


@pytest.fixture
def ages(full):
    """A study with age and gender, which one speaker's recordings lack."""
    path = full.folder / "data" / "manifest.parquet"
    manifest = pd.read_parquet(path)
    number = manifest["speaker"].str.split().str[1].astype(int)
    manifest["age"] = np.where(number == 3, np.nan, 20.0 + number)
    manifest["gender"] = np.where(number % 2, "female", "male")
    manifest.to_parquet(path)
    full.params["tasks"]["gender"] = {"kind": "binary"}
    return full


def captions(study) -> list[str]:
    """Of the figures of age by gender; there must be no gap."""
    gaps = []
    drawn = labels.distributions(collect(study.folder, study.params), gaps)
    assert not gaps
    return [figure.caption for figure in drawn if " by gender" in figure.caption]


def test_age_is_split_by_gender_per_corpus_over_utterances_and_speakers(ages):
    """As in TANGO's Figs 3 to 5, and once more with every speaker counted once."""
    manifest = pd.read_parquet(ages.folder / "data" / "manifest.parquet").dropna(subset="age")
    found = captions(ages)
    assert len(found) == 4
    for corpus, (utterances, speakers) in zip(("demo", "mine"), zip(found[::2], found[1::2], strict=True), strict=True):
        part = manifest[manifest["utterance"].str.startswith(corpus)]["gender"].value_counts()
        counted = f"({part['female']} female, {part['male']} male)"
        assert utterances == f"{corpus}: age by gender, counted over utterances {counted}."
        assert speakers == f"{corpus}: age by gender, counted over speakers (4 female, 6 male)."


def test_a_classification_called_gender_splits_too(ages):
    """Some corpora have a third one."""
    ages.params["tasks"]["gender"] = {"kind": "classification"}
    assert len(captions(ages)) == 4


def test_without_a_quantity_or_a_group_nothing_is_split(ages):
    """The figures of the single tasks stand."""
    del ages.params["tasks"]["gender"]
    assert captions(ages) == []
    gaps = []
    assert len(labels.distributions(collect(ages.folder, ages.params), gaps)) == 3


@pytest.mark.parametrize("label", ["age", "gender"])
def test_speakers_are_counted_only_by_what_is_a_trait_of_theirs(ages, label):
    """A label of utterances, that changes within a speaker, says nothing when speakers are counted."""
    path = ages.folder / "data" / "manifest.parquet"
    manifest = pd.read_parquet(path)
    first = manifest.groupby("speaker")["utterance"].transform("first") == manifest["utterance"]
    other = manifest[label] + 1 if label == "age" else manifest[label].map({"female": "male", "male": "female"})
    manifest[label] = manifest[label].where(~first, other)
    manifest.to_parquet(path)
    assert all("over utterances" in caption for caption in captions(ages))
    assert len(captions(ages)) == 2
