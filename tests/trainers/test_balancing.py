import math
from typing import get_args

import pytest
import torch
from torch import nn

from strata.trainers.models.heads import Heads
from strata.trainers.spec import Experiment, Optimisation
from strata.trainers.training.balancing import (
    BALANCINGS,
    GradNorm,
    Random,
    Uncertainty,
    shared_parameters,
    weighted_sum,
)

NUM, DIM, WIDTH = 13, 5, 7
WEIGHTS = [0.5, 1.0, 2.0]
ALL = torch.tensor([True, True, True])


class Shared(nn.Module):
    """Three regressions on one shared layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Linear(DIM, WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 1) for _ in WEIGHTS)
        self.x, self.y = torch.randn(NUM, DIM), torch.randn(len(WEIGHTS), NUM)

    def shared_parameters(self):
        """Of the only layer there is to share."""
        return list(self.shared.parameters())

    def losses(self, scales=(1.0, 1.0, 1.0)):
        """One mean squared error per head."""
        h = self.shared(self.x).tanh()
        return [s * (head(h)[:, 0] - y).square().mean() for s, head, y in zip(scales, self.heads, self.y, strict=True)]


def _started(name, model, weights=WEIGHTS):
    balancing = BALANCINGS[name](weights, seed=1)
    balancing.start(model.losses(), shared_parameters(model))
    return balancing


def test_every_name_of_the_parameters_has_a_balancing():
    """And no balancing goes without a name."""
    assert tuple(BALANCINGS) == get_args(Optimisation.model_fields["balancing"].annotation)


def test_worked_by_hand():
    """Losses 1, 2, 3 by weights ½, 1, 2: 8.5 together; half of it where every noise is e⁰, plus what α costs."""
    losses = [torch.tensor(v) for v in (1.0, 2.0, 3.0)]
    assert weighted_sum(losses, WEIGHTS) == 8.5
    assert BALANCINGS["equal"](WEIGHTS)(losses, ALL) == 8.5
    uncertainty = Uncertainty(WEIGHTS)
    assert uncertainty(losses, ALL) == 4.25
    with torch.no_grad():
        uncertainty.alphas[2].fill_(math.log(3))
    value = uncertainty(losses, ALL)
    assert value.item() == pytest.approx(0.25 + 1 + 1 + math.log(3) / 2)
    value.backward()
    # ½ − w L / (2 e^α): believed less where the loss is larger than the noise, more where it is smaller.
    assert [alpha.grad.item() for alpha in uncertainty.alphas] == pytest.approx([0.25, -0.5, -0.5])


@pytest.mark.parametrize("name", BALANCINGS)
def test_a_tasks_own_weight_is_a_factor_of_its_loss(name):
    """The weight w, or a loss that is w times as large: the same number and the same gradients."""
    found = []
    for weights, scales in ((WEIGHTS, (1.0, 1.0, 1.0)), ([1.0, 1.0, 1.0], WEIGHTS)):
        model = Shared()
        balancing = BALANCINGS[name](weights, seed=1)
        balancing.start([3 * loss for loss in model.losses(scales)], shared_parameters(model))
        value = balancing(model.losses(scales), ALL)
        value.backward()
        found.append([value, *(p.grad for p in (*model.parameters(), *balancing.parameters()))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", BALANCINGS)
@pytest.mark.parametrize("absent", range(3))
def test_an_absent_task_disturbs_nothing(name, absent):
    """Its learned weight rests, the others share all there is, and its head gets a gradient, of 0."""
    model = Shared()
    balancing = _started(name, model)
    optimiser = torch.optim.Adam([*model.parameters(), *balancing.parameters()], lr=0.01)
    present = ALL.clone()
    for step in range(4):
        present[absent] = step == 0  # momentum of the first step would carry on
        learned = [parameter.detach().clone() for parameter in balancing.parameters()]
        losses = model.losses()
        losses = [loss if there else loss * 0.0 for loss, there in zip(losses, present.tolist(), strict=True)]
        optimiser.zero_grad()
        balancing(losses, present).backward()
        optimiser.step()
        if step:
            assert (model.heads[absent].weight.grad == 0).all()
            moved = [not torch.equal(a, b) for a, b in zip(learned, balancing.parameters(), strict=True)]
            assert moved == ([] if not learned else [task != absent for task in range(3)])
    if name in ("gradnorm", "random"):
        leaves = [nn.Parameter(torch.tensor(2.0)) for _ in WEIGHTS]
        if name == "gradnorm":
            balancing.start(leaves, leaves)
        balancing([2.0 * leaf for leaf in leaves], present).backward()
        shares = [leaf.grad.item() / (2.0 * weight) for leaf, weight in zip(leaves, WEIGHTS, strict=True)]
        assert shares[absent] == pytest.approx(1.0)  # of a loss that is 0
        assert sum(shares) == pytest.approx(3.0)


@pytest.mark.parametrize("name", BALANCINGS)
def test_a_batch_without_any_label_pulls_at_nothing(name):
    """A number with gradients of 0, and no NaN."""
    model = Shared()
    balancing = _started(name, model)
    value = balancing([loss * 0.0 for loss in model.losses()], ~ALL)
    value.backward()
    assert value == 0
    assert all((parameter.grad == 0).all() for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in balancing.parameters())


@pytest.mark.parametrize("scale", [0.0, 1e8])
@pytest.mark.parametrize("name", BALANCINGS)
def test_extreme_losses_leave_finite_gradients(name, scale):
    """A task that is fitted perfectly, before training or now, or one that is far off."""
    model = Shared()
    balancing = BALANCINGS[name](WEIGHTS, seed=1)
    balancing.start(model.losses((scale, 1.0, 1.0)), shared_parameters(model))
    balancing(model.losses((1.0, scale, 0.0)), ALL).backward()
    for parameter in (*model.parameters(), *balancing.parameters()):
        assert torch.isfinite(parameter.grad).all()


def test_gradnorm_is_the_derivative_of_the_papers_objective():
    """Chen et al.'s own way: gradients of gradients through the weighted losses, by the definition."""
    model = Shared()
    balancing = _started("gradnorm", model)
    before = [loss.item() for loss in model.losses()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        for logit, value in zip(balancing.logits, (0.5, -1.0, 0.2), strict=True):
            logit.fill_(value)
    balancing(model.losses(), ALL).backward()

    logits = torch.tensor([0.5, -1.0, 0.2], requires_grad=True)
    factors = 3 * logits.softmax(0)
    losses = model.losses()
    norms = []
    for factor, weight, loss in zip(factors, WEIGHTS, losses, strict=True):
        gradients = torch.autograd.grad(factor * weight * loss, model.shared_parameters(), create_graph=True)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
    norms = torch.stack(norms)
    rates = torch.tensor([loss.item() / first for loss, first in zip(losses, before, strict=True)])
    wanted = (norms.mean() * (rates / rates.mean()) ** 1.5).detach()
    (expected,) = torch.autograd.grad((norms - wanted).abs().sum(), logits, retain_graph=True)
    torch.testing.assert_close(torch.stack([logit.grad for logit in balancing.logits]), expected)
    for parameter in model.parameters():  # the model learns from the weighted sum alone
        weighted = sum(f.detach() * w * loss for f, w, loss in zip(factors, WEIGHTS, losses, strict=True))
        (expected,) = torch.autograd.grad(weighted, parameter, retain_graph=True)
        torch.testing.assert_close(parameter.grad, expected)


def test_gradnorm_holds_back_a_task_that_pulls_harder():
    """With a restoring force of 0, norms a hundred times apart are made equal."""
    model = Shared()
    scales = (1.0, 1.0, 100.0)
    balancing = GradNorm([1.0, 1.0, 1.0], restoring=0.0)
    balancing.start(model.losses(scales), shared_parameters(model))
    optimiser = torch.optim.Adam(balancing.parameters(), lr=0.02)
    for _ in range(600):
        optimiser.zero_grad()
        balancing(model.losses(scales), ALL).backward()
        optimiser.step()
    norms = []
    for loss in model.losses(scales):
        gradients = torch.autograd.grad(loss, model.shared_parameters(), retain_graph=True)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
    norms = balancing.factors(range(3)).detach() * torch.stack(norms)
    torch.testing.assert_close(norms, norms.mean().expand(3), rtol=0.15, atol=0)
    assert max(scales) * norms.min() > 50 * norms.max()


def test_gradnorm_pulls_harder_at_a_task_that_lags_behind():
    """Of equal norms, the one whose loss has fallen less gets the larger weight."""
    balancing = GradNorm([1.0, 1.0])
    leaves = [nn.Parameter(torch.tensor(1.0)) for _ in range(2)]
    balancing.start([torch.tensor(1.0), torch.tensor(4.0)], leaves)
    balancing([1.0 * leaf for leaf in leaves], ALL[:2]).backward()
    assert balancing.logits[0].grad < 0 < balancing.logits[1].grad


def test_uncertainty_believes_the_noisy_task_less():
    """α settles at log(w L), where the weight of a loss is half its inverse."""
    balancing = Uncertainty([1.0, 0.5])
    optimiser = torch.optim.Adam(balancing.parameters(), lr=0.05)
    for _ in range(800):
        optimiser.zero_grad()
        balancing([torch.tensor(0.2), torch.tensor(6.0)], ALL[:2]).backward()
        optimiser.step()
    found = [alpha.item() for alpha in balancing.alphas]
    assert found == pytest.approx([math.log(0.2), math.log(3.0)], abs=0.02)


def test_random_weights_are_new_at_every_step_and_the_seeds():
    """A softmax of standard normals times the number of tasks: mean 1, and the spread of such."""

    def drawn(seed, steps):
        balancing = Random([1.0, 1.0, 1.0], seed)
        rows = []
        for _ in range(steps):
            leaves = [torch.tensor(1.0, requires_grad=True) for _ in range(3)]
            balancing(leaves, ALL).backward()
            rows.append([leaf.grad.item() for leaf in leaves])
        return torch.tensor(rows)

    one, again, other = drawn(1, 400), drawn(1, 400), drawn(2, 400)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert len(one.unique(dim=0)) == 400
    torch.testing.assert_close(one.sum(1), torch.full((400,), 3.0))
    expected = 3 * torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    torch.testing.assert_close(one.mean(0), torch.ones(3), rtol=0, atol=0.1)
    torch.testing.assert_close(one.std(0), expected.std(0), rtol=0.15, atol=0)


@pytest.mark.parametrize(("encoder", "shape"), [("mlp", (11, 17)), ("cnn", (11, 17)), ("linear", None)])
def test_the_last_layer_that_all_tasks_share(encoder, shape):
    """The last of the common network; where heads stand on the features, all parameters."""
    how = Experiment(views=["a"], tasks=["x", "y"], encoder=encoder, hidden=[17, 11])
    model = Heads([(1, 13)], how, {"x": 3, "y": 1})
    found = shared_parameters(model)
    if shape is None:
        assert [id(p) for p in found] == [id(p) for p in model.parameters()]
    else:
        assert [p.shape for p in found] == [shape, shape[:1]]
        assert found[0] is model.shared[2].weight
    assert len(shared_parameters(nn.Linear(2, 3))) == 2
