"""The fit's Adam is PyTorch's, without loading PyTorch's compiler."""

import subprocess
import sys

import pytest
import torch

from scripts.refine.adam import Adam


@pytest.mark.parametrize("rates", [(0.02, 0.003), (1e-3, 1e-3)])
def test_steps_are_those_of_pytorch_bit_for_bit(rates):
    torch.manual_seed(0)
    start = [torch.randn(3, 32), torch.randn(5), torch.randn(2, 7, 4)]
    target = [torch.randn_like(one) for one in start]

    def run(optimiser_of):
        own = [one.clone().requires_grad_(True) for one in start]
        optimiser = optimiser_of(own)
        for _ in range(40):
            optimiser.zero_grad()
            sum(((a - b) ** 4).mean() for a, b in zip(own[:2], target, strict=False)).backward()
            optimiser.step()
        return own

    ours = run(lambda own: Adam([(own[:1], rates[0]), (own[1:], rates[1])]))
    theirs = run(lambda own: torch.optim.Adam([{"params": own[:1]}, {"params": own[1:], "lr": rates[1]}], lr=rates[0]))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(ours[0], start[0]) and torch.equal(ours[2], start[2])


def test_a_fit_does_not_load_the_compiler():
    code = (
        "import sys, torch; from scripts.refine.adam import Adam; x = torch.ones(3, requires_grad=True);"
        "a = Adam([([x], 0.1)]); (x**2).sum().backward(); a.step(); assert (x < 1).all();"
        "print('torch._dynamo' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[-1] == "False"
