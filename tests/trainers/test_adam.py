import subprocess
import sys

import pytest
import torch

from strata.trainers.training.adam import Adam


@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
def test_steps_are_those_of_torch(weight_decay):
    """Bit for bit, over steps of which some leave one parameter without a gradient."""
    torch.manual_seed(0)
    theirs = [torch.randn(7, 5).requires_grad_(), torch.randn(5).requires_grad_()]
    ours = [each.detach().clone().requires_grad_() for each in theirs]
    plain = torch.optim.Adam(theirs, lr=0.05, weight_decay=weight_decay, fused=True)
    own = Adam(ours, 0.05, weight_decay)
    for step in range(20):
        x = torch.randn(11, 7)
        for (weight, bias), optimiser in ((theirs, plain), (ours, own)):
            optimiser.zero_grad()
            (x @ weight + (0 if step % 3 == 2 else bias)).square().mean().backward()
            optimiser.step()
        for found, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_training_does_not_import_the_compiler():
    """`torch._dynamo` costs every process that trains 2 to 3 s of processor time."""
    program = """
import sys, torch
from strata.trainers.evaluation import experiment
from strata.trainers.training.adam import Adam
weight = torch.ones(3, requires_grad=True)
optimiser = Adam([weight], 0.1)
weight.sum().backward()
optimiser.step()
assert weight[0] < 1
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
