"""Predictions that no method changes, made once for a task, seed and samples, and cached on disk for all workers."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.core.files import locked
from benchmark.core.store import SHARED, Unusable, intact, recall, sealed, store, unseal
from benchmark.scoring.masked_model import Predictions

OTHER = "others/"
"""How names of what metrics beyond the ten share begin in a file."""


def target_and_predicted(classes: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the two of the classes (n, 2) that `MaskedModel` watches; of (n,), the target is what is predicted."""
    return (classes, None) if classes.dim() == 1 else (classes[:, 0], classes[:, 1])


@dataclass(frozen=True, eq=False)
class SharedPredictions:
    """Predictions that no method changes, for N samples. What the chosen metrics do not need is None.

    Attributes:
        samples: row numbers (N,) of the test split.
        target: the class explained (N,).
        predicted: the class predicted (N,) of the whole input; None where it is the target.
        clean: the target's probability (N,) float64, v_0.
        empty: predictions (N, 1) where everything is removed.
        fixed: those (N, R) for the random subsets of FC.
        bernoulli: those (N, R) for the random subsets of INF.
        singles: those (N, G) for each feature alone, where every step of a curve removes one feature.
        table: those (N, 2^G) for all removal sets, in the order of `all_subsets`: the value table.
        others: what metrics beyond the ten share, (N, ...) by name (see `benchmark.scoring.access.responses`).
    """

    samples: Tensor
    target: Tensor
    clean: Tensor
    predicted: Tensor | None = None
    empty: Predictions | None = None
    fixed: Predictions | None = None
    bernoulli: Predictions | None = None
    singles: Predictions | None = None
    table: Predictions | None = None
    others: dict[str, Tensor] = field(default_factory=dict)

    @property
    def nothing_removed(self) -> Predictions:
        """Return the predictions (N, 1) for whole inputs."""
        return Predictions(self.clean.unsqueeze(1), torch.ones_like(self.clean, dtype=torch.bool).unsqueeze(1))

    @property
    def classes(self) -> Tensor:
        """Return what `MaskedModel.query` watches: the target (N,), or (N, 2), target and class predicted."""
        return self.target if self.predicted is None else torch.stack([self.target, self.predicted], 1)

    @property
    def everything_removed(self) -> Predictions:
        """Return the predictions (N, 1) for inputs without any feature."""
        assert self.empty is not None, "curves need it, and it is asked wherever there are any"
        return self.empty

    def tensors(self) -> dict[str, Tensor]:
        """Return all predictions by name, for storing."""
        tensors_by_name: dict[str, Tensor] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Predictions):
                tensors_by_name |= {f"{part.name}.prob": value.prob, f"{part.name}.same_class": value.same_class}
            elif isinstance(value, dict):
                tensors_by_name |= {f"{OTHER}{name}": answers for name, answers in value.items()}
            elif value is not None:
                tensors_by_name[part.name] = value
        return tensors_by_name

    @classmethod
    def from_tensors(cls, tensors_by_name: dict[str, Tensor]) -> SharedPredictions:
        """Return what `tensors` gave."""
        others = {key.removeprefix(OTHER): part for key, part in tensors_by_name.items() if key.startswith(OTHER)}
        ours = {key: value for key, value in tensors_by_name.items() if not key.startswith(OTHER)}
        parts: dict[str, Any] = {key: value for key, value in ours.items() if "." not in key}
        for key in {key.split(".")[0] for key in ours if "." in key}:
            parts[key] = Predictions(ours[f"{key}.prob"], ours[f"{key}.same_class"])
        return cls(**parts, others=others)

    @classmethod
    def concatenated(cls, parts: list[SharedPredictions]) -> SharedPredictions:
        """Return the predictions of all batches, one after the other."""
        named = [part.tensors() for part in parts]
        return cls.from_tensors({key: torch.cat([part[key] for part in named]) for key in named[0]})

    def finite(self) -> Tensor:
        """Return (N,) bool: samples all of whose predictions are finite."""
        finite = self.clean.isfinite()
        for part in fields(self):
            if isinstance(value := getattr(self, part.name), Predictions):
                finite = finite & value.prob.isfinite().all(1)
        return finite

    def __getitem__(self, rows: slice) -> SharedPredictions:
        """Return the predictions of some samples."""
        whole: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "others"}
        some: dict[str, Any] = {name: value if value is None else value[rows] for name, value in whole.items()}
        return SharedPredictions(**some, others={name: part[rows] for name, part in self.others.items()})

    def save(self, path: Path, costs: dict[str, dict[str, float]]) -> None:
        """Write the predictions and what they cost to `path`, atomically; where that cannot be done, say so and go on.

        What another run has written meanwhile is the same, and stays: somebody may be reading it.

        Args:
            path: of the file.
            costs: forwards, backwards and seconds by phase.
        """
        # copies: some are views of one tensor, which the file format refuses, and of one sample keep its strides
        tensors = {
            key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in self.tensors().items()
        }
        with locked(path):
            if intact(path, lambda path: unseal(path, path.name), SHARED.noun) is None:
                store(path, sealed(tensors, {"costs": costs}, path.name))

    @classmethod
    def load(cls, path: Path, device: str) -> tuple[SharedPredictions | None, dict[str, dict[str, float]]]:
        """Return what `save` wrote; None and no costs where there is nothing of use. What is damaged is set aside."""

        def look(path: Path) -> tuple[SharedPredictions, dict[str, dict[str, float]]]:
            tensors_by_name, facts = unseal(path, path.name)
            try:
                predictions = cls.from_tensors({key: value.to(device) for key, value in tensors_by_name.items()})
                return predictions, facts["costs"]
            except (KeyError, TypeError) as error:
                raise Unusable("holds no shared answers") from error

        return recall(path, look, SHARED.noun) or (None, {})
