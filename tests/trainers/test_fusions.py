import pytest
import torch

from strata.trainers.modules.fusions import ot
from strata.trainers.modules.fusions.contract import Encoding
from strata.trainers.modules.fusions.ot import OptimalTransport
from strata.trainers.modules.fusions.section import Fusion
from strata.trainers.modules.transport import cost, transport_plan

B, N, M, C = 3, 7, 5, 11


@pytest.fixture
def points():
    torch.manual_seed(0)
    return torch.randn(B, N, C), torch.randn(B, M, C)


def transport(**section) -> OptimalTransport:
    """A fusion of such points."""
    return OptimalTransport(Fusion(kind="ot", **section), [Encoding(C, N), Encoding(C, M)])


@pytest.mark.parametrize(
    ("direction", "width"), [("both", 2 * N + 2 * M), ("x2->x1", 2 * N + M), ("x1->x2", N + 2 * M)]
)
@pytest.mark.parametrize("transported", ["barycentric", "literal"])
def test_the_fused_vector_holds_what_the_direction_says(points, direction, width, transported):
    """Each side beside what was carried to it; row sums of 1/n are divided out unless taken literally."""
    fusion = transport(direction=direction, transported=transported).eval()
    fused = fusion(*points)
    assert fused.shape == (B, width * C) == (B, fusion.num_outputs)
    if direction == "x2->x1":
        gated = [torch.nn.functional.silu(x) for x in points]
        carried = transport_plan(cost(*gated), 0.1, 50, 0.0) @ gated[1]
        scale = N if transported == "barycentric" else 1
        torch.testing.assert_close(fused[:, (N + M) * C :].view(B, N, C), carried * scale, rtol=2e-3, atol=1e-5)


def test_a_prediction_never_depends_on_its_batch_mates(points):
    """Alone or among others that converge sooner or later: the same vector."""
    fusion = transport().eval()
    x1, x2 = points
    x1[1] *= 100
    for i in range(B):
        torch.testing.assert_close(fusion(x1, x2)[i], fusion(x1[i : i + 1], x2[i : i + 1])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", ["both", "x2->x1", "x1->x2"])
def test_utterances_of_a_batch_may_be_the_points(points, direction):
    """One plan for all, between the means of their positions; whole utterances are carried."""
    fusion = transport(support="batch", direction=direction).train()
    fused = fusion(*points)
    assert fused.shape == (B, fusion.num_outputs)
    first, second = (torch.nn.functional.silu(x) for x in points)
    plan = transport_plan(cost(first.mean(1)[None], second.mean(1)[None]), 0.1, 50)[0]
    carried = {"x2->x1": plan * B @ second.flatten(1), "x1->x2": plan.mT * B @ first.flatten(1)}
    expected = [first.flatten(1), second.flatten(1), *(c for d, c in carried.items() if direction in ("both", d))]
    torch.testing.assert_close(fused, torch.cat(expected, 1), rtol=1e-3, atol=1e-4)


def test_outside_of_training_fixed_utterances_take_the_batchs_place(points):
    """Each utterance is transported among them alone: whoever else is asked for changes nothing."""
    fusion = transport(support="batch").eval()
    torch.manual_seed(1)
    others = torch.randn(4, N, C), torch.randn(4, M, C)
    together = fusion(*points, support=others)
    for i in range(B):
        alone = fusion(*(x[i : i + 1] for x in points), support=others)
        torch.testing.assert_close(together[i], alone[0], rtol=1e-5, atol=1e-6)
    # Worked another way: the utterance as the last of a batch with the others.
    batch = transport(support="batch", tolerance=0).train()
    for i in range(B):
        joined = batch(*(torch.cat([o, x[i : i + 1]]) for o, x in zip(others, points, strict=True)))
        torch.testing.assert_close(together[i], joined[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("planned", "at_a_time"), [(1, 1), (2 * 5**2, 2), (10**6, B)])
def test_plans_among_a_batch_are_made_in_bounded_memory(points, monkeypatch, planned, at_a_time):
    """Every utterance has a plan of batch × batch: so many at a time as fit, one at least; the vectors are the same."""
    fusion = transport(support="batch").eval()
    others = torch.randn(4, N, C), torch.randn(4, M, C)
    expected = fusion(*points, support=others)
    sizes = []
    monkeypatch.setattr(ot, "PLANNED", planned)
    monkeypatch.setattr(
        ot, "transport_plan", lambda costs, *how: sizes.append(len(costs)) or transport_plan(costs, *how)
    )
    torch.testing.assert_close(fusion(*points, support=others), expected)
    assert max(sizes) == at_a_time
    assert sum(sizes) == B
