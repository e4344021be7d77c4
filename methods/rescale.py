"""Captum's DeepLIFT with the rescale rule for smooth activations too. Captum is slow to import: import this late.

It overrides two private methods of Captum's class, `_is_non_linear` and `_backward_hook`, and calls its private rule
`nonlinear`; pyproject.toml bounds Captum's version, and tests/methods/test_captum.py checks all three.
"""

from __future__ import annotations

import warnings

from captum.attr import DeepLift
from captum.attr._core.deep_lift import nonlinear
from torch import Tensor, nn

SMOOTH = (nn.SiLU, nn.GELU, nn.ReLU6, nn.Hardswish, nn.Mish)
"""Elementwise activations that Captum passes by without a word, so that the gradient would take the rule's place."""


class RescaleDeepLift(DeepLift):
    """DeepLIFT whose rescale rule (Shrikumar et al. 2017, section 3.5.1) holds for smooth activations too.

    Args:
        model: maps inputs to logits (B, C); each of its activation modules is used once a forward.
    """

    def attribute(self, *arguments: object, **settings: object) -> Tensor:
        """See Captum's; without its warning that it sets hooks, which it removes."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
            return super().attribute(*arguments, **settings)

    def _is_non_linear(self, module: nn.Module) -> bool:
        return type(module) in SMOOTH or super()._is_non_linear(module)

    def _backward_hook(self, module: nn.Module, grad_input: Tensor, grad_output: Tensor) -> Tensor:
        if type(module) not in SMOOTH or not self.satisfies_attribute_criteria(module):
            return super()._backward_hook(module, grad_input, grad_output)  # raises where a module is used twice
        multipliers = nonlinear(module, module.input, module.output, grad_input, grad_output, eps=self.eps)
        del module.input, module.output
        return multipliers
