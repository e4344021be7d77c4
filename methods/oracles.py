"""Oracles: exact solutions from all 2^G removals of a sample, on probabilities, where G is small."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import factorial

import torch
from torch import Tensor

from benchmark.core.types import METHODS, VALUE_TABLE_LIMIT, Attribute, Method, Task, TaskSpec
from benchmark.scoring.masked_model import MaskedModel
from benchmark.scoring.removal_sets import MaskSets, all_subsets


def shapley_weights(features: int) -> Tensor:
    """Return W (2^G, G), float64, with `values @ W` the Shapley values; row i of values has the bits of i removed."""
    removed = all_subsets(features)
    size = removed.sum(1)
    order = [factorial(s) * factorial(features - s - 1) / factorial(features) for s in range(features)]
    weight = torch.tensor([*order, 0.0], dtype=torch.float64)  # by the size of the coalition next to i
    present = weight[size].unsqueeze(1).expand(-1, features)  # i stays: the others removed are `size`
    absent = weight[(size - 1).clamp(min=0)].unsqueeze(1).expand(-1, features)
    return torch.where(removed, -absent, present)


def banzhaf_weights(features: int) -> Tensor:
    """Return W (2^G, G), float64, with `values @ W` the Banzhaf values: a feature's mean effect over all subsets."""
    removed = all_subsets(features)
    return torch.where(removed, -1.0, 1.0).double() / 2 ** (features - 1)


class Exact(Method):
    """An attribution that is linear in the 2^G values of a sample."""

    @abstractmethod
    def weights(self, features: int) -> Tensor:
        """Return W (2^G, G), float64: attributions are `values @ W`."""

    def unsupported(self, spec: TaskSpec) -> str | None:
        """See `Method`."""
        if spec.n_features > VALUE_TABLE_LIMIT:
            return f"needs at most {VALUE_TABLE_LIMIT} features, the task has {spec.n_features}"
        return None

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        masked_model, weights = MaskedModel(task), self.weights(task.n_features)

        def explain(x: Tensor, target: Tensor) -> Tensor:
            sets = MaskSets(all_subsets(task.n_features, x.device).unsqueeze(1), len(x))
            values = masked_model.query(x, target, sets).prob  # (B, 2^G)
            return values @ weights.to(x.device)

        return explain


@METHODS.register(
    "exact_shapley",
    kind="oracle",
    modalities=("table",),
    told={
        "prediction": "target's probability, features removed",
        "optimises": "falls over all subsets by least squares, near FC and INF",
        "sign": "signed",
        "rows an explanation": "2^n forward",
    },
)
@dataclass(frozen=True)
class ExactShapley(Exact):
    """Shapley values of the target's probability, exact from all 2^G removals (Shapley 1953).

    Example:
        >>> ExactShapley().prepare(task, seed=0)(x, target)  # (B, G), of a task of at most 12 columns
    """

    def weights(self, features: int) -> Tensor:
        """See `shapley_weights`."""
        return shapley_weights(features)


@METHODS.register(
    "exact_banzhaf",
    kind="oracle",
    modalities=("table",),
    told={
        "prediction": "target's probability, features removed",
        "optimises": "INF: its best solution",
        "sign": "signed",
        "rows an explanation": "2^n forward",
    },
)
@dataclass(frozen=True)
class ExactBanzhaf(Exact):
    """Banzhaf values of the target's probability, exact: the best possible INF (least squares over all subsets).

    This is the subset-optimal S* of DeepFaith's Proposition 1 under Bernoulli subsets.

    Example:
        >>> ExactBanzhaf().prepare(task, seed=0)(x, target)  # (B, G), of a task of at most 12 columns
    """

    def weights(self, features: int) -> Tensor:
        """See `banzhaf_weights`."""
        return banzhaf_weights(features)
