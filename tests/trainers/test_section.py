"""Which keys of a section a result follows from."""

from copy import copy
from typing import Annotated

import pytest
from pydantic import Field, create_model

from strata.trainers import spec
from strata.trainers.section import Neutral, ReadIf, Section

SECTIONS = {
    "experiment": spec.Experiment(views=["a", "b"], tasks=["t", "u"], fusion="ot", layers="all"),
    "probe": spec.Experiment(views=["a"], tasks=["t"], encoder="linear"),
    "unified": spec.Experiment(views=["a"], tasks=["t"], encoder="unified"),
    "elimination": spec.Elimination(view="a", tasks=["t"]),
    "downstream": spec.Downstream(views=["a"], tasks=["t"]),
    "verification": spec.Verification(views=["a"], verify="speaker"),
    "search": spec.Tune(experiment="e", space={"l1": {"low": 0.1, "high": 1}}),
    "task": spec.Task(kind="regression"),
    "folds": spec.Folds(),
    "fusion": spec.Fusion(kind="ot"),
}

KINDS = (int, float)


def again(section: Section, **fields) -> Section:
    """The same section, as it is written, of a version of its class in which some fields are others."""
    kind = create_model("Later", __base__=type(section), **fields)
    return kind.model_validate(section.model_dump(exclude_unset=True))


@pytest.mark.parametrize("name", SECTIONS)
def test_a_new_key_at_its_neutral_value_changes_nothing(name):
    """Whatever its default is: what was computed before there was the key was computed as if it were neutral."""
    section = SECTIONS[name]
    dropout = Annotated[float, Neutral(0.0)]
    assert again(section, dropout=(dropout, 0.0)).resolved() == section.resolved()
    assert again(section, dropout=(dropout, 0.5)).resolved() == section.resolved() | {"dropout": 0.5}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_changed_default_counts(name):
    """Of every number that is read, and of nothing else; not where the section says what it was by itself."""
    section, counting = SECTIONS[name], set()
    for field, about in type(section).model_fields.items():
        if type(about.default) in KINDS:
            other = copy(about)
            other.default = about.default + 1
            changed = {field: (about.annotation, other)}
            if again(section, **changed).resolved() != section.resolved():
                counting.add(field)
            said = section.model_copy(update={field: about.default})
            assert again(said, **changed).resolved() == section.resolved()
    numbers = {
        field: about.default for field, about in type(section).model_fields.items() if type(about.default) in KINDS
    }
    others = {field: section.model_copy(update={field: value + 1}) for field, value in numbers.items()}
    assert counting == {field for field, other in others.items() if field in other.resolved()}


def test_keys_that_nobody_reads_do_not_count():
    """An experiment without convolutions does not follow from their channels; of one layer nothing is pooled."""
    probe = SECTIONS["probe"].resolved()
    assert not {"channels", "hidden", "head", "shared", "embedding", "pooling", "fusion"} & set(probe)
    assert {"channels", "hidden", "head", "pooling", "fusion"} < set(SECTIONS["experiment"].resolved())
    for alone in ({"tasks": ["t"]}, {"tasks": ["t", "u"], "joint": False}):  # nothing is shared, or balanced
        assert not {"head", "balancing"} & set(spec.Experiment(views=["a"], balancing="random", **alone).resolved())
    assert not {"balancing"} & set(spec.Elimination(view="a", tasks=["t"], balancing="random").resolved())
    assert spec.Elimination(view="a", tasks=["t", "u"], balancing="random").resolved()["balancing"] == "random"
    assert spec.Fusion(kind="concat").resolved() == {"kind": "concat"}
    assert {"shared", "embedding", "pooling"} < set(SECTIONS["unified"].resolved())


def test_what_is_written_in_another_way_is_the_same():
    """A default by its name, a list of one, importance as it is by default."""
    assert (
        spec.Task(kind="regression", loss="rmse", metric="rmse").resolved() == spec.Task(kind="regression").resolved()
    )
    assert spec.Folds(stratify="speaker").resolved() == spec.Folds(stratify=["speaker"]).resolved()
    assert spec.Folds(stratify=[]).resolved() == spec.Folds().resolved()
    told = spec.Elimination(view="a", tasks=["t"], pooling=["weighted"], importance="weights")
    assert told.resolved() == SECTIONS["elimination"].resolved()
    assert spec.Elimination(view="a", tasks=["t"], importance="ablation").resolved() != told.resolved()


def test_declarations_go_through_sections_and_lists():
    """Sections in a section, in a list or in a mapping are resolved, too."""

    class Inner(Section):
        size: int = 3
        extra: Annotated[int, Neutral(0)] = 0
        sharp: Annotated[float, ReadIf(lambda inner: inner.size > 3)] = 0.5

    class Outer(Section):
        one: Inner = Inner()
        many: list[Inner | int] = Field([])
        named: dict[str, Inner] = Field({})

    outer = Outer(many=[Inner(extra=1), 7], named={"x": Inner(size=4)})
    assert outer.resolved() == {
        "one": {"size": 3},
        "many": [{"size": 3, "extra": 1}, 7],
        "named": {"x": {"size": 4, "sharp": 0.5}},
    }
