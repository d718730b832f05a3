import dataclasses

import numpy as np
import pytest
import torch

from trainers.data import TrainingError
from trainers.elimination import LayerElimination, Round, UnifiedEmbedding, eliminate
from trainers.poolings import WeightedAverage
from trainers.spec import Elimination, Folds

LAYERS = tuple("01234")


def test_the_lightest_layer_goes_each_round_and_validation_chooses():
    """Worked by hand: weights decide the order, the validation score the subset; the test score decides nothing."""
    weight = {"a": 0.1, "b": 0.4, "c": 0.2, "d": 0.3}
    valid = {4: 0.5, 3: 0.9, 2: 0.9, 1: 0.7}
    test = {4: 1.0, 3: 0.1, 2: 0.0, 1: 0.0}
    found = LayerElimination(
        lambda names: Round({n: weight[n] for n in names}, {"mean": valid[len(names)]}, {"mean": test[len(names)]})
    ).fit(list("abcd"))
    assert [list(r.weights) for r in found.rounds_] == [list("abcd"), list("bcd"), list("bd"), ["b"]]
    assert found.ranking_ == {"a": 4, "c": 3, "d": 2, "b": 1}
    assert found.support_ == ("b", "d")  # of two equal scores the one with fewer layers
    np.testing.assert_array_equal(found.scores_, [0.5, 0.9, 0.9, 0.7])


@pytest.mark.parametrize("informative", [0, 2, 4])
def test_planted_truth_survives(informative, data, tasks):
    """One informative layer among noise is the last to go, wherever it is, and the subset chosen keeps it."""
    rng = np.random.default_rng(informative)
    layers = rng.normal(size=(len(data), 5, 37)).astype(np.float32)
    layers[:, informative] = data.features["a"][:, 0]
    how = Elimination(view="v", tasks=["speaker", "age"], epochs=30, folds=Folds(stratify="speaker", validation=0.25))
    found, split = eliminate(how, tasks, dataclasses.replace(data, features={"v": layers}), LAYERS)
    assert found.ranking_[str(informative)] == 1
    assert str(informative) in found.support_
    assert len(found.rounds_) == 5
    assert sorted(np.concatenate([split.train, split.valid, split.test])) == list(range(len(data)))


def test_test_data_has_no_say_in_the_choice(data, tasks):
    """Other test features: other test scores, the same everything else."""
    how = Elimination(view="a", tasks=["speaker"], epochs=4)
    layers = np.repeat(data.features["a"], 3, axis=1) * np.array([[[1], [2], [3]]], np.float32)
    layers += np.random.default_rng(0).normal(size=layers.shape).astype(np.float32)
    before, split = eliminate(how, tasks, dataclasses.replace(data, features={"a": layers}), LAYERS[:3])
    layers = layers.copy()
    layers[split.test] = 0
    after, _ = eliminate(how, tasks, dataclasses.replace(data, features={"a": layers}), LAYERS[:3])
    assert [r.weights for r in before.rounds_] == [r.weights for r in after.rounds_]
    assert [r.valid for r in before.rounds_] == [r.valid for r in after.rounds_]
    assert before.support_ == after.support_
    assert [r.test for r in before.rounds_] != [r.test for r in after.rounds_]


def test_a_part_without_labels_is_refused(data, tasks):
    """Instead of an average over nothing."""
    labels = data.labels.assign(emotion=[None if i else "a" for i in range(len(data))])
    labels.loc[1, "emotion"] = "b"
    with pytest.raises(TrainingError, match="task emotion: a part of the split has no labelled utterance"):
        eliminate(Elimination(view="a", tasks=["emotion"]), tasks, dataclasses.replace(data, labels=labels), ["0"])


def test_pooling_before_fc1_equals_fc1_on_every_layer():
    """The weighted average commutes with a linear layer, because its weights sum to 1."""
    torch.manual_seed(0)
    model = UnifiedEmbedding(5, 7, Elimination(view="v", tasks=["x"], shared=11, embedding=13), {"x": 3})
    torch.nn.init.normal_(model.pooling.logits)
    x = torch.randn(2, 5, 7)
    per_layer = torch.einsum("blh,l->bh", model.shared(x), model.pooling.weights)
    expected = model.heads[0](model.embedding(torch.relu(per_layer)))
    torch.testing.assert_close(model(x)["x"], expected)


def test_weighted_average_worked_by_hand():
    """Equal weights at the start; a single layer is itself."""
    x = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    torch.testing.assert_close(WeightedAverage(2)(x), torch.tensor([[2.0, 4.0]]))
    torch.testing.assert_close(WeightedAverage(1)(x[:, :1]), x[:, 0])
