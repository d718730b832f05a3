import numpy as np
import ot
import pytest
import torch

from trainers.fusions import OptimalTransport, cost, transport_plan
from trainers.spec import Fusion

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


@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_the_plan_is_pots(points, epsilon):
    """Against POT's own unbatched Sinkhorn, and with the marginals that it must have."""
    costs = cost(*points).double()
    plans = transport_plan(costs, epsilon, iterations=500, tolerance=0.0)
    for c, plan in zip(costs.numpy(), plans.numpy(), strict=True):
        expected = ot.sinkhorn(np.full(N, 1 / N), np.full(M, 1 / M), c, epsilon, stopThr=1e-12, numItermax=10_000)
        np.testing.assert_allclose(plan, expected, atol=1e-8)
    np.testing.assert_allclose(plans.sum(2).numpy(), 1 / N, atol=1e-8)
    np.testing.assert_allclose(plans.sum(1).numpy(), 1 / M, atol=1e-8)


def test_gradients_flow_through_the_plan(points):
    """Against finite differences."""
    x1, x2 = (x[:1, :3, :2].double().requires_grad_() for x in points)
    assert torch.autograd.gradcheck(lambda a, b: transport_plan(cost(a, b), 0.3, 30, 0.0), (x1, x2))


def test_transport_worked_by_hand():
    """Two views whose points coincide pairwise: at small ε each point receives its own partner."""
    x = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    plan = transport_plan(cost(x, x.flip(1)), 0.01, 200, 0.0)
    torch.testing.assert_close(plan, torch.tensor([[[0.0, 0.5], [0.5, 0.0]]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("direction", "width"), [("both", 2 * N + 2 * M), ("x2->x1", 2 * N + M), ("x1->x2", N + 2 * M)]
)
@pytest.mark.parametrize("transported", ["barycentric", "literal"])
def test_the_fused_vector_holds_what_the_direction_says(points, direction, width, transported):
    """Each side beside what was carried to it; row sums of 1/n are divided out unless taken literally."""
    fusion = OptimalTransport(Fusion(kind="ot", direction=direction, transported=transported)).eval()
    fused = fusion(*points)
    assert fused.shape == (B, width * C) == (B, fusion.num_outputs((N, M), C))
    if direction == "x2->x1":
        gated = [torch.nn.functional.silu(x) for x in points]
        carried = transport_plan(cost(*gated), 0.1, 50, 0.0) @ gated[1]
        scale = N if transported == "barycentric" else 1
        torch.testing.assert_close(fused[:, (N + M) * C :].view(B, N, C), carried * scale, rtol=2e-3, atol=1e-5)


def test_a_prediction_never_depends_on_its_batch_mates(points):
    """Alone or among others that converge sooner or later: the same vector."""
    fusion = OptimalTransport(Fusion(kind="ot")).eval()
    x1, x2 = points
    x1[1] *= 100
    for i in range(B):
        torch.testing.assert_close(fusion(x1, x2)[i], fusion(x1[i : i + 1], x2[i : i + 1])[0], rtol=1e-5, atol=1e-6)
