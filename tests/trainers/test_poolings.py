"""The contract that every layer-wise pooling passes, and a case by hand for each."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from strata.trainers.modules.poolings import POOLINGS, LogSumExp, SmoothMaximum, pooling
from strata.trainers.spec import Pooling

B, L, D = 3, 7, 5
NAMES = list(POOLINGS)
BY_LAYER = {"weighted": "logits", "gated": "gate"}  # parameters with one entry per layer
LEARNED = [name for name in NAMES if list(pooling(name, L, D).parameters())]


def _made(name, num_layers=L, dim=D, seed=0):
    """A pooling that has learned something: parameters away from where they start."""
    torch.manual_seed(seed)
    module = pooling(name, num_layers, dim)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return module


def _naive(name, module, x):
    """The formula as it is written, in float64, layer by layer, with nothing done for stability."""
    x = x.double().numpy()
    learned = {key: value.detach().double().numpy() for key, value in module.named_parameters()}
    mean, largest = x.mean(1), x.max(1)
    if name == "weighted":
        return np.einsum("bld,l->bd", x, softmax(learned["logits"]))
    if name in ("mean", "max"):
        return mean if name == "mean" else largest
    if name in ("mixed", "gated"):
        share = expit(learned["logit"] if name == "mixed" else np.einsum("bld,l->bd", x, learned["gate"]))
        return share * largest + (1 - share) * mean
    if name == "learned-norm":
        p = 1 + np.log(1 + np.exp(learned["rho"]))
        return (np.abs(x) ** p).mean(1) ** (1 / p)
    if name == "log-sum-exp":
        return np.log(np.exp(x).mean(1))
    if name in ("smooth-maximum", "auto"):
        e = np.exp(learned.get("alpha", 1.0) * x)
        return (x * e).sum(1) / e.sum(1)
    shares = np.exp(np.tanh(x @ learned["project.weight"].T) @ learned["score.weight"][0])
    return (x * shares[:, :, None]).sum(1) / shares.sum(1)[:, None]


def test_every_name_of_the_parameters_has_a_pooling():
    """And no pooling goes without a name; a wrong name is told the right ones."""
    assert tuple(POOLINGS) == get_args(Pooling)
    with pytest.raises(ValueError, match=r"expected a pooling of weighted, .*self-attention, got 'median'"):
        pooling("median", L, D)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_formula(name):
    """Within 1e-5 of the naive one in float64, in float32 and over values of either sign."""
    module = _made(name)
    x = 3 * torch.randn(B, L, D, generator=torch.Generator().manual_seed(1))
    found = module(x)
    assert found.shape == (B, D)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.detach(), _naive(name, module, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_layers_matters_only_to_what_is_learned_per_layer(name):
    """Permuted layers, and with them the parameters that each layer has, give the same vector."""
    x, order = torch.randn(B, L, D), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    module, other = _made(name), _made(name)
    if name in BY_LAYER:
        assert not torch.allclose(module(x[:, order]), module(x), rtol=1e-2)
        with torch.no_grad():
            parameter = getattr(other, BY_LAYER[name])
            parameter.copy_(parameter[order])
    torch.testing.assert_close(other(x[:, order]), module(x))


@pytest.mark.parametrize("name", NAMES)
def test_one_layer_is_itself(name):
    """Whatever was learned; of the learned norm, its size."""
    x = torch.randn(B, 1, D) * 10
    expected = x[:, 0].abs() if name == "learned-norm" else x[:, 0]
    torch.testing.assert_close(_made(name, 1)(x), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(lambda: 1e4 * torch.sign(torch.randn(B, L, D)), id="large"),
        pytest.param(lambda: torch.full((B, L, D), -1e4), id="large and negative"),
        pytest.param(lambda: torch.zeros(B, L, D), id="zero"),
        pytest.param(lambda: torch.randn(B, 1, D).repeat(1, L, 1), id="equal layers"),
        pytest.param(lambda: torch.randn(B, L, D) * (torch.arange(D) > 2), id="some zeros"),
        pytest.param(lambda: 1e-30 * torch.randn(B, L, D), id="tiny"),
    ],
)
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "learned"])
def test_nothing_overflows(name, values, fresh):
    """Values and all gradients are finite in float32, and the result lies among the layers' values, or their sizes."""
    torch.manual_seed(2)
    x = values().requires_grad_()
    module = pooling(name, L, D) if fresh else _made(name)
    found = module(x)
    gradients = torch.autograd.grad(found.sum(), [x, *module.parameters()])
    assert all(torch.isfinite(each).all() for each in (found, *gradients))
    among = (x.abs() if name == "learned-norm" else x).detach()
    slack = 1e-5 * among.abs().amax(1) + (1e-6 if name == "log-sum-exp" else 0)
    assert (found <= among.amax(1) + slack).all()
    assert (found >= among.amin(1) - slack).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_never_depends_on_its_batch_mates(name):
    """Alone, or beside one whose values are a thousand times larger."""
    module, x = _made(name), torch.randn(B, L, D)
    x[1] *= 1e3
    together = module(x)
    for i in range(B):
        torch.testing.assert_close(together[i], module(x[i : i + 1])[0])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_finite_differences(name):
    """Of the layers and of everything learned, in float64."""
    torch.manual_seed(3)
    module = _made(name).double()
    names = [key for key, _ in module.named_parameters()]
    x = torch.randn(2, L, D, dtype=torch.float64, requires_grad=True)

    def call(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    learned = [parameter.detach().requires_grad_() for parameter in module.parameters()]
    assert torch.autograd.gradcheck(call, (x, *learned))


@pytest.mark.parametrize("name", LEARNED)
def test_all_that_can_be_learned_is(name):
    """Every entry of every parameter is pulled at from the start."""
    torch.manual_seed(4)
    module = pooling(name, L, D)
    (module(torch.randn(B, L, D)) * torch.randn(B, D)).sum().backward()
    for parameter in module.parameters():
        assert (parameter.grad != 0).all()


def test_what_is_learned_is_told_apart_from_what_is_not():
    """Four poolings have nothing to learn."""
    assert set(NAMES) - set(LEARNED) == {"mean", "max", "log-sum-exp", "smooth-maximum"}


@pytest.mark.parametrize(
    ("name", "learned", "expected"),
    [
        ("weighted", {"logits": [0.0, math.log(3)]}, [7.0, -5.0]),  # 1·¼ + 9·¾, 4·¼ − 8·¾
        ("mean", {}, [5.0, -2.0]),
        ("max", {}, [9.0, 4.0]),
        ("mixed", {"logit": math.log(3)}, [8.0, 2.5]),  # ¾ of the maximum
        ("gated", {"gate": [0.0, 1.0]}, [9 - 4 * expit(-9), 4 - 6 * expit(8)]),  # the second layer opens the gate
        ("learned-norm", {}, [math.sqrt(41), math.sqrt(40)]),  # p = 2 at the start
        ("log-sum-exp", {}, [math.log((math.e + math.e**9) / 2), math.log((math.e**4 + math.e**-8) / 2)]),
        ("smooth-maximum", {}, [9 - 8 * expit(-8), 4 - 12 * expit(-12)]),
        ("auto", {"alpha": [0.0, -1.0]}, [5.0, -8 + 12 * expit(-12)]),  # the mean, and nearly the minimum
        # tanh of the first dimension is about 1 in both layers, and tanh(0) = 0 for the second: equal shares.
        ("self-attention", {"project.weight": [[50.0, 0.0]], "score.weight": [[2.0]]}, [5.0, -2.0]),
        # By the second dimension the layers are told apart: tanh(±large) = ±1, shares of e² to 1 with v = 1.
        (
            "self-attention",
            {"project.weight": [[0.0, 50.0]], "score.weight": [[1.0]]},
            [9 - 8 * expit(2), -8 + 12 * expit(2)],
        ),
    ],
)
def test_worked_by_hand(name, learned, expected):
    """The layers (1, 4) and (9, −8)."""
    module = pooling(name, 2, 2) if name != "self-attention" else POOLINGS[name](2, 2, hidden=1)
    module.load_state_dict({key: torch.tensor(value) for key, value in learned.items()}, strict=bool(learned))
    found = module(torch.tensor([[[1.0, 4.0], [9.0, -8.0]]]))
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32))


def test_all_layers_start_equal_and_no_side_is_taken():
    """Fresh poolings: equal weights, half of the maximum, a root mean square, α at 1."""
    x = torch.randn(B, L, D)
    halfway = (x.mean(1) + x.amax(1)) / 2
    torch.testing.assert_close(pooling("weighted", L, D)(x), x.mean(1))
    torch.testing.assert_close(pooling("weighted", L, D).weights, torch.full((L,), 1 / L))
    torch.testing.assert_close(pooling("mixed", L, D)(x), halfway)
    torch.testing.assert_close(pooling("gated", L, D)(x), halfway)
    torch.testing.assert_close(pooling("learned-norm", L, D)(x), x.square().mean(1).sqrt())
    torch.testing.assert_close(pooling("auto", L, D)(x), pooling("smooth-maximum", L, D)(x))


@pytest.mark.parametrize("made", [LogSumExp, SmoothMaximum])
def test_the_sharpness_lies_between_mean_and_maximum(made):
    """Nearly the one where it is small, nearly the other where it is large."""
    x = torch.randn(B, L, D, dtype=torch.float64)
    torch.testing.assert_close(made(L, D, sharpness=1e-5)(x), x.mean(1), rtol=0, atol=1e-3)
    torch.testing.assert_close(made(L, D, sharpness=1e4)(x), x.amax(1), rtol=0, atol=1e-3)
