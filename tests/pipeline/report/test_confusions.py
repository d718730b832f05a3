"""What experiments took for what."""

import pandas as pd

from strata.pipeline.report import confusions
from strata.pipeline.report.collect import collect


def predicted(true: list, taken_for: list, **more: object) -> pd.DataFrame:
    """Predictions, each an utterance of its own unless said otherwise."""
    return pd.DataFrame({"true": true, "predicted": taken_for, "weight": 1.0, **more})


def test_confusions_are_counted_by_true_and_predicted_class():
    """Worked by hand; a class that nobody named before follows the known ones."""
    found = confusions.confusions(predicted(["a", "a", "b", "a"], ["a", "c", "b", "c"]), ["b", "a"])
    assert found.classes == ("b", "a", "c")
    triples = zip(found.true.tolist(), found.predicted.tolist(), found.counts.tolist(), strict=True)
    assert list(triples) == [(0, 0, 1), (1, 1, 1), (1, 2, 2)]
    assert found.totals.tolist() == [1, 3, 0]
    table = confusions.most_frequent(found, "letter")
    assert [[cell.text for cell in row] for row in table.rows] == [["a", "c", "2", "66.7"]]


def test_the_most_frequent_confusions_come_first_and_are_not_too_many():
    """Equal ones in the order of the classes."""
    found = confusions.confusions(predicted(list("aabbbcc"), list("bcccabb")), "abc")
    rows = confusions.most_frequent(found, "letter", most=3).rows
    assert [[cell.text for cell in row] for row in rows] == [
        ["b", "c", "2", "66.7"], ["c", "b", "2", "100.0"], ["a", "b", "1", "50.0"],
    ]  # fmt: skip


def test_the_most_frequent_confusions_count_utterances_not_seeds(full):
    """Three seeds that predict alike are one utterance each; where they differ, it is their mean, and said to be."""
    path = full.folder / "results" / "tango" / "predictions.parquet"
    columns = {"speaker.true": ["a", "a", "b"], "speaker.predicted": ["b", "b", "b"]}
    table = pd.DataFrame({"utterance": ["u1", "u2", "u3"], **columns})
    seeds = [table.assign(seed=seed) for seed in range(3)]
    pd.concat(seeds, ignore_index=True).to_parquet(path)

    def counted():
        (tango, *_) = collect(full.folder, full.params).experiments
        found = confusions.confusions(confusions.predictions(tango, "speaker"), ["a", "b"])
        return found.counts.tolist(), confusions.most_frequent(found, "speaker")

    counts, found = counted()
    assert counts == [2, 1]
    assert [[cell.text for cell in row] for row in found.rows] == [["a", "b", "2", "100.0"]]
    assert found.notes == ()
    seeds[0]["speaker.predicted"] = ["a", "a", "b"]
    pd.concat(seeds, ignore_index=True).to_parquet(path)
    _, found = counted()
    assert [[cell.text for cell in row] for row in found.rows] == [["a", "b", "1.3", "66.7"]]
    assert found.notes == ("Utterances are means over the seeds.",)
