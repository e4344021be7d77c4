"""Parts that recipes share: what is sorted, in which groups, from which baseline, what is read of the model's answers.

n features, K groups, S removal sets, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmark.testing.golden import Golden
from benchmark.testing.variants.samples import Sample

# attributions (n,) as they are used


def signed(s: np.ndarray) -> np.ndarray:
    """Return attributions as they are."""
    return s


def absolute(s: np.ndarray) -> np.ndarray:
    """Return their magnitudes."""
    return np.abs(s)


def negated(s: np.ndarray) -> np.ndarray:
    """Return them with the other sign."""
    return -s


# the order that equal attributions keep, (n,)


def ties_as_given(sample: Sample) -> np.ndarray:
    """Return the seeded permutation of the case."""
    return sample.ties


def ties_stable(sample: Sample) -> np.ndarray:
    """Return the first feature first."""
    return np.arange(sample.n)


def ties_reversed(sample: Sample) -> np.ndarray:
    """Return the last feature first."""
    return np.arange(sample.n)[::-1]


def descending(s: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Return features from the most to the least relevant, (n,); equal ones in the order of `ties`."""
    return ties[np.argsort(-s[ties], kind="stable")]


# bounds of groups along the order: features 0..bounds[k] are in the first k groups


def bounds_rounded(n: int, steps: int) -> list[int]:
    """Return round(k n / K), halves to even."""
    return [round(k * n / steps) for k in range(steps + 1)]


def bounds_floored(n: int, steps: int) -> list[int]:
    """Return k n / K rounded down."""
    return [k * n // steps for k in range(steps + 1)]


def bounds_ceiled(n: int, steps: int) -> list[int]:
    """Return k n / K rounded up."""
    return [-(-k * n // steps) for k in range(steps + 1)]


def larger_steps(n: int, steps: int) -> list[int]:
    """Remove ceil(n / K) features a step; the last is smaller, and there may be fewer."""
    width = -(-n // steps)
    return [*range(0, n, width), n]


def smaller_steps(n: int, steps: int) -> list[int]:
    """Remove floor(n / K) features a step; what remains is one more."""
    width = n // steps
    return [*range(0, n, width), n]


def remainder_left(n: int, steps: int) -> list[int]:
    """Remove floor(n / K) features a step, K times; what remains is never removed."""
    width = n // steps
    return [k * width for k in range(steps + 1)]


def larger_first(n: int, steps: int) -> list[int]:
    """Cut as numpy.array_split does: the first n mod K groups have one feature more."""
    return [k * (n // steps) + min(k, n % steps) for k in range(steps + 1)]


def single_steps(n: int, steps: int) -> list[int]:
    """Remove one feature a step, whatever K is."""
    return list(range(n + 1))


def ten_steps(n: int, steps: int) -> list[int]:
    """Take ten steps, whatever K is."""
    return bounds_rounded(n, min(10, n))


# baselines


def own_baseline(golden: Golden) -> Tensor:
    """Return the baseline of the case."""
    return golden.task.removal.baseline(golden.x, golden.kind)


def removal_baseline(golden: Golden) -> Tensor:
    """Return what removal uses, for INS too."""
    return golden.task.removal.baseline(golden.x, "removal")


def zero(golden: Golden) -> Tensor:
    """Return zeros."""
    return torch.zeros_like(golden.x)


def lowest(golden: Golden) -> Tensor:
    """Return each sample's own smallest value."""
    return _spread(golden, golden.x.flatten(1).amin(1))


def highest(golden: Golden) -> Tensor:
    """Return each sample's own largest value."""
    return _spread(golden, golden.x.flatten(1).amax(1))


def own_mean(golden: Golden) -> Tensor:
    """Return each sample's own mean."""
    return _spread(golden, golden.x.double().flatten(1).mean(1))


def batch_mean(golden: Golden) -> Tensor:
    """Return the mean of the explained samples, value by value."""
    return golden.x.double().mean(0, keepdim=True).expand_as(golden.x)


def _spread(golden: Golden, values: Tensor) -> Tensor:
    return values.view(-1, *[1] * (golden.x.dim() - 1)).expand_as(golden.x)


# what is read of logits (S, C)


def probability(logits: np.ndarray, target: int) -> np.ndarray:
    """Return the target's probability, (S,)."""
    return _softmax(logits)[:, target]


def logit(logits: np.ndarray, target: int) -> np.ndarray:
    """Return the target's logit."""
    return logits[:, target]


def log_probability(logits: np.ndarray, target: int) -> np.ndarray:
    """Return the logarithm of the target's probability."""
    return np.log(probability(logits, target))


def class_of_each(logits: np.ndarray, target: int) -> np.ndarray:
    """Return the probability of whichever class is predicted."""
    return _softmax(logits).max(1)


def still_predicted(logits: np.ndarray, target: int) -> np.ndarray:
    """Return 1 where the target is predicted, else 0."""
    return (logits.argmax(1) == target).astype(float)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exps = np.exp(logits - logits.max(1, keepdims=True))
    return exps / exps.sum(1, keepdims=True)


# effects of predictions v (S,), where v0 is the one with nothing removed


def value(v: np.ndarray, v0: float) -> np.ndarray:
    """Return v."""
    return v


def drop(v: np.ndarray, v0: float) -> np.ndarray:
    """Return v0 - v."""
    return v0 - v


def kept_share(v: np.ndarray, v0: float) -> np.ndarray:
    """Return v / v0."""
    return v / v0


def lost_share(v: np.ndarray, v0: float) -> np.ndarray:
    """Return 1 - v / v0."""
    return 1 - v / v0


def absolute_drop(v: np.ndarray, v0: float) -> np.ndarray:
    """Return |v0 - v|."""
    return np.abs(v0 - v)


def squared_drop(v: np.ndarray, v0: float) -> np.ndarray:
    """Return (v0 - v)^2."""
    return (v0 - v) ** 2


def squared_lost_share(v: np.ndarray, v0: float) -> np.ndarray:
    """Return ((v0 - v) / v0)^2."""
    return ((v0 - v) / v0) ** 2


def tied_lost_share(v: np.ndarray, v0: float) -> np.ndarray:
    """Return ((v0 - v) / v0)^2, the smallest of each chain of effects that rounding may tell apart."""
    drop = np.abs(v0 - v)
    order = drop.argsort(kind="stable")
    spread = np.maximum(v * (1 - v), v0 * (1 - v0))[order]
    apart = np.diff(drop[order]) > 1e-5 * np.maximum(spread[1:], spread[:-1])
    chain = np.concatenate([[0], apart.cumsum()])
    first = order[np.concatenate([[True], apart])]
    tied = np.empty_like(drop)
    tied[order] = drop[first[chain]]
    return (tied / v0) ** 2


# the score as it is reported


def as_it_is(score: float) -> float:
    """Return the score."""
    return score


def negative(score: float) -> float:
    """Return -score."""
    return -score


def complement(score: float) -> float:
    """Return 1 - score."""
    return 1 - score


def percent(score: float) -> float:
    """Return 100 score."""
    return 100 * score
