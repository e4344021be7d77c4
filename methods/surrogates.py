"""Linear surrogates of a game, for many inputs at once: draw subsets, ask about all of them, solve all regressions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from benchmark.core.seeding import content_seeds
from benchmark.core.types import Attribute, Task
from methods.game import CHUNK_FEATURES, Game, players, spread

Subsets = tuple[Tensor, Tensor]
"""Which players are present (m, players) bool, and the weight of each subset (m,) float64."""


class Surrogate(Protocol):
    """What a method adds to the game."""

    def draw(self, count: int, seed: int) -> Subsets:
        """Return the subsets of `count` players that are asked about for one input."""

    def fit(self, present: Tensor, weights: Tensor, answers: Tensor) -> Tensor:
        """Return the weights (b, players) of the players of b inputs.

        Args:
            present: (b, m, players) float64, 1 for present.
            weights: of the subsets (b, m).
            answers: of the game (b, m) float64.
        """


@dataclass(frozen=True, eq=False)
class _Asked:
    """One input: where it stands in its batch, the player of each feature (G,), and its subsets."""

    place: int
    player: Tensor
    present: Tensor
    weights: Tensor


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

    def explain(x: Tensor, target: Tensor) -> Tensor:
        found: list[Tensor | None] = [None] * len(x)
        for group in _grouped(_drawn(task, x, seed, surrogate), rows):
            answers = _answers(game, group, x, target, rows)
            alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for i, each in enumerate(group):
                alike[tuple(each.present.shape)].append(i)
            for members in alike.values():
                of_game = torch.stack([answers[i] for i in members])
                fitted = surrogate.fit(
                    torch.stack([group[i].present for i in members]).double(),
                    torch.stack([group[i].weights for i in members]),
                    of_game.double().cpu(),
                ).to(of_game.dtype)
                for i, weights in zip(members, fitted, strict=True):
                    found[group[i].place] = spread(weights, group[i].player, task)
        return torch.stack([each for each in found if each is not None])

    return explain


def _drawn(task: Task, x: Tensor, seed: int, surrogate: Surrogate) -> Iterator[_Asked]:
    for place, own in enumerate(content_seeds(seed, x)):
        player = players(task, x[place : place + 1])
        yield _Asked(place, player, *surrogate.draw(int(player.max()) + 1, own))


def _grouped(inputs: Iterator[_Asked], rows: int) -> Iterator[list[_Asked]]:
    """Yield inputs in groups of at most so many rows, or of one."""
    group: list[_Asked] = []
    filled = 0
    for each in inputs:
        if group and filled + len(each.present) > rows:
            yield group
            group, filled = [], 0
        group.append(each)
        filled += len(each.present)
    if group:
        yield group


def _answers(game: Game, group: list[_Asked], x: Tensor, target: Tensor, rows: int) -> list[Tensor]:
    """Return the outputs (m,) of all subsets of each input of a group."""
    present = torch.cat([each.present.to(x.device)[:, each.player.clamp(min=0)] for each in group])
    place = torch.cat([torch.full((len(each.present),), each.place, device=x.device) for each in group])
    answers = [game(part, x[at], target[at]) for part, at in zip(present.split(rows), place.split(rows), strict=True)]
    return list(torch.cat(answers).split([len(each.present) for each in group]))
