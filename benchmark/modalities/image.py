"""The image task: images of one size and a vision model, pretrained or trained. A task file fills in its fields."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import Absent
from benchmark.core.identity import source_digest
from benchmark.core.provenance import DataProvenance, Provenance
from benchmark.core.sources import Located, Source, Sources
from benchmark.core.types import Budget, Modality, Split, Task
from benchmark.data.images import PARTS, ImageSet
from benchmark.modalities.building import BUILD_VERSION, judged, target_model
from benchmark.models.pretrained import Pretrained

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.models.image import Family

log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Training:
    """How a vision model is trained: epochs, batch, largest rate, weight decay, label smoothing, random flips.

    The model sees random parts of `crop` pixels a side, or nearly whole images if that is None: it looks closer, and at
    more different pictures, for less.
    """

    epochs: int
    batch: int
    rate: float
    decay: float = 0.05
    smoothing: float = 0.1
    crop: int | None = None
    flip: bool = True


@dataclass(frozen=True)
class ImageTask:
    """An image explained pixel site by pixel site, channels together: K = 48 steps, FC subsets of a 48th of the sites.

    With `weights`, a `training` fine-tunes them, and without one they are used as they are; without weights the model
    is trained from nothing. `required` refuses real data where the weights are missing. `mean` and `std` scale pixels
    of 0 to 1; `floor` is the least balanced accuracy on the test part of a model worth explaining.
    """

    data: ImageSet
    family: Family
    floor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: Pretrained | None = None
    training: Training | None = None
    stand_in: Training = Training(6, 50, 4e-3, 1e-2, 0.0, flip=False)
    modality: Modality = "image"
    budget: Budget = field(default_factory=partial(Budget, steps=48, subset_fraction=1 / 48, subset_minimum=1))

    @property
    def n_features(self) -> int:
        """Return G: pixel sites of a real image."""
        return self.data.side**2

    def facts(self) -> dict[str, str]:
        """See `TaskSpec`."""
        facts = {
            "data": f"{self.data.origin} ({self.data.licence}), else a synthetic stand-in of "
            f"{self.data.stand_in_side} x {self.data.stand_in_side} pixels",
            "model": self.family + (f", weights {self.weights.name}" if self.weights else ""),
        }
        if self.training is None:
            return facts | {"training": "none: the weights as they are"}
        how = "fine-tuned where the weights are found, else " if self.weights else ""
        return facts | {
            "training": f"{how}{self.training.epochs} epochs of AdamW, rate {self.training.rate:g}, one cycle, "
            f"batches of {self.training.batch}"
        }

    def locate(self, sources: Sources) -> Located:
        """See `TaskSpec`.

        Raises:
            DataError: real data or weights were asked for and are missing.
        """
        images = self.data.locate(sources)
        if images.source == "synthetic" or self.weights is None:
            return images
        weights = self.weights

        def real() -> Located:
            path = weights.locate(sources)
            digest = hashlib.sha256(f"{images.digest} {weights.digest_of(path)}".encode()).hexdigest()
            return replace(images, digest=digest, weights=str(path))

        if self.training is not None:
            try:
                return real()
            except Absent as why:
                return replace(images, notes=(*images.notes, f"no pretrained weights ({why}); trained from nothing"))
        hint = f"Put the weights of timm's {weights.name} into a data folder as weights/{weights.file}"
        stand_in = partial(self.data.locate, replace(sources, kind="synthetic"))
        return sources.locate(f"{self.data.name} with {weights.name}", real, stand_in, hint)

    def recipe(self, source: Source) -> dict[str, Any]:
        """Return every setting the model depends on, as plain data."""
        training = self.training if source == "real" else self.stand_in
        return {
            "family": self.family, "mean": self.mean, "std": self.std, "build": BUILD_VERSION,
            "rows": [self.data.train_rows, self.data.test_rows], "training": training and asdict(training),
            "weights": self.weights and self.weights.name,
        }  # fmt: skip

    def build(self, located: Located, name: str, device: str) -> Task:
        """See `TaskSpec`."""
        import torch

        from benchmark.core.store import DECODED
        from benchmark.modalities.removal import PixelRemoval
        from benchmark.models.image import image_model, spatial_layer

        code = [source_digest(module) for module in ("benchmark.data.image_files", "benchmark.data.stand_ins")]
        path = DECODED.path(self.data.name, self.data.name, self.data.stamp(located), BUILD_VERSION, code)
        tensors, facts = DECODED.get(path, partial(_pixels, self.data, located))
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))

        def part(which: str) -> Split:
            pixels = tensors[f"{which}.x"].float() / 255
            return Split(((pixels - mean) / std).to(device), tensors[f"{which}.y"].to(device))

        train, test = part("train"), part("test")
        side, channels = test.x.shape[-1], len(self.mean)
        classes = self.data.classes(located)
        reduced = located.source == "synthetic"

        def blank() -> nn.Module:
            return image_model(self.family, len(classes), channels, side, reduced)

        recipe = self.recipe(located.source)
        training = self.stand_in if reduced else self.training
        fit = partial(_fit, name, blank, train, test, len(classes), training, located.weights, device)
        model, quality = target_model(name, recipe, located, blank, fit, facts["rows"])
        return Task(
            name=name,
            modality=self.modality,
            source=located.source,
            model=model.to(device),
            train=train,
            test=test,
            removal=PixelRemoval(train.x.mean((0, 2, 3)), side, side, sigma=side / 20),
            budget=self.budget,
            feature_names=tuple(f"row {i // side + 1}, column {i % side + 1}" for i in range(side * side)),
            class_names=classes,
            provenance=Provenance(
                DataProvenance(self.data.name, located.origin, located.digest, self.data.licence, len(train.x),
                               len(test.x)),
                judged(name, quality | {"pretrained": located.weights is not None}, recipe, self.floor),
            ),
            evidence=tensors["evidence"].to(device) if "evidence" in tensors else None,
            spatial=spatial_layer(self.family, model),
        )  # fmt: skip


def _pixels(data: ImageSet, located: Located) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return pixels and labels of both parts, planted evidence of the test part if any, and a digest of all that."""
    import torch

    from benchmark.core.store import digest_of

    parts = data.load(located)
    tensors = {f"{part}.x": torch.from_numpy(parts[part].pixels) for part in PARTS}
    tensors |= {f"{part}.y": torch.from_numpy(parts[part].labels) for part in PARTS}
    if parts["test"].evidence is not None:
        tensors["evidence"] = torch.tensor(parts["test"].evidence)
    return tensors, {"rows": digest_of(tensors)}


def _fit(
    name: str, blank: Callable[[], nn.Module], train: Split, test: Split, classes: int, training: Training | None,
    weights: str | None, device: str,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """Train, fine-tune or just load the model, and say how good it is."""
    from pathlib import Path

    from benchmark.models import training as models
    from benchmark.models.image import augmented
    from benchmark.models.pretrained import load_state
    from benchmark.models.weights import load_strictly

    def begin() -> nn.Module:
        import torch

        model = blank().to(memory_format=torch.channels_last)  # which processors convolve faster
        if weights is not None:
            state, own = load_state(Path(weights)), model.state_dict()
            if training is not None:  # fine-tuned on other classes: the last layer, and it alone, begins anew
                last = list(own)[-1].rpartition(".")[0]
                head = {key for key in state if key.rpartition(".")[0] == last and key in own}
                state |= {key: own[key] for key in head if state[key].shape != own[key].shape}
            load_strictly(model, state, f"weights file {weights}", "it must hold timm's names and shapes")
        return model

    with models.all_threads():
        if training is None:
            model = models.freeze(begin().to(device))
        else:
            log.warning(f"training the model of {name} on {len(train.x)} images")

            def augment(x: Tensor) -> Tensor:
                return augmented(x, training.crop or x.shape[-1], training.flip)

            settings = models.TrainingRecipe(
                training.epochs,
                training.batch,
                training.rate,
                training.decay,
                smoothing=training.smoothing,
                clip=True,
                mixed=True,
            )
            model = models.train(begin, train, classes, settings, augment=augment)
            if training.crop is not None:
                model = models.settle(model, train.x)
        return model, models.accuracies(model, test, classes, 32)
