"""The tabular task: one table and one MLP. A task file fills in its fields."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmark.core.errors import DataError
from benchmark.core.identity import rows_digest
from benchmark.core.provenance import DataProvenance, Provenance
from benchmark.core.seeding import seed_for
from benchmark.core.sources import Located, Source, Sources
from benchmark.core.types import Budget, Modality, Split, Task
from benchmark.data.split import stratified
from benchmark.data.tables import Table
from benchmark.modalities.building import BUILD_VERSION, judged, target_model

log = logging.getLogger("benchmark")

TEST_SHARE = 0.2


@dataclass(frozen=True)
class TableTask:
    """A table explained column by column: G columns, K = G steps, FC subsets of max(2, round(G / 3)) columns.

    `width`, `depth`, `dropout` describe the MLP; the rest its training (see
    `benchmark.models.training.TrainingRecipe`). `floor` is the least balanced accuracy on the test rows of a model
    worth explaining. The model is trained from `model_seed`.
    """

    data: Table
    width: int
    depth: int
    dropout: float
    epochs: int
    batch: int
    rate: float
    decay: float
    weighted: bool
    floor: float
    modality: Modality = "table"
    model_seed: int = 0

    @property
    def n_features(self) -> int:
        """Return G."""
        return len(self.data.features)

    @cached_property
    def budget(self) -> Budget:
        """Return how finely the task is probed."""
        return Budget(steps=self.n_features)

    def facts(self) -> dict[str, str]:
        """See `TaskSpec`."""
        widths = [str(self.width // 2**layer) for layer in range(self.depth)]
        return {
            "columns": ", ".join(self.data.features),
            "classes": ", ".join(self.data.classes.values()),
            "data": f"{self.data.origin} ({self.data.rows} rows, {self.data.licence}), else a synthetic stand-in",
            "model": f"MLP {'-'.join(widths)}, batch normalisation, dropout {self.dropout:g}",
            "training": f"{self.epochs} epochs of AdamW, rate {self.rate:g}, one cycle, batches of {self.batch}"
            + (", classes weighted" if self.weighted else ""),
        }

    def locate(self, sources: Sources) -> Located:
        """See `TaskSpec`."""
        return self.data.locate(sources)

    def recipe(self, source: Source) -> dict[str, Any]:
        """Return every setting the model depends on, as plain data; the stand-in's model has the same."""
        settings = {key: value for key, value in asdict(self).items() if key not in ("data", "floor")}
        return settings | {"features": self.data.features, "test_share": TEST_SHARE, "build": BUILD_VERSION}

    def rows(self, located: Located) -> tuple[Split, Split]:
        """Return training and test rows, float32, scaled by the means and deviations of the training rows alone.

        Raises:
            DataError: a column holds one value in all training rows, or values too large to be scaled.
        """
        import torch

        features, labels = self.data.load(located)
        rows, held_out = stratified(labels, TEST_SHARE, seed_for(0, self.data.name, "split"))
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = features[rows].mean(0), features[rows].std(0)
        if not np.isfinite(scale).all():
            column = self.data.features[int(np.isfinite(scale).argmin())]
            raise DataError(
                f"{located.origin}: column {column} holds values too large to be scaled; choose larger units"
            )
        if (scale == 0).any():
            column = self.data.features[int((scale == 0).argmax())]
            raise DataError(f"{located.origin}: column {column} holds one value in all training rows; drop it")

        def part(which: np.ndarray) -> Split:
            standard = (features[which] - mean) / scale
            return Split(torch.tensor(standard, dtype=torch.float32), torch.tensor(labels[which]))

        return part(rows), part(held_out)

    def build(self, located: Located, name: str, device: str) -> Task:
        """See `TaskSpec`.

        Raises:
            DataError: cached weights do not fit.
        """
        import torch

        from benchmark.modalities.removal import ColumnRemoval
        from benchmark.models.mlp import mlp
        from benchmark.models.training import TrainingRecipe, accuracies, train

        training, test = self.rows(located)
        classes = len(self.data.classes)

        def blank() -> torch.nn.Module:
            return mlp(self.n_features, classes, self.width, self.depth, self.dropout)

        def fit() -> tuple[torch.nn.Module, dict[str, Any]]:
            log.info(f"training the model of {name} on {len(training.y)} rows")
            recipe = TrainingRecipe(self.epochs, self.batch, self.rate, self.decay, self.weighted, seed=self.model_seed)
            return train(blank, training, classes, recipe), {}

        model, facts = target_model(name, self.recipe(located.source), located, blank, fit, rows_digest(training))
        facts |= accuracies(model, test, classes)
        return Task(
            name=name,
            modality=self.modality,
            source=located.source,
            model=model.to(device),
            train=Split(training.x.to(device), training.y.to(device)),
            test=Split(test.x.to(device), test.y.to(device)),
            removal=ColumnRemoval(torch.zeros(self.n_features, device=device)),
            budget=self.budget,
            feature_names=self.data.features,
            class_names=tuple(self.data.classes.values()),
            provenance=Provenance(
                DataProvenance(self.data.name, located.origin, located.digest, self.data.licence, len(training.y),
                               len(test.y)),
                judged(name, facts, self.recipe(located.source), self.floor),
            ),
        )  # fmt: skip
