"""Keys of an experiment that nothing would read are refused by name; what some cell of a grid reads is not."""

import pytest

from strata.trainers.search.grid import cells
from strata.trainers.search.unused import refuse_unused
from strata.trainers.spec import Downstream, Experiment

ONE = {"views": ["a"], "tasks": ["x"]}
TWO = {"views": ["a", "b"], "fusion": "concat", "tasks": ["x", "y"]}


def look(section: dict) -> None:
    experiment = Experiment(**section)
    refuse_unused(experiment, cells(experiment, []).values())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            ONE | {"encoder": "mlp", "channels": [3]},
            "channels is for the encoder cnn, found encoder mlp, where nothing",
        ),
        (ONE | {"encoder": "linear", "channels": [3]}, "channels is for the encoder cnn, found encoder linear"),
        (ONE | {"encoder": "linear", "hidden": [3]}, "hidden is for the encoder mlp or cnn, found encoder linear"),
        (ONE | {"encoder": "unified", "hidden": [3]}, "hidden is for the encoder mlp or cnn, found encoder unified"),
        (ONE | {"embedding": 7}, "embedding is for the encoder unified, found encoder mlp"),
        (ONE | {"shared": 7}, "shared is for the encoder unified"),
        (
            ONE | {"head": 7},
            "head is for several tasks that share a network .*, found encoder mlp and a task on its own",
        ),
        (TWO | {"head": 7, "encoder": "linear"}, "head is for .*, found encoder linear, where"),
        (ONE | {"pooling": "mean"}, r"pooling is for several layers .*, found a single layer"),
        (ONE | {"pooling": "mean", "layers": [3]}, "pooling is for several layers"),
        (ONE | {"balancing": "random"}, "balancing is for several tasks of one model .*, found a task on its own"),
        (TWO | {"balancing": "random", "joint": False}, "balancing is for several tasks"),
        (TWO | {"fusion": {"kind": "concat", "epsilon": 0.2}}, "fusion.epsilon is for the fusion ot, found concat"),
        (ONE | {"encoder": "linear", "grid": {"hidden": [[3], [5]]}}, "hidden is for .*, found encoder linear"),
        (ONE | {"channels": [3], "grid": {"encoder": ["mlp", "linear"]}}, "channels .*, found encoder mlp and linear"),
    ],
)
def test_what_no_cell_reads_is_refused(section, message):
    """In one line: for what it is, what was found, and what to do."""
    with pytest.raises(ValueError, match=f"^{message}.*") as refused:
        look(section)
    assert str(refused.value).endswith("drop it, or change the other")


@pytest.mark.parametrize(
    "section",
    [
        ONE,
        ONE | {"channels": [3], "hidden": [5]},
        ONE | {"hidden": [5]},
        ONE | {"channels": [3], "hidden": [5], "grid": {"encoder": ["linear", "mlp", "cnn"]}},
        ONE | {"pooling": "mean", "grid": {"layers": ["last", "all"]}},
        ONE | {"layers": "all", "grid": {"pooling": ["mean", "weighted"]}},
        ONE | {"encoder": "unified", "shared": 3, "embedding": 5, "layers": "all", "pooling": "mean"},
        TWO | {"head": 7, "balancing": "gradnorm"},
        TWO | {"encoder": "cnn", "grid": {"fusion": ["concat", {"kind": "ot", "epsilon": 0.2}]}},
    ],
)
def test_what_some_cell_reads_is_taken(section):
    """Defaults that are left out, and keys that a grid's cells share."""
    look(section)


def test_a_downstream_model_is_one_linear_layer():
    """Widths of networks that it has not are refused too."""
    section = Downstream(views=["e"], tasks=["x"], hidden=[3])
    with pytest.raises(ValueError, match="hidden is for the encoder mlp or cnn, found encoder linear"):
        refuse_unused(section, [section])
