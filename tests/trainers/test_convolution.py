import pytest
import torch
from torch import nn

from strata.trainers.modules.convolution import conv_relu_pool


def _plain(x, weight, bias):
    """The same by PyTorch's own layers."""
    convolved = nn.functional.conv1d(x.mT, weight, bias, padding=1)
    return nn.functional.max_pool1d(convolved.relu(), 2, ceil_mode=True).mT


@pytest.mark.parametrize("length", [1, 2, 3, 16, 37])
@pytest.mark.parametrize("channels", [1, 5])
def test_it_is_pytorchs_convolution_relu_and_pooling(length, channels):
    """Values and all gradients, for odd and even lengths down to one position."""
    torch.manual_seed(0)
    x = torch.randn(3, length, channels, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, channels, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(7, dtype=torch.float64, requires_grad=True)
    found, expected = (function(x, weight, bias) for function in (conv_relu_pool, _plain))
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad((y * weights).sum(), (x, weight, bias)) for y in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_worked_by_hand():
    """The signal 1, 2, 3 under the kernel 1, 0, −1: −2, −2, 2; ReLU and pooling leave 0 and 2."""
    x = torch.tensor([[[1.0], [2.0], [3.0]]])
    y = conv_relu_pool(x, torch.tensor([[[1.0, 0.0, -1.0]]]), torch.zeros(1))
    torch.testing.assert_close(y, torch.tensor([[[0.0], [2.0]]]))


def test_gradients_by_finite_differences():
    """Of all three arguments."""
    torch.manual_seed(0)
    arguments = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 5, 3), (4, 3, 3), (4,))]
    assert torch.autograd.gradcheck(conv_relu_pool, arguments)
