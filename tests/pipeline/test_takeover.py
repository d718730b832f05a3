"""What `strata tune` tells to write into params.yaml can be written there, and makes the section its trial."""

import copy
import itertools

import pytest

from strata.pipeline.study import yaml12
from strata.pipeline.study.params import ParamsError, parse
from strata.trainers.search.space import Takeover
from tests.sampling import sampled

FOLDS = {"k": 5, "stratify": "x"}
ONE = {"views": ["a"], "tasks": ["x", "y"], "folds": FOLDS}
TWO = {"views": ["a", "b"], "tasks": ["x", "y"], "folds": FOLDS, "fusion": "concat"}
WIDTHS = {"channels": [[8], [3]], "hidden": [[13], []], "head": [3, 30]}
SEARCHES = {
    "views of one and of two": (
        ONE,
        {
            "views": ["a", ["a", "b"]],
            "fusion": [None, "concat", "ot"],
            "fusion.epsilon": [0.1, 0.3],
            "encoder": ["cnn"],
        },
    ),
    "how to fuse": (
        {**TWO, "fusion": {"kind": "ot", "direction": "x1->x2", "solver": "pot"}},
        {
            "fusion.kind": ["concat", "ot"],
            "fusion.epsilon": [0.1, 0.3],
            "fusion.regularisation": [None, {"partial": 0.5}],
            "layers": ["last", "all"],
        },
    ),
    "fusions as a whole": (
        {**TWO, "pooling": "mean", "layers": "all"},
        {"fusion": ["concat", "ot", {"kind": "ot", "epsilon": 0.3}], "layers": ["last", [0], ["1", 2]]},
    ),
    "encoders": (
        {**ONE, "hidden": [7], "head": 5, "channels": [9]},
        {"encoder": ["linear", "mlp", "cnn", "unified"], "shared": [16, 512], **WIDTHS},
    ),
    "encoders and pooling": (
        {**ONE, "encoder": "linear"},
        {
            "encoder": ["unified", "linear", "mlp"],
            "layers": ["last", "all", [1], [1, 2]],
            "pooling": ["weighted", "mean", "gated"],
            "embedding": {"low": 8, "high": 64},
        },
    ),
    "pooling that only the section knows": ({**ONE, "pooling": "max", "layers": "all"}, {"layers": ["last", [2]]}),
    "pooling that other trials read": ({**ONE, "pooling": "max"}, {"layers": ["last", "all"]}),
    "a model per task": (
        {**ONE, "balancing": "gradnorm", "head": 7},
        {"joint": [True, False], "encoder": ["linear", "mlp"], "balancing": ["equal", "random"]},
    ),
    "a task on its own": ({**ONE, "tasks": ["x"]}, {"hidden": [[13], []], "l1": [0, 1e-5]}),
    "an encoder that follows": (
        {**TWO, "views": ["a", "b", "c"], "channels": [5]},
        {"views": [["a", "b"], ["a", "c"]], "fusion": ["ot", "concat"], "encoder": ["cnn"]},
    ),
    "an encoder that follows from the fusion": ({**TWO, "fusion": "ot"}, {"fusion": ["concat", "ot"], "l1": [0, 1e-5]}),
    "small batches": (
        {**TWO, "fusion": {"kind": "ot", "support": "batch"}},
        {"batch_size": [1, 8], "fusion.support": ["position", "batch"], "fusion.tolerance": [0.0, 1e-6]},
    ),
}


def study(base: dict, space: dict) -> dict:
    """A params.yaml with a search."""
    return {
        "corpora": {"demo": {"adapter": "demo"}},
        "views": {name: {"family": "mfcc"} for name in "abc"},
        "tasks": {name: {"kind": "classification"} for name in "xy"},
        "experiments": {"e": base},
        "tune": {"s": {"experiment": "e", "space": space}},
    }


def taken(content: dict, takeover: Takeover) -> dict:
    """The params.yaml of somebody who did what was told."""
    content = copy.deepcopy(content)
    section = content["experiments"]["e"]
    section |= yaml12.load(yaml12.dump(takeover.fragment, flow=True))
    drop(section, takeover.drop)
    return content


def drop(section: dict, keys: tuple) -> None:
    """Leaves keys out, and keys of `fusion`."""
    for key in keys:
        top, _, inner = key.partition(".")
        del (section[top] if inner else section)[inner or top]


@pytest.mark.parametrize("name", SEARCHES)
def test_whatever_trial_is_taken_over_the_params_are_valid_and_mean_the_trial(name):
    """With the search, which could go on from there, and without it, once what only it reads is dropped as well."""
    content = study(*SEARCHES[name])
    space = parse(content).space("s")
    axes = {field: axis if isinstance(axis, list) else [axis.low, axis.high] for field, axis in space.axes.items()}
    trials = []
    for values in itertools.product(*axes.values()):
        params = dict(zip(axes, values, strict=True))
        try:
            trials.append((params, space.experiment(params)))
        except ValueError:  # values that do not go together
            continue
    assert len(trials) > 1
    for params, trial in sampled(trials, 40):
        takeover = space.takeover(params)
        with_search = taken(content, takeover)
        assert parse(with_search).experiments["e"].resolved() == trial.resolved(), params
        without = copy.deepcopy(with_search)
        del without["tune"]
        if takeover.drop_with_search:
            with pytest.raises(ParamsError, match="nothing reads it"):
                parse(without)
        drop(without["experiments"]["e"], takeover.drop_with_search)
        assert parse(without).experiments["e"].resolved() == trial.resolved(), params


def test_a_key_that_only_trials_of_a_search_read_is_used():
    """One that none of them reads, of no search that starts from the section, is refused as ever."""
    base, space = {**ONE, "pooling": "max", "encoder": "mlp", "channels": [5]}, {"layers": ["last", "all"]}
    content = study(base, space | {"encoder": ["mlp", "cnn"]})
    parse(content)
    other = copy.deepcopy(content)
    other["tune"]["s"]["space"]["encoder"] = ["mlp", "linear"]
    with pytest.raises(ParamsError, match=r"experiments\.e: channels is for the encoder cnn, found encoder mlp"):
        parse(other)
    other = copy.deepcopy(content)
    other["experiments"]["f"], other["tune"]["s"]["experiment"] = ONE, "f"
    with pytest.raises(ParamsError, match=r"experiments\.e: .* nothing reads it"):
        parse(other)
