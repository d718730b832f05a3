"""What a search may try, checked before anything is trained."""

import pytest

from strata.trainers.search.space import Space
from strata.trainers.spec import Experiment, Tune

BASE = {"views": ["a"], "tasks": ["speaker"], "epochs": 7}
TWO = {"views": ["a", "b"], "tasks": ["speaker"], "fusion": "ot"}
LOG = {"low": 1e-4, "high": 1e-2, "log": True}


def space(fields: dict, base: dict = BASE, **how) -> Space:
    """A space over a small experiment."""
    return Space(Tune.model_validate({"experiment": "e", "space": fields} | how), Experiment.model_validate(base))


def test_a_trial_is_the_section_with_its_values():
    """Fields of fields too; what the section says beside them stays, and so do defaults."""
    found = space({"fusion.epsilon": {"low": 0.01, "high": 0.5}, "hidden": [[64], [200, 64]]}, TWO).experiment(
        {"fusion.epsilon": 0.3, "hidden": [64]}
    )
    assert (found.fusion.kind, found.fusion.epsilon, found.hidden, found.batch_size) == ("ot", 0.3, [64], 32)


def test_numbers_written_as_text_are_numbers():
    """YAML takes 1e-4, without a point, for text; an interval of a whole number is one of whole numbers."""
    found = space(
        {"learning_rate": ["1e-4", 0.001], "l2": {"low": "0", "high": "1e-3"}, "shared": {"low": 2, "high": 64}}
    )
    assert found.axes["learning_rate"] == [1e-4, 1e-3]
    assert found.whole == {"shared"}


def test_the_section_as_it_stands_is_found_where_it_lies_in_the_space():
    """Defaults count; a value beside the steps, or beyond an end, does not lie in it."""
    inside = {"learning_rate": LOG, "batch_size": [64, 32], "shared": {"low": 64, "high": 512, "step": 64}}
    assert space(inside).start == {"learning_rate": 1e-3, "batch_size": 32, "shared": 512}
    assert space({"fusion": ["concat", "ot"]}, TWO).start == {"fusion": "ot"}
    for outside in (
        {"batch_size": [64, 128]},
        {"shared": {"low": 64, "high": 500}},
        {"shared": {"low": 60, "high": 520, "step": 64}},
        {"learning_rate": LOG, "batch_size": [8]},
    ):
        assert space(outside).start is None


def test_views_and_layers_are_all_that_there_is_to_read():
    """Those of the section that the search starts from too, where it has others than any trial."""
    found = space({"views": [["b"], ["c"]], "layers": ["all", [3]]})
    assert (found.views, found.layers) == (["b", "c", "a"], ["all", [3], "last"])
    found = space({"batch_size": [8]})
    assert (found.views, found.layers) == (["a"], ["last"])


def test_however_many_values_others_have_what_decides_finds_its_place():
    """One view needs to be without a fusion, which comes behind thousands of settings of one."""
    settings = {"fusion.epsilon": [n / 10 for n in range(1, 9)], "fusion.iterations": [1, 2, 3, 4, 5]}
    others = {"channels": [[n] for n in range(3, 9)], "batch_size": [8, 16, 32, 64, 128]}
    found = space(
        {"fusion": ["ot", None], **settings, **others, "views": [["a"], ["a", "b"]]}, BASE | {"encoder": "cnn"}
    )
    assert found.views == ["a", "b"]


@pytest.mark.parametrize("field", ["channels", "views"])
def test_a_field_without_a_value_is_named(field):
    """Whatever other fields there are to be tried beside it."""
    with pytest.raises(ValueError, match=rf"space\.{field} names no value"):
        space({"encoder": ["mlp", "cnn"], field: []}, BASE | {"encoder": "cnn"})


def test_values_that_only_go_together_may_be_searched_together():
    """Two views need a fusion, which one view must not have: neither fits the base alone."""
    found = space({"views": ["a", ["a", "b"]], "fusion": [None, "concat"]}, search="grid")
    assert found.views == ["a", "b"]
    assert found.num_trials == 4
    wrong = {"views": ["a"], "fusion": "concat"}
    with pytest.raises(ValueError, match="fusion is for two views"):
        found.experiment(wrong)
    assert found.experiment({"views": ["a", "b"], "fusion": "concat"}).fusion.kind == "concat"


def test_a_trial_without_fusion_takes_none_of_its_fields():
    """So that one search can ask whether to fuse, and how; the section that fuses nothing lies in the space."""
    fields = {"views": ["a", ["a", "b"]], "fusion": [None, "ot"], "fusion.epsilon": [0.1, 0.5]}
    found = space(fields)
    assert found.axes["fusion.epsilon"] == [0.1, 0.5]
    assert found.start == {"views": ["a"], "fusion": None, "fusion.epsilon": 0.1}
    assert found.experiment({"views": ["a"], "fusion": None, "fusion.epsilon": 0.5}).fusion is None
    assert found.experiment({"views": ["a", "b"], "fusion": "ot", "fusion.epsilon": 0.5}).fusion.epsilon == 0.5
    assert space(fields | {"fusion.epsilon": {"low": 0.01, "high": 0.5}}).start["fusion.epsilon"] == 0.01


def test_a_value_that_no_trial_can_have_is_refused():
    """Beside the section's own views it could be; but no trial has these."""
    base = {"views": ["a", "b", "c"], "tasks": ["speaker"], "fusion": "concat", "encoder": "cnn"}
    fields = {"views": [["a", "b"]], "fusion": ["ot"], "encoder": ["cnn", "mlp"]}
    with pytest.raises(ValueError, match=r"space\.encoder: 'mlp' cannot be; fusion ot takes exactly 2 views"):
        space(fields, base)


def test_the_fragment_makes_the_section_the_trial():
    """Written over the section's own fields, whole sections for fields of fields."""
    found = space({"fusion.epsilon": [0.1, 0.5], "batch_size": [8]}, TWO)
    params = {"batch_size": 8, "fusion.epsilon": 0.5}
    takeover = found.takeover(params)
    assert (takeover.drop, takeover.drop_with_search) == ((), ())
    assert takeover.fragment == {"batch_size": 8, "fusion": {"kind": "ot", "epsilon": 0.5}}
    assert Experiment.model_validate(TWO | takeover.fragment) == found.experiment(params)


def test_what_the_trial_does_not_read_is_left_out_or_to_be_dropped():
    """At once where nobody reads it any more; with the search, where that would be another one without it."""
    base = {**TWO, "tasks": ["speaker", "age"], "head": 7, "pooling": "mean", "fusion": {"kind": "ot", "solver": "pot"}}
    fields = {"encoder": ["linear", "cnn"], "fusion.kind": ["ot", "concat"], "fusion.epsilon": [0.2], "head": [3, 7]}
    params = {"encoder": "linear", "fusion.kind": "concat", "fusion.epsilon": 0.2, "head": 3}
    found = space(fields | {"layers": ["last", "all"]}, base).takeover(params | {"layers": "last"})
    assert found.fragment == {
        "encoder": "linear",
        "fusion": {"kind": "concat", "solver": "pot"},
        "layers": "last",
    }
    assert (found.drop, found.drop_with_search) == (("head",), ("pooling", "fusion.solver"))


def test_an_encoder_that_followed_from_a_field_is_written_where_it_no_longer_does():
    """Trials keep the section's encoder, which it has for its transport."""
    found = space({"fusion": ["ot", "concat"]}, TWO)
    assert found.experiment({"fusion": "concat"}).encoder == "cnn"
    assert found.takeover({"fusion": "concat"}).fragment == {"fusion": "concat", "encoder": "cnn"}
    assert found.takeover({"fusion": "ot"}).fragment == {"fusion": "ot"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rat": LOG}, "space.learning_rat: no field .* did you mean 'learning_rate'"),
        ({"zzz": [1]}, "space.zzz: no field of an experiment that can be searched; known: epochs, "),
        ({"fusion.epsilo": [1]}, "did you mean 'fusion.epsilon'"),
        ({"hidden.0": [1]}, "space.hidden.0: no field"),
        ({"folds.k": [3]}, "space.folds.k: folds is the same in all trials; what can be searched: epochs"),
        *(({name: [1]}, "is the same in all trials") for name in ("seeds", "grid", "final", "tasks", "corpora")),
        ({"batch_size": []}, "space.batch_size names no value"),
        ({"batch_size": [8, "8"]}, "space.batch_size must name each value once"),
        ({"batch_size": [8, 0]}, "space.batch_size: 0 cannot be; batch_size: Input should be greater than 0"),
        ({"batch_size": {"low": 0, "high": 8}}, "space.batch_size: 0.0 cannot be"),
        ({"batch_size": {"low": 1.5, "high": 8}}, "space.batch_size: 1.5 cannot be; .* integer"),
        ({"batch_size": {"low": 2, "high": 8, "step": 1.5}}, "expected a whole step of whole numbers, found 1.5"),
        ({"joint": {"low": 0, "high": 1}}, "space.joint: an interval is for numbers"),
        ({"pooling": ["mean", "median"]}, "space.pooling: 'median' cannot be"),
        ({"fusion.epsilon": [0.1], "fusion": ["ot"]}, "space.fusion would overwrite space.fusion.epsilon"),
        ({"learning_rate": LOG, "fusion.epsilon": [0.1]}, "space.fusion.epsilon: experiment e has no fusion; give it"),
    ],
)
def test_a_space_that_cannot_be_says_where(fields, message):
    """The field, the value, and what would do."""
    with pytest.raises(ValueError, match=message):
        space(fields)


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        ({"fusion.epsilon": [0.1]}, {"views": ["a", "b"], "fusion": "concat"}, "epsilon is for the fusion ot, found c"),
        ({"hidden": [[3]]}, {"encoder": "linear"}, "space.hidden is for the encoder mlp or cnn, found encoder linear"),
        ({"pooling": ["mean", "max"]}, {}, "space.pooling is for several layers"),
    ],
)
def test_a_field_that_no_trial_reads_is_refused(fields, changes, message):
    """All trials would be the same."""
    with pytest.raises(ValueError, match=message):
        space(fields, BASE | changes).refuse_unread()


def test_a_field_that_some_trials_read_may_stand():
    """Those of another value of another field."""
    space({"encoder": ["linear", "mlp"], "hidden": [[3]]}, BASE | {"encoder": "linear"}).refuse_unread()
    space({"layers": ["last", "all"], "pooling": ["mean", "max"]}).refuse_unread()
    space({"fusion": ["concat", "ot"], "fusion.epsilon": [0.1, 0.2]}, TWO).refuse_unread()


def test_a_grid_is_no_start():
    """There is no one section to start from."""
    with pytest.raises(ValueError, match="experiment e is a grid; a search starts from a section without one"):
        space({"batch_size": [8]}, BASE | {"grid": {"pooling": ["mean"]}})
