"""The game "which players are present", alike for all modalities, which perturbation methods ask about.

Players are columns, the real words of a text (padding never plays) or cells of a grid over an image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.core.errors import DataError
from benchmark.core.seeding import content_seeds
from benchmark.core.types import Attribute, Removal, Task, TaskSpec
from benchmark.modalities.grouping import single
from benchmark.models.batching import Batching
from benchmark.models.outputs import output_of

CHUNK_FEATURES = 2**22
"""Features of perturbed inputs that exist at a time, whatever their number."""
GRID = 14
"""An image's players are the cells of a 14 x 14 grid, or its pixels where it has fewer a side."""
REMOVALS = ("task", "zero", "deletion")
"""How a method removes: as the task and its metrics do; by numbers of 0, of words the embedding; or words altogether,
so that those behind them move up."""

Value = Callable[[Tensor], Tensor]
"""The outputs (n,) of one input with some of its players present, (n, players), 1 for present and 0 for removed."""


class Game:
    """What the target's output is with some features present: the value of a coalition.

    Args:
        task: model, and how its features are removed.
        output: what is asked, see `benchmark.models.outputs`.
        removal: one of `REMOVALS`.

    Raises:
        DataError: `zero`, and the model shows no embedding of words.
    """

    def __init__(self, task: Task, output: str, removal: str = "task") -> None:
        self.task, self.output, self.removal = task, output, removal
        self.batching = Batching(task)
        if removal == "zero" and task.modality == "text" and not hasattr(task.model, "embed"):
            raise DataError(
                f"removal=zero puts 0 in the place of embeddings, and the model of {task.name} shows none: use "
                "removal=task or removal=deletion"
            )
        self._ends = removal == "deletion" and _end_at_the_last_place(task)

    @torch.no_grad()
    def __call__(self, present: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """Return the target's output with some features present, in forwards of bounded size.

        Args:
            present: (n, ...), 1 for present and 0 for removed: all features, or of texts of equal length their words.
            x: inputs (n, ...), one for each row of `present`.
            target: classes (n,).

        Returns:
            The output (n,).

        Raises:
            DataError: the model's answer is not finite.
        """
        removed = present.flatten(1) < 0.5  # (n, G), or fewer columns

        def ask(rows: slice) -> Tensor:
            valid = self.task.removal.valid(x[rows])
            of_all = removed.shape[1] == valid.shape[1]
            absent = removed[rows] & valid if of_all else valid.masked_scatter(valid, removed[rows])
            logits = self._logits(x[rows], absent)
            if not bool(logits.isfinite().all()):
                raise DataError(f"the model of {self.task.name} gives NaN or inf where features are removed")
            return output_of(logits, target[rows], self.output)

        return self.batching.ask(x, ask)

    def _logits(self, x: Tensor, absent: Tensor) -> Tensor:
        """Return what the model says of inputs x (n, ...) without the features that are `absent` (n, G)."""
        if self.removal == "task":
            return self.task.model(self.task.remove(x, absent))
        removed = self.task.removal.expand(absent)
        if self.task.modality != "text":
            return self.task.model(x.masked_fill(removed, 0.0))
        words = single(self.task.removal)
        if self.removal == "deletion":
            return self.task.model(_shortened(words, x, words.valid(x) & ~removed, self._ends))
        vectors = self.task.model.embed(x)  # type: ignore[operator]
        return self.task.model(vectors.masked_fill(removed.unsqueeze(-1), 0.0), words.valid(x))


def _end_at_the_last_place(task: Task) -> bool:
    """Tell whether padding stands before the words of a task's texts, as for models that read on from a text."""
    valid = single(task.removal).valid(task.train.x)
    return bool((~valid[:, 0] & valid[:, -1]).any())


def _shortened(words: Removal, x: Tensor, kept: Tensor, ends: bool) -> Tensor:
    """Return texts (n, length) of the words that are `kept`, moved together; of none one removed word is left.

    Args:
        words: how single words are removed.
        x: texts (n, length).
        kept: (n, length) bool.
        ends: whether texts end at the last place, behind their padding, and do not begin at the first.
    """
    order = (kept if ends else ~kept).to(torch.uint8).argsort(dim=1, stable=True)
    there = kept.gather(1, order)
    moved = x.gather(1, order).where(there, words.pad_id)  # type: ignore[attr-defined]
    place = -1 if ends else 0
    moved[:, place] = moved[:, place].where(there[:, place], words.baseline(x)[:, place])
    return moved


def no_deletion(removal: str, spec: Task | TaskSpec) -> str | None:
    """Return why a task's features cannot be removed in that way, or None."""
    if removal == "deletion" and spec.modality != "text":
        return "removes by deletion, and only words can be deleted"
    return None


def players(task: Task, x: Tensor) -> Tensor:
    """Return each feature's player (n, G) for inputs (n, ...), or -1 for padding."""
    if task.modality == "image":
        height, width = x.shape[-2:]
        down, across = min(GRID, height), min(GRID, width)
        row, column = torch.arange(height) * down // height, torch.arange(width) * across // width
        return (row.unsqueeze(1) * across + column).flatten().to(x.device).expand(len(x), -1)
    valid = task.removal.valid(x)
    return torch.where(valid, valid.cumsum(1) - 1, -1)


def one_by_one(game: Game, task: Task, seed: int, weigh: Callable[[Value, int, int], Tensor]) -> Attribute:
    """Return an explainer that weighs the players of each input on its own, under a seed of its content.

    A player's weight is shared out evenly among its features. Where all subsets of an input are known before any is
    asked, `methods.surrogates.together` is faster.

    Args:
        game: is asked.
        task: what is explained.
        seed: of the method.
        weigh: makes weights (players,) of a value function, the number of players and a seed.
    """

    def explain_sample(x: Tensor, target: Tensor, sample_seed: int) -> Tensor:
        """Return the attribution (G,) of one sample: x (1, ...), target (1,)."""
        player = players(task, x)[0]  # (G,)

        def value(present: Tensor) -> Tensor:
            rows = max(1, CHUNK_FEATURES // task.n_features)
            answers = []
            for part in present.split(rows):
                repeated = x.repeat(len(part), *[1] * (x.dim() - 1))
                answers.append(game(part[:, player.clamp(min=0)], repeated, target.repeat(len(part))))
            return torch.cat(answers)

        return spread(weigh(value, int(player.max()) + 1, sample_seed)[None], player[None], task)[0]

    def explain(x: Tensor, target: Tensor) -> Tensor:
        seeds = content_seeds(seed, x)
        return torch.stack([explain_sample(x[i : i + 1], target[i : i + 1], own) for i, own in enumerate(seeds)])

    return explain


def spread(weights: Tensor, player: Tensor, task: Task) -> Tensor:
    """Return attributions (n, G): weights (n, players), shared out among the features of each player.

    Args:
        weights: on any device.
        player: of each feature (n, G), or -1 for padding.
        task: an image's players have several features, the same in all images; others one.
    """
    column = player.clamp(min=0)
    size = torch.bincount(column[0]).clamp(min=1) if task.modality == "image" else 1
    return (weights.to(player.device) / size).gather(1, column).masked_fill(player < 0, 0.0)
