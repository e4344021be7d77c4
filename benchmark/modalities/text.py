"""The text task: texts as word numbers and an LSTM or a Transformer. A task file fills in its fields."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmark.core.errors import DataError
from benchmark.core.identity import rows_digest, source_digest
from benchmark.core.provenance import DataProvenance, Provenance
from benchmark.core.seeding import seed_for
from benchmark.core.sources import Located, Source, Sources
from benchmark.core.types import Budget, Modality, Task
from benchmark.data.texts import STAND_IN_LENGTH, TextFiles
from benchmark.data.words import PAD
from benchmark.modalities.building import BUILD_VERSION, judged, target_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from benchmark.core.types import Split

log = logging.getLogger("benchmark")

LENGTH, VOCABULARY = 200, 20_000
EXPLAINED = 1000
"""Test texts that can be explained, drawn from the test part; accuracy is that on the whole part."""
WORD_DROPOUT = 0.5
"""In training up to this share of each text's words, uniformly drawn, is removed: removal stays in distribution."""
MODELS: dict[str, dict[Source, dict[str, Any]]] = {
    "lstm": {
        "real": {"embedding": 100, "width": 96, "dropout": 0.3, "batch": 64, "rate": 3e-3, "decay": 1e-2},
        "synthetic": {"embedding": 24, "width": 24, "dropout": 0.1, "batch": 64, "rate": 1e-2, "decay": 1e-2},
    },
    "transformer": {
        "real": {"width": 64, "depth": 1, "heads": 4, "dropout": 0.4, "batch": 64, "rate": 1e-3, "decay": 1e-2},
        "synthetic": {"width": 32, "depth": 2, "heads": 2, "dropout": 0.1, "batch": 64, "rate": 3e-3, "decay": 1e-2},
    },
}
STAND_IN_EPOCHS = 6
OF_TRAINING = ("rate", "decay", "batch", "epochs")


@dataclass(frozen=True)
class TextTask:
    """A text explained word by word: at most its last 200 words, K = 20 steps of each text's own, FC subsets of a 20th.

    `epochs` are those on real data; `floor` is the least balanced accuracy on the test part of a model worth
    explaining. The model is trained from `model_seed`.
    """

    data: TextFiles
    model: Literal["lstm", "transformer"]
    epochs: int
    floor: float
    modality: Modality = "text"
    n_features: int = LENGTH
    model_seed: int = 0
    budget: Budget = field(default_factory=partial(Budget, steps=20, subset_fraction=1 / 20, subset_minimum=1))

    def facts(self) -> dict[str, str]:
        """See `TaskSpec`."""
        sizes = self.settings("real")
        return {
            "classes": ", ".join(self.data.classes),
            "data": f"{self.data.origin} ({self.data.licence}), else a synthetic stand-in",
            "model": f"{self.model}, "
            + ", ".join(f"{key} {sizes[key]:g}" for key in sizes if key not in OF_TRAINING)
            + f"; {VOCABULARY} words known, the last {LENGTH} words of a text",
            "training": f"{self.epochs} epochs of AdamW, rate {sizes['rate']:g}, one cycle, "
            f"batches of {sizes['batch']}, "
            f"up to {WORD_DROPOUT:.0%} of the words removed",
        }

    def locate(self, sources: Sources) -> Located:
        """See `TaskSpec`."""
        return self.data.locate(sources)

    def settings(self, source: Source) -> dict[str, Any]:
        """Return the sizes and the training of the model: a reduced one for the stand-in."""
        return MODELS[self.model][source] | {"epochs": self.epochs if source == "real" else STAND_IN_EPOCHS}

    def recipe(self, source: Source) -> dict[str, Any]:
        """Return every setting the model depends on, as plain data."""
        length = LENGTH if source == "real" else STAND_IN_LENGTH
        return self.settings(source) | {
            "model": self.model, "length": length, "vocabulary": VOCABULARY, "word_dropout": WORD_DROPOUT,
            "explained": EXPLAINED, "build": BUILD_VERSION, "model_seed": self.model_seed,
        }  # fmt: skip

    def build(self, located: Located, name: str, device: str) -> Task:
        """See `TaskSpec`."""
        from benchmark.core.store import ENCODED
        from benchmark.core.types import Split
        from benchmark.data.words import MASK, Vocabulary
        from benchmark.modalities.removal import TokenRemoval
        from benchmark.models.text import text_model

        recipe = self.recipe(located.source)
        code = [source_digest(module) for module in ("benchmark.data.words", "benchmark.data.stand_ins")]
        settings = [recipe["length"], VOCABULARY, EXPLAINED, BUILD_VERSION]
        path = ENCODED.path(self.data.name, self.data.name, located.digest, settings, code)
        tensors, facts = ENCODED.get(path, partial(self._encode, located, recipe["length"]))
        vocabulary = Vocabulary(tuple(facts["words"]))
        train, test = (Split(tensors[f"{part}.x"].long(), tensors[f"{part}.y"]) for part in ("train", "test"))

        def blank() -> nn.Module:
            return text_model(self.model, recipe, len(vocabulary), len(self.data.classes))

        def fit() -> tuple[nn.Module, dict[str, Any]]:
            log.warning(f"training the model of {name} on {len(train.x)} texts")
            model = _fit(blank, train, len(self.data.classes), recipe, device)
            return model, _quality(model, test, len(self.data.classes)) | {"words": facts["words"]}

        model, quality = target_model(name, recipe, located, blank, fit, rows_digest(train))
        if quality.pop("words") != facts["words"]:
            raise DataError(f"the weights of {name} belong to another vocabulary than the texts in {path}; delete both")
        rows = tensors["explained"]
        return Task(
            name=name,
            modality=self.modality,
            source=located.source,
            model=model.to(device),
            train=Split(train.x.to(device), train.y.to(device)),
            test=Split(test.x[rows].to(device), test.y[rows].to(device)),
            removal=TokenRemoval(recipe["length"], MASK, PAD),
            budget=self.budget,
            feature_names=tuple(f"word {i + 1}" for i in range(recipe["length"])),
            class_names=self.data.classes,
            provenance=Provenance(
                DataProvenance(self.data.name, located.origin, located.digest, self.data.licence, len(train.x),
                               len(test.x)),
                judged(name, quality, recipe, self.floor),
            ),
            evidence=tensors["evidence"][rows].to(device) if "evidence" in tensors else None,
            words=lambda ids: vocabulary.decode(ids.tolist()),
        )  # fmt: skip

    def _encode(self, located: Located, length: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all texts as numbers, the vocabulary of the training part, and which test texts are explained."""
        import torch

        from benchmark.data.words import Vocabulary

        parts = self.data.load(located)
        vocabulary = Vocabulary.of(parts["train"].words, VOCABULARY)
        tensors: dict[str, Tensor] = {}
        for part, texts in parts.items():
            tensors[f"{part}.x"] = torch.tensor(vocabulary.encode(texts.words, length), dtype=torch.int32)
            tensors[f"{part}.y"] = torch.tensor(texts.labels)
        written = np.flatnonzero([len(words) > 0 for words in parts["test"].words])
        shuffled = np.random.default_rng(seed_for(0, self.data.name, "explained")).permutation(written)
        tensors["explained"] = torch.tensor(shuffled[:EXPLAINED])
        if parts["test"].evidence is not None:
            tensors["evidence"] = torch.tensor(parts["test"].evidence)
        return tensors, {"words": list(vocabulary.words)}


def _fit(blank: Callable[[], nn.Module], train: Split, classes: int, recipe: dict[str, Any], device: str) -> nn.Module:
    """Train a text model with word dropout."""
    import torch

    from benchmark.models import training
    from benchmark.models.text import drop_words

    settings = training.TrainingRecipe(
        recipe["epochs"], recipe["batch"], recipe["rate"], recipe["decay"], clip=True, seed=recipe["model_seed"]
    )

    def augment(x: Tensor) -> Tensor:
        return drop_words(x, WORD_DROPOUT * torch.rand(len(x), 1, device=x.device))

    with training.all_threads():
        lengths = (train.x != PAD).sum(1)
        return training.train(blank, train, classes, settings, augment=augment, lengths=lengths, device=device)


def _quality(model: nn.Module, test: Split, classes: int) -> dict[str, Any]:
    """Return accuracies on whole texts, and the accuracy with half and with all of the words removed."""
    import torch

    from benchmark.core.seeding import seeded
    from benchmark.core.types import Split
    from benchmark.models.text import drop_words
    from benchmark.models.training import accuracies, all_threads, predict

    short_first = (test.x != PAD).sum(1).argsort()
    x, y = test.x[short_first], test.y[short_first]
    with all_threads(), seeded(0):
        quality: dict[str, Any] = accuracies(model, Split(x, y), classes, 256)
        for share in (0.5, 1.0):
            right = predict(model, drop_words(x, torch.full((len(x), 1), share)), 256) == y
            quality[f"accuracy_{share:.0%}_removed"] = right.double().mean().item()
    return quality
