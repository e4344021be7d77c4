"""KernelSHAP, as the package shap does it and as Captum does, on the game of `methods.game`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from benchmark.core.parameters import Space, bounded, parameters, with_defaults
from benchmark.core.types import METHODS, Attribute, Method, Task, TaskSpec, Told
from benchmark.models.outputs import OUTPUTS
from methods.game import REMOVALS, Game, Value, no_deletion, one_by_one
from methods.lime import SAMPLES, captum_weights, ranks_below
from methods.surrogates import Subsets, together


@METHODS.register("kernel_shap", kind="baseline", modalities=("table", "text", "image"))
@dataclass(frozen=True)
class KernelShap(Method):
    """Shapley values by regression on subsets under the Shapley kernel (Lundberg and Lee 2017, section 4.1).

    With `estimator=shap` subsets are those of the package shap: all of a size, with their complements, from the outside
    in, as far as the samples suffice, and pairs of complements drawn for the rest; so that where all 2^n - 2 fit the
    values are exact. It is without that package's selection of features. With `estimator=captum` subsets are drawn
    with replacement. Either way values sum to what all players change together. An image's players are the cells of a
    14 x 14 grid.

    Args:
        n_samples: subsets a sample, by default 100 for a table, 400 for a text, 1000 for an image; each is one row
            forward. The package's own default is 2 n + 2048.
        estimator: `shap` or `captum`.
        output: what is explained, see `benchmark.models.outputs`.
        removal: how, see `methods.game`.

    Example:
        >>> KernelShap(n_samples=50).prepare(task, seed=0)(x, target)  # (B, G)
    """

    told: ClassVar[Told] = Told(
        layers="with removal=zero in texts, word vectors", optimises="fits removal sets, under the Shapley kernel"
    )
    space: ClassVar[Space] = Space(
        {"output": OUTPUTS},
        {"text": {"removal": REMOVALS}},
        {
            60: {"n_samples": (58,), "estimator": ("shap", "captum")},
            500: {"n_samples": (498,)},
            None: {"n_samples": (5000,)},
        },
    )
    n_samples: int | None = bounded(None, low=1)
    estimator: str = bounded("shap", among=("shap", "captum"))
    output: str = bounded("logit", among=OUTPUTS)
    removal: str = bounded("task", among=REMOVALS)

    def unsupported(self, spec: TaskSpec) -> str | None:
        """See `Method`."""
        return no_deletion(self.removal, spec)

    def resolved(self, task: Task | TaskSpec) -> Self:
        """See `Method`."""
        return with_defaults(self, {"n_samples": SAMPLES[task.modality]})

    def prepare(self, task: Task, seed: int) -> Attribute:
        """See `Method`."""
        game, samples = Game(task, self.output, self.removal), parameters(self.resolved(task))["n_samples"]
        if self.estimator == "shap":
            return together(game, task, seed, Efficient(samples))
        from captum.attr import KernelShap as CaptumKernelShap

        captum = captum_weights(CaptumKernelShap(game), samples, task.n_features)

        def weigh(value: Value, count: int, sample_seed: int) -> Tensor:
            if count > 1:
                return captum(value, count, sample_seed)
            whole, none = value(torch.tensor([[1.0], [0.0]], device=task.train.x.device))
            return (whole - none).unsqueeze(0)  # no subset is left to draw

        return one_by_one(game, task, seed, weigh)


@dataclass(frozen=True)
class Efficient:
    """The surrogate of the package shap, see `methods.surrogates.Surrogate`; all players and none are asked first."""

    samples: int

    def draw(self, count: int, seeds: Sequence[int]) -> list[Subsets]:
        """See `Surrogate`."""
        ends, none = torch.tensor([[True], [False]]).expand(2, count), torch.zeros(2, dtype=torch.float64)
        if count == 1:
            return [(ends, none)] * len(seeds)
        drawn = shapley_subsets(count, self.samples, seeds)
        return [(torch.cat([ends, present]), torch.cat([none, weights])) for present, weights in drawn]

    def fit(self, present: Tensor, weights: Tensor, answers: Tensor) -> Tensor:
        """See `Surrogate`."""
        return efficient(present[:, 2:], answers[:, 2:], weights[:, 2:], answers[:, 0], answers[:, 1])


def shapley_subsets(count: int, samples: int, seeds: Sequence[int]) -> list[Subsets]:
    """Return proper subsets of `count` players, (m, players) bool, and their weights (m,), at most `samples`, by seed.

    Sizes are taken whole, each with that of its complements, from the outside in, as long as all sets of a size are
    fewer than its share of what is left; the rest are drawn by size, members uniform, each with its complement, and
    count as often as they were drawn. Source: the package shap, `KernelExplainer`.

    Args:
        count: players, two at least.
        samples: rows that may be asked.
        seeds: of the draws.
    """
    present, weights, mass, left = _whole_sizes(count, samples)
    if not mass or left <= 0:
        return [(present, weights)] * len(seeds)
    rest = sum(mass.values())
    return [
        (torch.cat([present, drawn]), torch.cat([weights, times * (rest / times.sum())]))
        for drawn, times in _drawn(count, mass, left, seeds)
    ]


@lru_cache(maxsize=256)
def _whole_sizes(count: int, samples: int) -> tuple[Tensor, Tensor, dict[int, float], int]:
    """Return the subsets that are taken whole and their weights, the masses of the other sizes, and what rows are left.

    The same for each input of so many players: a text has as many as words.
    """
    sizes = list(range(1, count // 2 + 1))
    mass = {size: (count - 1) / (size * (count - size)) * (1 if 2 * size == count else 2) for size in sizes}
    left = min(samples, 2**count - 2)
    whole, weights = [torch.zeros(0, count, dtype=torch.bool)], [torch.zeros(0, dtype=torch.float64)]
    while sizes:
        size = sizes[0]
        sets = comb(count, size) * (1 if 2 * size == count else 2)
        if sets > left * mass[size] / sum(mass[each] for each in sizes) + 1e-8:
            break
        members = torch.tensor(list(combinations(range(count), size)))
        present = torch.zeros(len(members), count, dtype=torch.bool).scatter(1, members, True)
        whole.append(present if 2 * size == count else torch.cat([present, ~present]))
        weights.append(torch.full((sets,), mass[size] / sets, dtype=torch.float64))
        left, sizes = left - sets, sizes[1:]
    return torch.cat(whole), torch.cat(weights), {size: mass[size] for size in sizes}, left


def _drawn(count: int, mass: dict[int, float], left: int, seeds: Sequence[int]) -> list[Subsets]:
    """Return up to `left` different subsets with their complements, (m, players), and how often each was drawn."""
    pairs = max(1, left // 2)
    first = _first_of_pairs(count, mass, 4 * pairs, seeds)
    drawn = []
    for own, name in zip(first, _names(first), strict=True):
        _, begins, which = np.unique(name, return_index=True, return_inverse=True)
        end = np.partition(begins, pairs)[pairs] if len(begins) > pairs else len(which)  # of as many as fit
        times = np.bincount(which[:end], minlength=len(begins))
        there = times > 0
        kept, counts = own[torch.from_numpy(begins[there])], torch.from_numpy(times[there]).double()
        if left > 1:  # there is room for the complements
            kept, counts = torch.cat([kept, ~kept]), torch.cat([counts, counts])
        drawn.append((kept, counts))
    return drawn


def _first_of_pairs(count: int, mass: dict[int, float], draws: int, seeds: Sequence[int]) -> Tensor:
    """Return subsets (n, draws, players) bool, of each and its complement the one that holds the first player."""
    sizes, chances = torch.tensor(list(mass)), torch.tensor(list(mass.values()), dtype=torch.float64)
    keys = torch.empty(len(seeds), draws, count)
    drawn = torch.empty(len(seeds), draws, 1, dtype=torch.int64)
    generator = torch.Generator()
    for own, size, seed in zip(keys, drawn, seeds, strict=True):
        generator.manual_seed(seed)
        size[:, 0] = torch.multinomial(chances, draws, replacement=True, generator=generator)
        own.uniform_(generator=generator)
    present = ranks_below(keys, sizes[drawn])
    return present.logical_xor_(~present[..., :1])


def _names(subsets: Tensor) -> np.ndarray:
    """Return one word for each subset (n, draws): equal words are equal subsets."""
    packed = np.packbits(subsets.numpy(), axis=-1)
    if packed.shape[-1] > 8:
        return packed.view(f"V{packed.shape[-1]}")[..., 0]
    whole = np.zeros((*packed.shape[:-1], 8), np.uint8)
    whole[..., : packed.shape[-1]] = packed
    return whole.view(">u8")[..., 0].astype(np.uint64)  # sorted as bytes are, and faster


def efficient(z: Tensor, values: Tensor, weights: Tensor, whole: Tensor, none: Tensor) -> Tensor:
    """Return the weights (b, players) of regressions of values (b, m) on z (b, m, players) that sum to whole - none.

    Solved where weights sum to 0, after an even share of the sum is taken off. Where subsets are too few, the solution
    of least length is taken.

    Args:
        z: players that are present, 1 or 0.
        values: of the subsets.
        weights: of the subsets (b, m).
        whole: value (b,) of all players.
        none: value (b,) of none.
    """
    share = ((whole - none) / z.shape[2]).unsqueeze(1)  # (b, 1)
    if not z.shape[1]:  # of one player, whose weight is the whole sum
        return share
    rest = values - none.unsqueeze(1) - z.sum(2) * share
    root = weights.sqrt().unsqueeze(2)
    centred = root * (z - z.mean(2, keepdim=True))
    solution = torch.linalg.lstsq(centred, root * rest.unsqueeze(2), driver="gelsd").solution.squeeze(2)
    return solution - solution.mean(1, keepdim=True) + share
