"""Whatever goes wrong with one name is told under it, and the others are done: every stage that works on names."""

import pytest

from strata.pipeline.errors import Errors, StageError, for_each
from strata.store.lock import exclusive

TROUBLE = [ValueError("v"), OSError(28, "full"), KeyError("emotion"), ZeroDivisionError("z"), MemoryError("m")]


@pytest.mark.parametrize("error", TROUBLE)
def test_any_error_is_told_under_its_name_and_the_rest_is_done(error):
    """In one line, from the error itself; what nobody foresaw says what it is."""
    done = []

    def action(name):
        if name == "b":
            raise error
        done.append(name)

    with pytest.raises(StageError, match=r"^view b: ") as told:
        for_each(["a", "b", "c"], action, "view")
    assert done == ["a", "c"]
    assert told.value.__cause__ is error
    expected = isinstance(error, ValueError | OSError)
    assert (f"unexpected {type(error).__name__}" in str(told.value)) != expected


def test_an_interruption_is_nobodys_trouble():
    """It ends the run, as it should."""
    with pytest.raises(KeyboardInterrupt), Errors().of("a"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(("count", "told"), [(1, "a0: x"), (5, "a0, a1, a2, a3, a4: x"), (6, "a0 and 5 more: x")])
def test_the_same_error_is_told_once(count, told):
    """Under all names of a few."""
    errors = Errors()
    for number in range(count):
        with errors.of(f"a{number}"):
            raise ValueError("x")
    with pytest.raises(StageError) as found:
        errors.raise_if_any()
    assert str(found.value) == told


STAGES = {
    "train": ("strata.pipeline.stages.cells.Cell.of", "experiment", "experiments"),
    "eliminate": ("strata.pipeline.stages.eliminate._eliminate", "elimination", "eliminate"),
    "tune": ("strata.pipeline.stages.tune._tune", "search", "tune"),
    "embed": ("strata.pipeline.stages.embed._embed", "embedding", "embed"),
    "downstream": ("strata.pipeline.stages.downstream._corpora", "downstream", "downstream"),
    "extract": ("strata.pipeline.stages.extract._extract", "view", "views"),
    "transcribe": ("strata.pipeline.stages.transcribe._transcribe", "recogniser", "transcribe"),
}


@pytest.fixture
def many(study):
    """Two names in every section."""
    one = study.params["experiments"]["one"]
    unified = {"views": ["mfcc"], "encoder": "unified", "tasks": ["speaker"], "folds": {"k": 2}, "epochs": 1}
    elimination = study.params["eliminate"]["wavlm"]
    recogniser = {"source": "miniature:whisper"}
    study.params |= {
        "transcribe": {"first": recogniser, "second": recogniser},
        "experiments": {"first": one, "second": one, "unified": unified},
        "eliminate": {"first": elimination, "second": elimination},
        "tune": {name: {"experiment": "first", "space": {"batch_size": [8, 16]}} for name in ("first", "second")},
        "embed": {"first": {"experiment": "unified"}, "second": {"experiment": "unified"}},
    }
    study.params["downstream"] = {
        name: {"views": ["first"], "tasks": ["speaker"], "folds": {"k": 2}} for name in ("first", "second")
    }
    study.write_params()
    study.succeeds("corpus")
    return study


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_asks_all_its_names(stage, many, monkeypatch):
    """A KeyError of the first is no reason not to come to the last."""
    place, what, section = STAGES[stage]
    asked = []

    def fails(*arguments, **options):
        asked.append(arguments)
        raise KeyError(len(asked))

    monkeypatch.setattr(place, fails)
    line = many.fails(stage)
    names = list(many.params[section])
    assert len(asked) == len(names)
    for number, name in enumerate(names, start=1):
        assert f"{what} {name}: unexpected KeyError: {number}" in line


def test_an_experiment_that_another_run_holds_leaves_the_others(many):
    """Told under its name; the other is trained."""
    many.succeeds("extract", "mfcc")
    with exclusive(many.folder / "results" / "first" / "train"):
        line = many.fails("train", "first", "second")
    assert "experiment first: " in line
    assert "is being written by" in line
    assert many.metrics("second")["num_utterances"] == 24
