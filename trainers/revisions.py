"""Which parts of this package compute a result, and the revision number of each.

A result that is there stays as it is for as long as it follows from the same section, labels, values and numbers of the
parts that computed it. So whoever changes the values that a part computes raises its number here by one, and what that
part had a share in is made anew, nothing else; tidying up, comments and new parts change no number. The golden tests
(`tests/trainers/test_golden.py`) fail where values have changed and no number has.

The numbers stand here and not in the modules of the parts, since those import PyTorch, which takes seconds, and whether
a result is up to date must be known at once. Versions of libraries are no part of this: see a result's provenance.
"""

from collections.abc import Iterator, Mapping

from strata.trainers.search import unused
from strata.trainers.search.space import Space
from strata.trainers.spec import Elimination, Experiment, Folds, Task, Verification

REVISIONS = {
    # folds/: what stays together and by what chance decides; parts of cross-validation; a validation part; a split
    # that the corpus brings
    "folds grouped": 1,
    "folds dealt": 1,
    "folds held out": 1,
    "folds given": 1,
    # inputs/: labels as numbers, and the order of the rows; standardised layers; batches
    "labels": 1,
    "standardisation": 1,
    "batches shuffled": 1,
    "batches balanced": 1,
    # models/ and modules/: heads on views, what stands between the two, and the model that has an embedding
    "heads": 1,
    "encoder linear": 1,
    "encoder mlp": 1,
    "encoder cnn": 1,
    "encoder unified": 1,
    "pooling weighted": 1,
    "pooling mean": 1,
    "pooling max": 1,
    "pooling mixed": 1,
    "pooling gated": 1,
    "pooling learned-norm": 1,
    "pooling log-sum-exp": 1,
    "pooling smooth-maximum": 1,
    "pooling auto": 1,
    "pooling self-attention": 1,
    "fusion concat": 1,
    "fusion ot": 1,
    "plans by POT": 1,
    # tasks/: of each kind the answers, metrics and chance; losses
    "task classification": 1,
    "task binary": 1,
    "task regression": 1,
    "loss cross_entropy": 1,
    "loss bce": 1,
    "loss rmse": 1,
    "loss mse": 1,
    "loss mae": 1,
    "loss ccc": 1,
    # training/: the loop, what balances tasks in it, and many models of one shape in one stack
    "training": 1,
    "balancing equal": 1,
    "balancing uncertainty": 1,
    "balancing gradnorm": 1,
    "balancing random": 1,
    "stacked training": 1,
    # evaluation/: which models an experiment needs and what it leaves; a model on disk; verification
    "evaluation": 1,
    "saved model": 1,
    "verification": 1,
    "plda": 1,
    # search/: layers that go, by what; hyperparameters, how they are chosen, and trials that end early
    "elimination": 1,
    "importance weights": 1,
    "importance ablation": 1,
    "tuning": 1,
    "search bayesian": 1,
    "search random": 1,
    "search grid": 1,
    "pruning": 1,
}
"""By the names of the parts, which are those of params.yaml where something is chosen there."""


def of(section: Experiment | Elimination | Verification | Folds | Space, tasks: Mapping[str, Task]) -> dict[str, int]:
    """The numbers of the parts that compute what a section asks for, by their names.

    Args:
        section: of params.yaml; of a search its space.
        tasks: those that it names.

    Raises:
        KeyError: a part that has no number.
    """
    return {part: REVISIONS[part] for part in sorted(set(_parts(section, tasks)))}


def of_embedding(experiment: Experiment) -> dict[str, int]:
    """The numbers of the parts that turn a view into the embedding of a model that is trained already."""
    parts = ("standardisation", f"encoder {experiment.encoder}", f"pooling {experiment.pooling}", "saved model")
    return {part: REVISIONS[part] for part in sorted(parts)}


def _parts(section: object, tasks: Mapping[str, Task]) -> Iterator[str]:
    for task in tasks.values():
        yield from (f"task {task.kind}", f"loss {task.effective_loss}")
    if isinstance(section, Folds):
        yield from ("folds grouped", "folds held out", "folds given" if section.given else "folds dealt")
        return
    if isinstance(section, Space):
        yield from ("tuning", f"search {section.how.search}", *(["pruning"] if section.how.prune else []))
        for experiment in section.variants(DECIDING):
            yield from _parts(experiment.model_copy(update={"final": False}), tasks)
        return
    yield from ("labels", "standardisation")
    if isinstance(section, Verification):
        yield from ("verification", "plda")
        # Listed trials are one test, and what does not hang together with it is trained on.
        yield from ("folds grouped",) if section.trials else _parts(section.folds, {})
        return
    yield from _parts(section.folds, {})
    yield from _of_elimination(section) if isinstance(section, Elimination) else _of_experiment(section)


def _of_experiment(how: Experiment) -> Iterator[str]:
    yield from ("evaluation", "training", f"balancing {how.effective_balancing}", f"batches {how.batches}")
    yield f"encoder {how.encoder}"
    if how.encoder != "unified":
        yield "heads"
    if how.encoder == "cnn":  # behind its convolutions
        yield "encoder mlp"
    if how.pools:
        yield f"pooling {how.pooling}"
    if how.fusion is not None:
        yield from how.fusion.parts
    if how.final:
        yield "saved model"


DECIDING = (*unused.DECIDING, "pooling", "balancing", "batches")
"""Fields of an experiment that decide which parts compute it, by themselves or by what is their default then."""


def _of_elimination(how: Elimination) -> Iterator[str]:
    yield from ("elimination", "encoder unified")
    for pooling in how.poolings:
        yield from (f"pooling {pooling}", f"importance {how.importance_of(pooling)}")
        if how.trains_together(pooling):
            yield "stacked training"
        else:
            yield from ("training", f"balancing {how.effective_balancing}", f"batches {how.batches}")
