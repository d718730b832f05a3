"""What every fusion keeps: see `trainers.modules.fusions.contract`. A new one is a line in `SECTIONS`."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from strata.trainers.inputs.data import targets_of
from strata.trainers.models.heads import Heads
from strata.trainers.modules.fusions.concat import Concatenation
from strata.trainers.modules.fusions.contract import Encoding
from strata.trainers.modules.fusions.registry import FUSIONS, fusion
from strata.trainers.modules.fusions.section import KINDS, Fusion
from strata.trainers.spec import Experiment, Task
from strata.trainers.training.fit import fit

SECTIONS = {
    "concat": {"kind": "concat"},
    "ot": {"kind": "ot"},
    "ot, one way": {"kind": "ot", "direction": "x2->x1"},
    "ot, literal": {"kind": "ot", "transported": "literal"},
    "ot, between utterances": {"kind": "ot", "support": "batch"},
    "ot, by POT": {"kind": "ot", "solver": "pot"},
    "ot, unbalanced": {"kind": "ot", "solver": "pot", "regularisation": {"unbalanced": 0.5}},
    "ot, partial": {"kind": "ot", "solver": "pot", "regularisation": {"partial": 0.7}},
}
ROWS, WIDTH, POSITIONS = 5, 3, (7, 11, 13)


@pytest.fixture(params=SECTIONS)
def how(request) -> Fusion:
    """The section of a fusion."""
    return Fusion(**SECTIONS[request.param])


def encodings(how: Fusion, number: int) -> list[Encoding]:
    """Views of different sizes."""
    return [Encoding(WIDTH, n) if how.takes_positions else Encoding(n) for n in POSITIONS[:number]]


def values(views: list[Encoding], rows: int, seed: int = 0) -> list[torch.Tensor]:
    """What encoders might give."""
    torch.manual_seed(seed)
    return [torch.randn(rows, *([view.positions] if view.positions else []), view.width) for view in views]


def made(how: Fusion, number: int | None = None):
    """A fusion, its views' values for some rows, and the training utterances that it asked for."""
    views = encodings(how, number or how.num_views or 3)
    torch.manual_seed(1)
    fused = fusion(how, views)
    number = fused.num_support(batch_size=4)
    return fused, values(views, ROWS), values(views, number, seed=2) if number else None


def test_every_kind_is_here():
    """In params.yaml, as a module, and in this suite."""
    assert set(KINDS) == set(FUSIONS) == {section["kind"] for section in SECTIONS.values()}


def test_alone_is_batched_in_any_order(how):
    """Outside of training a row's vector is its own: whoever else is there, wherever it stands; and again."""
    fused, views, support = made(how)
    fused.eval()
    views[0][3] *= 100  # one that is unlike the others
    together = fused(*views, support=support)
    assert together.shape == (ROWS, fused.num_outputs)
    for rows in ([2], [4, 0, 3], list(range(ROWS))[::-1]):
        found = fused(*(view[rows] for view in views), support=support)
        torch.testing.assert_close(found, together[rows], rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(fused(*views, support=support), together)


@pytest.mark.parametrize("rows", [ROWS, 2, 1])
def test_gradients_reach_every_view_and_are_finite(how, rows):
    """In training, from batches of any size, the last and smallest of an epoch included; and of weights of its own."""
    fused, views, _ = made(how)
    views = [view[:rows].requires_grad_() for view in views]
    found = fused.train()(*views)
    (found * torch.randn_like(found)).sum().backward()
    assert found.shape == (rows, fused.num_outputs)
    for gradient in (*(view.grad for view in views), *(weight.grad for weight in fused.parameters())):
        assert torch.isfinite(gradient).all()
        assert gradient.any()


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e3])
def test_odd_values_are_fused_into_finite_ones(how, scale):
    """All the same, nearly so, or far apart."""
    fused, views, _ = made(how)
    views = [(view * scale).requires_grad_() for view in views]
    found = fused.train()(*views)
    found.square().mean().backward()
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(view.grad).all() for view in views)


def test_it_takes_the_views_that_it_says_and_refuses_others(how):
    """By number, and by whether they have positions; in the module and where params.yaml is read."""
    for number in (1, 2, 3):
        takes = number >= 2 and number == (how.num_views or number)
        section = {"views": ["a", "b", "c"][:number], "tasks": ["t"], "encoder": "cnn", "fusion": how}
        if takes:
            assert made(how, number)[0].num_outputs > 0
            Experiment.model_validate(section)
            continue
        with pytest.raises(ValueError, match=f"fusion {how.kind}: expected .* views, got {number}"):
            made(how, number)
        with pytest.raises(ValidationError, match="fusion"):
            Experiment.model_validate(section)
    others = [Encoding(5) if how.takes_positions else Encoding(5, 7)] * 2
    with pytest.raises(ValueError, match=f"fusion {how.kind}: expected .* of every view"):
        fusion(how, others)


def test_positions_are_asked_of_an_encoder_that_has_them():
    """Told where params.yaml is read, with what it takes and what it got."""
    for how in map(Fusion.model_validate, SECTIONS.values()):
        if how.takes_positions:
            message = f"fusion {how.kind} takes exactly two views and the encoder cnn.*; got 2, encoder mlp"
            with pytest.raises(ValidationError, match=message.replace("two", str(how.num_views))):
                Experiment(views=["a", "b"], tasks=["t"], encoder="mlp", fusion=how)


def test_an_unknown_kind_is_told_with_the_known_ones():
    """And the nearest, if there is one."""
    with pytest.raises(ValidationError, match="expected a fusion of concat, ot, got 'concta', did you mean concat"):
        Fusion(kind="concta")


def test_what_a_fusion_adds_to_the_loss_is_trained_on(monkeypatch):
    """A weight that only its extra loss knows goes where that loss is smallest; the tasks' losses stay as told."""

    class Learned(Concatenation):
        def __init__(self, how, views):
            super().__init__(how, views)
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def extra_loss(self):
            return (self.weight - 1).square()

    monkeypatch.setitem(FUSIONS, "concat", Learned)
    how = Experiment(
        views=["a", "b"], tasks=["y"], fusion="concat", encoder="linear", epochs=40, patience=40, learning_rate=0.1
    )
    torch.manual_seed(0)
    model, rows = Heads([(1, 2), (1, 3)], how, {"y": 1}), np.arange(20)
    features = [torch.randn(20, 1, dim) for dim in (2, 3)]
    target = targets_of("y", Task(kind="regression"), pd.DataFrame({"y": np.arange(20.0)}))
    curve = fit(model, [f.numpy() for f in features], [target], rows, rows, how, seed=0)
    assert abs(model.fusion.weight.item() - 1) < 0.2
    assert all(train < 2 for _, train, _ in curve)
