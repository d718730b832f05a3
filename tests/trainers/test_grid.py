import pytest

from strata.trainers.search.grid import cells
from strata.trainers.spec import Experiment

BASE = {"views": ["a", "b", "c"], "tasks": ["speaker"]}


def _names(corpora=("x", "y"), **section) -> list[str]:
    return list(cells(Experiment.model_validate(BASE | section), corpora))


def test_a_section_without_a_grid_is_one_experiment():
    """It is itself, without a name of its own."""
    experiment = Experiment(views=["a"], tasks=["speaker"])
    assert cells(experiment, ["x"]) == {"": experiment}


def test_pairs_and_each_stand_for_elements_in_order():
    """Every two views, every corpus alone; the last field of the grid turns fastest."""
    assert _names(grid={"corpora": "each", "views": "pairs", "fusion": ["concat", "ot"]}) == [
        f"{corpus}/{pair}/{fusion}" for corpus in "xy" for pair in ("a+b", "a+c", "b+c") for fusion in ("concat", "ot")
    ]


def test_a_cell_is_the_section_with_its_values_and_no_grid():
    """What the section says beside the grid holds for every cell."""
    section = Experiment.model_validate(
        BASE | {"epochs": 7, "grid": {"views": "pairs", "fusion": [{"kind": "ot", "direction": "x1->x2"}]}}
    )
    cell = cells(section, ["x"])["b+c/ot-x1-x2"]
    assert (cell.views, cell.epochs, cell.grid, cell.corpora) == (["b", "c"], 7, {}, [])
    assert (cell.fusion.direction, cell.setup) == ("x1->x2", "TANGO x1->x2")


def test_a_dotted_field_reaches_into_a_section():
    """Short forms such as `fusion: ot` are sections too."""
    section = Experiment.model_validate(
        {"views": ["a", "b"], "tasks": ["t"], "fusion": "ot", "grid": {"fusion.epsilon": [0.1, 0.01], "folds.k": [3]}}
    )
    assert [(c.fusion.epsilon, c.folds.k) for c in cells(section, []).values()] == [(0.1, 3), (0.01, 3)]


def test_one_more_view_leaves_the_names_of_the_other_cells():
    """Results lie by these names: what was trained is found again."""
    grid = {"views": "pairs", "fusion": ["concat"]}
    assert set(_names(grid=grid)) < set(_names(views=["a", "new", "b", "c"], grid=grid))


def test_a_name_alone_is_a_list_of_one():
    """Corpora one by one, without brackets in brackets."""
    assert _names(views=["a"], grid={"corpora": ["x", ["x", "y"]]}) == ["x", "x+y"]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"viws": "pairs"}, "grid.viws: no field .* did you mean 'views'"),
        ({"seeds": [[1], [2]]}, "grid.seeds: no field .* it can vary epochs, .* views, "),
        ({"views": "each", "fusion": ["ot"]}, "cell a/ot of the grid: fusion is for two views"),
        ({"views": []}, "grid.views names no value"),
        ({"epochs": "each"}, "grid.epochs: expected a list of values"),
        ({"tasks": "pairs"}, "grid.tasks: pairs of 1 is nothing"),
        ({"views": [["a"], ["a"]]}, "two cells named a"),
        ({"views": [["a"]], "epochs": [0]}, "cell a/0 of the grid: epochs: Input should be greater than 0"),
        ({"views": [["model"]]}, "model is the name of a folder in it"),
        ({"views": [["a"], ["A"]]}, "two cells named A"),
        ({"views": [["a", "b"]], "fusion.epsilon": [1], "fusion": ["ot"]}, "grid.fusion would overwrite"),
    ],
)
def test_a_grid_that_cannot_be_says_where(grid, message):
    """The field, or the cell, and what is wrong with it."""
    with pytest.raises(ValueError, match=message):
        _names(grid=grid)
