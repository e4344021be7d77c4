"""Linear surrogates of a game, for many inputs at once: draw subsets, ask about all of them, solve all regressions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from benchmark.core.seeding import content_seeds
from benchmark.core.types import Attribute, Task
from methods.game import CHUNK_FEATURES, Game, players, spread

Subsets = tuple[Tensor, Tensor]
"""Which players are present (m, players) bool, and the weight of each subset (m,) float64."""


class Surrogate(Protocol):
    """What a method adds to the game; `samples` are the subsets of an input, at most about."""

    @property
    def samples(self) -> int: ...  # noqa: D102

    def draw(self, count: int, seeds: Sequence[int]) -> list[Subsets]:
        """Return the subsets of `count` players that are asked about for each input, which its seed alone decides."""

    def fit(self, present: Tensor, weights: Tensor, answers: Tensor) -> Tensor:
        """Return the weights (b, players) of the players of b inputs.

        Args:
            present: (b, m, players) float64, 1 for present.
            weights: of the subsets (b, m).
            answers: of the game (b, m) float64.
        """


def together(game: Game, task: Task, seed: int, surrogate: Surrogate) -> Attribute:
    """Return an explainer that asks about the subsets of many inputs in common forwards.

    Each input draws under a seed of its content, so that its subsets are the same in any company.

    Args:
        game: is asked.
        task: what is explained.
        seed: of the method.
        surrogate: of the method.

    Example:
        >>> explain = together(Game(task, "logit"), task, seed=0, surrogate=Ridge(task.modality, samples=100))
        >>> explain(x, target)  # (B, G)
    """
    rows = max(1, CHUNK_FEATURES // task.n_features)
    inputs = max(1, rows // surrogate.samples)

    def explain(x: Tensor, target: Tensor) -> Tensor:
        seeds = content_seeds(seed, x)
        parts = [slice(start, start + inputs) for start in range(0, len(x), inputs)]
        return torch.cat([_explained(game, task, surrogate, rows, x[at], target[at], seeds[at]) for at in parts])

    return explain


def _explained(
    game: Game, task: Task, surrogate: Surrogate, rows: int, x: Tensor, target: Tensor, seeds: Sequence[int]
) -> Tensor:
    """Return the attributions (b, G) of inputs whose subsets are drawn, asked about and weighed together."""
    player = players(task, x)
    drawn = _drawn(surrogate, (player.amax(1) + 1).tolist(), seeds)
    answers = _answers(game, [present for present, _ in drawn], player, x, target, rows)
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, (present, _) in enumerate(drawn):
        alike[tuple(present.shape)].append(place)
    attributions = answers[0].new_zeros(player.shape)
    for members in alike.values():
        fitted = surrogate.fit(
            torch.stack([drawn[i][0] for i in members]).double(),
            torch.stack([drawn[i][1] for i in members]),
            torch.stack([answers[i] for i in members]).double().cpu(),
        )
        attributions[members] = spread(fitted.to(attributions.dtype), player[members], task)
    return attributions


def _drawn(surrogate: Surrogate, counts: list[int], seeds: Sequence[int]) -> list[Subsets]:
    """Return the subsets of inputs with so many players each, those of as many players drawn together."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, count in enumerate(counts):
        places[count].append(place)
    found: dict[int, Subsets] = {}
    for count, alike in places.items():
        found |= dict(zip(alike, surrogate.draw(count, [seeds[i] for i in alike]), strict=True))
    return [found[place] for place in range(len(counts))]


def _answers(game: Game, subsets: list[Tensor], player: Tensor, x: Tensor, target: Tensor, rows: int) -> list[Tensor]:
    """Return the outputs (m,) of all subsets of each input."""
    sizes = [len(present) for present in subsets]
    column = player.clamp(min=0).cpu()
    present = torch.cat([of_one[:, own] for of_one, own in zip(subsets, column, strict=True)]).to(x.device)
    place = torch.arange(len(x), device=x.device).repeat_interleave(torch.tensor(sizes, device=x.device))
    answers = [game(part, x[at], target[at]) for part, at in zip(present.split(rows), place.split(rows), strict=True)]
    return list(torch.cat(answers).split(sizes))
