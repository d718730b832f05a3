import numpy as np
import pytest

from strata.trainers.search.elimination import LayerElimination, Round

WEIGHT = {"a": 0.1, "b": 0.4, "c": 0.2, "d": 0.3}


def scored(valid: dict[int, float], test: dict[int, float] | None = None):
    """A scoring function that knows the weights of the layers and the scores of their number."""

    def score(layers):
        tests = {"mean": test[len(layers)]} if test else {}
        return Round({name: WEIGHT[name] for name in layers}, {"mean": valid[len(layers)]}, tests)

    return score


def test_the_lightest_layer_goes_each_round_and_validation_chooses():
    """Worked by hand: weights decide the order, the validation score the subset; the test score decides nothing."""
    found = LayerElimination(scored({4: 0.5, 3: 0.9, 2: 0.9, 1: 0.7}, {4: 1.0, 3: 0.1, 2: 0.0, 1: 0.0}))
    assert found.fit(list("abcd")) is found
    assert [list(r.weights) for r in found.rounds_] == [list("abcd"), list("bcd"), list("bd"), ["b"]]
    np.testing.assert_array_equal(found.scores_, [0.5, 0.9, 0.9, 0.7])
    assert found.best_round_ == 2  # of two equal scores the one with fewer layers
    np.testing.assert_array_equal(found.support_, [False, True, False, True])
    np.testing.assert_array_equal(found.ranking_, [3, 1, 2, 1])
    assert found.kept_ == ("b", "d")


def test_it_ranks_as_scikit_learns_rfe_does():
    """The same linear model behind both: the same ranking for the same number of features kept."""
    from sklearn.feature_selection import RFE
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(101, 7))
    y = x @ np.array([5, -4, 3, 2, 1, 0.5, 0.1]) + 0.01 * rng.normal(size=101)

    def score(layers):
        columns = [int(layer) for layer in layers]
        weights = np.square(LinearRegression().fit(x[:, columns], y).coef_)
        return Round(dict(zip(layers, weights, strict=True)), {"mean": float(len(layers) == 3)}, {})

    ours = LayerElimination(score).fit([str(i) for i in range(7)])
    theirs = RFE(LinearRegression(), n_features_to_select=3).fit(x, y)
    np.testing.assert_array_equal(ours.support_, theirs.support_)
    np.testing.assert_array_equal(ours.ranking_, theirs.ranking_)


def test_of_equal_weights_the_highest_layer_goes():
    """It costs the upstream most."""
    found = LayerElimination(lambda layers: Round(dict.fromkeys(layers, 1.0), {"mean": float(-len(layers))}, {})).fit(
        "012"
    )
    assert [r.weakest for r in found.rounds_] == ["2", "1", "0"]
    assert found.kept_ == ("0",)


@pytest.mark.parametrize("layers", [[], ["a", "a"]])
def test_layers_must_be_some_and_distinct(layers):
    """Nothing to eliminate, or two of one name, is an error at once."""
    with pytest.raises(ValueError, match="expected layers, each named once"):
        LayerElimination(scored({})).fit(layers)


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "b": float("nan")}, {"a": 1.0, "c": 2.0}])
def test_a_round_must_weigh_every_layer(weights):
    """A scoring function that forgets a layer, or has no number for it, is told so."""
    with pytest.raises(ValueError, match="expected a finite weight for each of"):
        LayerElimination(lambda layers: Round(weights, {"mean": 0.0}, {})).fit(["a", "b"])
