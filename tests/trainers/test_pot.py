"""Plans by POT, chosen with `solver: pot`."""

import itertools
import subprocess
import sys

import numpy as np
import ot
import pytest
import torch
from pydantic import ValidationError

from strata.trainers.modules import transport
from strata.trainers.modules.fusions import pot
from strata.trainers.modules.fusions.section import Fusion, Regularisation
from strata.trainers.revisions import REVISIONS
from tests.sampling import sweep

B, N, M, C = 3, 7, 5, 11
UNIFORM = np.full(N, 1 / N), np.full(M, 1 / M)


@pytest.fixture
def costs():
    torch.manual_seed(0)
    return transport.cost(torch.randn(B, N, C), torch.randn(B, M, C))


@pytest.mark.parametrize("iterations", [1, 50])
@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.01])
def test_balanced_plans_are_those_of_the_own_solver(costs, epsilon, iterations):
    """Values and gradients, converged or not."""
    weights, plans, gradients = torch.randn(B, N, M), [], []
    for solver in (transport.transport_plan, pot.transport_plan):
        given = costs.clone().requires_grad_()
        plans.append(solver(given, epsilon, iterations))
        gradients += torch.autograd.grad((plans[-1] * weights).sum(), given)
    torch.testing.assert_close(*plans, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4 * gradients[0].abs().max().item())


@pytest.mark.parametrize(("penalty", "epsilon"), sweep(itertools.product([0.05, 0.5, 5.0], [0.1, 0.01, 0.004]), keep=4))
def test_unbalanced_plans_have_the_marginals_of_pots(costs, penalty, epsilon):
    """Of its general call on one pair of sets in NumPy; the larger the penalty, the nearer they are to uniform ones."""
    plans = pot.transport_plan(costs, epsilon, 1000, regularisation=Regularisation(unbalanced=penalty))
    for c, plan in zip(costs.double().numpy(), plans.numpy(), strict=True):
        expected = ot.solve(c, *UNIFORM, reg=epsilon, unbalanced=penalty, max_iter=1000, tol=1e-14).plan
        for axis in (0, 1):
            np.testing.assert_allclose(plan.sum(axis), expected.sum(axis), rtol=1e-4, atol=1e-6)
    mass = plans.sum((1, 2))
    assert (mass < 0.999).all()
    nearer = pot.transport_plan(costs, epsilon, 1000, regularisation=Regularisation(unbalanced=10 * penalty))
    assert (nearer.sum((1, 2)) > mass).all()


@pytest.mark.parametrize("part", [0.2, 0.7])
@pytest.mark.parametrize("epsilon", [0.1, 0.05])
def test_partial_plans_carry_their_part(costs, part, epsilon):
    """Marginals are those of POT's own call in NumPy: below the uniform ones, and together the part."""
    plans = pot.transport_plan(costs, epsilon, 500, regularisation=Regularisation(partial=part))
    for c, plan in zip(costs.double().numpy(), plans.numpy(), strict=True):
        expected = ot.partial.entropic_partial_wasserstein(*UNIFORM, c, epsilon, part, numItermax=500, stopThr=0)
        for axis, most in ((0, 1 / M), (1, 1 / N)):
            np.testing.assert_allclose(plan.sum(axis), expected.sum(axis), rtol=1e-4, atol=1e-6)
            assert (plan.sum(axis) <= most + 1e-4).all()
        np.testing.assert_allclose(plan.sum(), part, rtol=1e-5)


@pytest.mark.parametrize("how", [Regularisation(unbalanced=0.5), Regularisation(partial=0.7), None])
@pytest.mark.parametrize("epsilon", [0.3, 0.004])
def test_gradients_of_all_plans_are_finite(costs, how, epsilon):
    """And those of finite differences, where these are to be had."""
    given = costs.double()[:2, :3, :2].requires_grad_()
    if epsilon > 0.1:
        assert torch.autograd.gradcheck(lambda c: pot.transport_plan(c, epsilon, 20, regularisation=how), given)
    plan = pot.transport_plan(given, epsilon, 50, regularisation=how)
    (plan * torch.randn_like(plan)).sum().backward()
    assert torch.isfinite(given.grad).all()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"regularisation": {"unbalanced": 1}}, "regularisation is for plans by POT.*write solver: pot"),
        ({"solver": "pot", "regularisation": {}}, "expected one of unbalanced and partial"),
        ({"solver": "pot", "regularisation": {"unbalanced": 1, "partial": 0.5}}, "expected one of unbalanced and"),
        (
            {"solver": "pot", "epsilon": 0.003, "regularisation": {"unbalanced": 1}},
            "at least 0.004, got 0.003",
        ),
        ({"solver": "pot", "regularisation": {"unbalanced": 0}}, "greater than 0"),
        ({"solver": "pot", "regularisation": {"partial": 1.0}}, "less than 1"),
        ({"solver": "emd"}, "'sinkhorn' or 'pot'"),
    ],
)
def test_what_does_not_go_together_is_refused(section, message):
    """Where params.yaml is read, in one line."""
    with pytest.raises(ValidationError, match=message) as error:
        Fusion(kind="ot", **section)
    assert "\n" not in error.value.errors()[0]["msg"]


def test_the_default_solver_counts_for_nothing():
    """Results of before there was a choice follow from the same section; a row of its own tells others."""
    assert not {"solver", "regularisation"} & set(Fusion(kind="ot").resolved())
    how = Fusion(kind="ot", solver="pot", regularisation={"partial": 0.7})
    assert how.resolved()["solver"] == "pot"
    assert how.row == "TANGO, POT, partial 0.7"
    assert set(how.parts) == {"fusion ot", "plans by POT"} <= set(REVISIONS)


def test_pot_brings_no_tensorflow_along():
    """It is imported where a plan is asked for, and the environment is left as it was."""
    code = (
        "import os, sys, torch; from strata.trainers.modules.fusions import pot, registry\n"
        "assert 'ot' not in sys.modules; before = dict(os.environ); pot.transport_plan(torch.rand(1, 2, 3), 0.1, 5)\n"
        "assert 'ot' in sys.modules and 'tensorflow' not in sys.modules and before == dict(os.environ)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
