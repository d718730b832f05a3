import numpy as np
import ot
import pytest
import torch

from strata.trainers.modules.transport import SMALLEST_EPSILON, cost, transport_plan

B, N, M, C = 3, 7, 5, 11


@pytest.fixture
def points():
    torch.manual_seed(0)
    return torch.randn(B, N, C), torch.randn(B, M, C)


def test_the_cost_is_the_scaled_distance(points):
    """Against NumPy's, utterance by utterance (TANGO eq 3)."""
    x1, x2 = points
    for a, b, found in zip(x1.numpy(), x2.numpy(), cost(x1, x2).numpy(), strict=True):
        distances = np.linalg.norm(a[:, None] - b[None], axis=2)
        np.testing.assert_allclose(found, distances / distances.max(), rtol=1e-4)


def test_gradients_of_the_cost_by_finite_differences(points):
    """Of both sets, the largest distance included."""
    assert torch.autograd.gradcheck(cost, [x.double().requires_grad_() for x in points])


@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_the_plan_is_pots(points, epsilon):
    """Against POT's own unbatched Sinkhorn, and with the marginals that it must have."""
    costs = cost(*points).double()
    plans = transport_plan(costs, epsilon, iterations=500)
    for c, plan in zip(costs.numpy(), plans.numpy(), strict=True):
        expected = ot.sinkhorn(np.full(N, 1 / N), np.full(M, 1 / M), c, epsilon, stopThr=1e-12, numItermax=10_000)
        np.testing.assert_allclose(plan, expected, atol=1e-8)
    np.testing.assert_allclose(plans.sum(2).numpy(), 1 / N, atol=1e-8)
    np.testing.assert_allclose(plans.sum(1).numpy(), 1 / M, atol=1e-8)


@pytest.mark.parametrize("iterations", [1, 50, 2000])
@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.02, 0.01, 0.002, SMALLEST_EPSILON])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_iterate_is_that_of_the_log_domain(points, epsilon, iterations, dtype):
    """Against POT's batched Sinkhorn on logarithms, converged or not, down to the smallest ε; values and gradients."""
    from ot.batch import solve_batch

    costs = cost(*points).to(dtype).requires_grad_()
    found = transport_plan(costs, epsilon, iterations)
    weights = torch.randn_like(found)
    (gradient,) = torch.autograd.grad((found * weights).sum(), costs)
    exact = costs.detach().double().requires_grad_()
    expected = solve_batch(
        exact, reg=epsilon, method="log_sinkhorn", max_iter=iterations, tol=0.0, grad="autodiff"
    ).plan
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), exact)
    exactly = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(found.double(), expected, rtol=exactly, atol=exactly)
    scale = expected_gradient.abs().max().item()
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=0, atol=(exactly * 10 + 1e-12) * scale)


def test_gradients_flow_through_the_plan(points):
    """Against finite differences, converged and not."""
    x1, x2 = (x[:2, :3, :2].double().requires_grad_() for x in points)
    for epsilon, iterations in ((0.3, 30), (0.1, 2), (0.05, 100)):
        assert torch.autograd.gradcheck(lambda a, b: transport_plan(cost(a, b), epsilon, iterations), (x1, x2))  # noqa: B023


def test_stopping_early_changes_nothing_but_the_rounding(points):
    """The default tolerance of training against all iterations."""
    costs = cost(*points).requires_grad_()
    weights = torch.randn(B, N, M)
    plans = [transport_plan(costs, 0.1, 200, tolerance) for tolerance in (0.0, 1e-6)]
    gradients = [torch.autograd.grad((plan * weights).sum(), costs)[0] for plan in plans]
    torch.testing.assert_close(*plans, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e4])
@pytest.mark.parametrize("epsilon", [0.1, 0.002])
def test_odd_points_give_finite_plans_and_gradients(epsilon, scale):
    """All points in one place, almost so, or far apart."""
    torch.manual_seed(0)
    x1, x2 = (scale * torch.randn(B, size, C) for size in (N, M))
    x1.requires_grad_()
    plan = transport_plan(cost(x1, x2), epsilon, 50)
    (plan * torch.randn_like(plan)).sum().backward()
    assert torch.isfinite(plan).all()
    assert torch.isfinite(x1.grad).all()


def test_transport_worked_by_hand():
    """Two views whose points coincide pairwise: at small ε each point receives its own partner."""
    x = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    plan = transport_plan(cost(x, x.flip(1)), 0.01, 200, 0.0)
    torch.testing.assert_close(plan, torch.tensor([[[0.0, 0.5], [0.5, 0.0]]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("offset", [0.0, 100.0, 10_000.0])
def test_where_the_points_lie_changes_neither_cost_nor_gradient(points, offset):
    """Against float64, however far from the origin they are."""
    found = [(x + offset).requires_grad_() for x in points]
    expected = [x.detach().double().requires_grad_() for x in found]
    weights = torch.randn(B, N, M)
    costs = [cost(*sets) for sets in (found, expected)]
    torch.testing.assert_close(costs[0].double(), costs[1], rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad((c * weights).sum(), sets) for c, sets in zip(costs, (found, expected), strict=True)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4)


def test_points_that_coincide_have_no_gradient_to_each_other(points):
    """The same points on both sides: nothing of their rounding grows into a gradient."""
    x1 = points[0].clone().requires_grad_()
    same = cost(x1, points[0]).diagonal(dim1=1, dim2=2)
    (gradient,) = torch.autograd.grad(same.sum(), x1)
    assert same.max() < 2e-3
    assert gradient.abs().max() < 1e-2  # of the largest distance alone, which scales the others
