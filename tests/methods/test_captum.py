"""Which private parts of Captum are used: look here before raising the bound of its version in pyproject.toml."""

from __future__ import annotations

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import captum
import pytest
import torch
from captum.attr import DeepLift
from torch import nn

from methods.rescale import SMOOTH, RescaleDeepLift

ROOT = Path(__file__).resolve().parents[2]


def test_the_version_is_bounded():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (bound,) = [text for text in dependencies if text.startswith("captum")]
    assert ",<" in bound
    assert version("captum") == captum.__version__


def test_private_parts_are_as_they_are_used():
    from captum._utils.models.linear_model import SkLearnLasso
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR, nonlinear

    for function, names in {
        DeepLift._is_non_linear: "self module",
        DeepLift._backward_hook: "self module grad_input grad_output",
        DeepLift.satisfies_attribute_criteria: "self module",
        nonlinear: "module inputs outputs grad_input grad_output eps",
    }.items():
        assert list(inspect.signature(function).parameters) == names.split()
    assert SkLearnLasso(alpha=0.5).construct_kwargs["alpha"] == 0.5
    assert not set(SMOOTH) & set(SUPPORTED_NON_LINEAR), "Captum knows them now: leave them to it"


def test_captum_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2)).eval()
    x, base = torch.randn(3, 4), torch.zeros(3, 4)
    before = DeepLift(model).attribute(x, base, target=0)
    ours = RescaleDeepLift(model).attribute(x, base, target=0)
    assert torch.equal(DeepLift(model).attribute(x, base, target=0), before)
    gap = (model(x) - model(base))[:, 0]
    torch.testing.assert_close(ours.sum(1), gap, rtol=0, atol=1e-5)
    assert (before.sum(1) - gap).abs().max() > 1e-3, "which passes the activation by"


@pytest.mark.parametrize("kind", SMOOTH)
def test_an_activation_that_is_used_twice_is_refused(kind):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.activation = nn.Linear(4, 4), kind()

        def forward(self, x):
            return self.activation(self.layer(self.activation(self.layer(x))))

    with pytest.raises(RuntimeError, match="used more than once"):
        RescaleDeepLift(Twice()).attribute(torch.randn(2, 4), torch.zeros(2, 4), target=0)
