import pytest
import torch

from trainers.fusions import OptimalTransport
from trainers.spec import Fusion
from trainers.transport import cost, transport_plan

B, N, M, C = 3, 7, 5, 11


@pytest.fixture
def points():
    torch.manual_seed(0)
    return torch.randn(B, N, C), torch.randn(B, M, C)


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
