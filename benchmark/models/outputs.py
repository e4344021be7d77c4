"""What of a model's answer is explained: the target's logit, its probability, or its log odds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.models.others.adapters import NoGradientError

OUTPUTS = ("logit", "probability", "log_odds")
"""What a method can explain. All metrics ask the probability, a function of the log odds alone, not of the logit."""
_PLACES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
PATH = ((_PLACES + 1) / 2).tolist(), (_WEIGHTS / 2).tolist()
"""Places in [0, 1] along the way between two answers, and weights that sum to 1, which slopes are averaged by."""
NEAR = 40.0
"""Logits by which a class lies below another whose softmax it does not change; differences of logits that change by as
much along a way are what `PATH` averages to eight digits."""


def output_of(logits: Tensor, target: Tensor, output: str) -> Tensor:
    """Return the output (n,) of each row that is explained, in float32 at least.

    Args:
        logits: of the model, (n, C).
        target: the class explained of each row, (n,).
        output: `logit`; `probability`, that under a softmax; or `log_odds`, log p / (1 - p), which is the logit less
            the logarithm of the sum of the exponentials of all others.

    Example:
        >>> output_of(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), "probability")
        tensor([0.5000])
        >>> output_of(torch.tensor([[0.0, 2.0]]), torch.tensor([1]), "log_odds")
        tensor([2.])
    """
    logits, index = _wide(logits), target.unsqueeze(1)
    if output == "probability":
        return logits.softmax(1).gather(1, index).squeeze(1)
    own = logits.gather(1, index).squeeze(1)
    if output == "logit":
        return own
    others = logits.scatter(1, index, -torch.inf)
    return own - others.logsumexp(1)


def outputs(logits: Tensor, output: str) -> Tensor:
    """Return the outputs (n, C) of all classes, see `output_of`.

    Example:
        >>> outputs(torch.tensor([[0.0, 2.0]]), "log_odds")
        tensor([[-2.,  2.]])
    """
    logits = _wide(logits)
    if output == "logit":
        return logits
    if output == "probability":
        return logits.softmax(1)
    log_p = logits.log_softmax(1)
    odds = log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))
    largest = logits.argmax(1, keepdim=True)  # whose 1 - p may be lost to rounding
    return odds.scatter(1, largest, output_of(logits, largest[:, 0], output).unsqueeze(1))


def _wide(logits: Tensor) -> Tensor:
    """Return logits in float32 at least: half precision holds no probability near 1."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def with_gradient(logits: Tensor, x: Tensor) -> Tensor:
    """Return logits as they are.

    Raises:
        NoGradientError: a gradient with respect to x is asked for, and the logits have none.
    """
    if torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad:
        raise NoGradientError(
            "no gradient passes the model from its answer to its input (a step, detach() or no_grad() in it, say): use "
            "a method that only asks for predictions, such as lime, kernel_shap or occlusion"
        )
    return logits


class TargetOutput(nn.Module):
    """A model that gives only the output that is explained; the class is its last argument, as Captum passes it on.

    Args:
        model: gives logits (n, C).
        output: see `output_of`.
    """

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output
        self.eval()

    def forward(self, *arguments: Any) -> Tensor:
        """Return the output (n,) of inputs, further arguments of the model, and last the targets (n,).

        Raises:
            NoGradientError: a gradient is asked for, and none passes the model.
        """
        *inputs, target = arguments
        return output_of(with_gradient(self.model(*inputs), inputs[0]), target, self.output)


class PairedOutput(TargetOutput):
    """The same for inputs that stand before their references, as DeepLIFT lays them out.

    What is explained is no layer, so its slopes are averaged along the straight way from the logits of the reference
    to those of the input: contributions still sum to the difference of the outputs.
    """

    def forward(self, *arguments: Any) -> Tensor:
        """Return a sum of logits (2 n,) with those slopes; the values themselves mean nothing."""
        *inputs, target = arguments
        logits = with_gradient(self.model(*inputs), inputs[0])
        if self.output == "logit":
            return output_of(logits, target, "logit")
        ends, starts = logits.detach().chunk(2)
        slopes = mean_slopes(ends, starts, target[: len(ends)], self.output)
        return (logits * slopes.repeat(2, 1)).sum(1)


def mean_slopes(ends: Tensor, starts: Tensor, target: Tensor, output: str) -> Tensor:
    """Return the mean gradient (n, C) of the output along straight ways of logits, from `starts` to `ends` (n, C).

    A way is halved until the output bends gently enough along each part for the places of `PATH`.
    """
    total = torch.zeros_like(ends)
    rows = torch.arange(len(ends), device=ends.device)
    low = torch.zeros_like(ends[:, 0])
    width = 1.0
    while len(rows):
        from_, to = (torch.lerp(starts[rows], ends[rows], at.unsqueeze(1)) for at in (low, low + width))
        sharp = _is_sharp(from_, to, target[rows], output)
        gentle = rows[~sharp]
        for place, weight in zip(*PATH, strict=True):
            with torch.enable_grad():
                point = torch.lerp(from_[~sharp], to[~sharp], place).requires_grad_()
                slope = torch.autograd.grad(output_of(point, target[gentle], output).sum(), point)[0]
            total.index_add_(0, gentle, slope.to(total.dtype), alpha=weight * width)
        rows, low, width = rows[sharp].repeat(2), low[sharp].repeat(2), width / 2
        low[len(low) // 2 :] += width
    return total


def _is_sharp(starts: Tensor, ends: Tensor, target: Tensor, output: str) -> Tensor:
    """Tell along which ways of logits (n, C) the softmax behind an output turns too fast for `PATH`, (n,) bool.

    Classes that lie `NEAR` below one and the same class at both ends do so all along the way, and have no part in it.
    """
    if output == "log_odds":  # its softmax is over all classes but the target
        index = target.unsqueeze(1)
        starts, ends = (logits.scatter(1, index, -torch.inf) for logits in (starts, ends))
    leader = (starts + ends).argmax(1, keepdim=True)
    below = torch.maximum(starts - starts.gather(1, leader), ends - ends.gather(1, leader))
    way = (ends - starts) - (ends - starts).gather(1, leader)
    near = below > -NEAR
    span = way.where(near, -torch.inf).amax(1) - way.where(near, torch.inf).amin(1)
    return (span > NEAR) & span.isfinite()
