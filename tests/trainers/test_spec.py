"""What a section means that does not say everything."""

import pytest

from strata.trainers.search.grid import cells
from strata.trainers.spec import Experiment

PAIR = {"views": ["a", "b"], "tasks": ["x"]}


@pytest.mark.parametrize(
    ("section", "encoder"),
    [
        ({"views": ["a"]}, "mlp"),
        ({**PAIR, "fusion": "concat"}, "mlp"),
        ({**PAIR, "fusion": "ot"}, "cnn"),
        ({**PAIR, "fusion": {"kind": "ot", "direction": "x1->x2"}}, "cnn"),
        ({"views": ["a"], "channels": [3]}, "cnn"),
        ({"views": ["a"], "channels": [3], "encoder": "mlp"}, "mlp"),
        ({"views": ["a"], "encoder": "linear"}, "linear"),
    ],
)
def test_the_encoder_is_the_best_measured_one_or_the_only_one_that_has_what_is_asked_for(section, encoder):
    """Transport and channels are of convolutions; whatever is named is taken."""
    assert Experiment.model_validate({"tasks": ["x"], **section}).encoder == encoder


@pytest.mark.parametrize(
    ("grid", "encoders"),
    [
        ({"fusion": ["concat", "ot"]}, {"cnn"}),
        ({"fusion": ["concat", {"kind": "ot", "direction": "x1->x2"}]}, {"cnn"}),
        ({"fusion.kind": ["concat", "ot"]}, {"cnn"}),
        ({"fusion": ["concat"]}, {"mlp"}),
        ({"fusion": ["concat"], "encoder": ["mlp", "linear"]}, {"mlp", "linear"}),
        ({"fusion": ["concat"], "channels": [[3], [5]]}, {"cnn"}),
    ],
)
def test_the_cells_of_a_grid_share_their_encoder(grid, encoders):
    """Else a table of fusions would compare encoders."""
    found = cells(Experiment.model_validate({**PAIR, "grid": grid}), [])
    assert {cell.encoder for cell in found.values()} == encoders
