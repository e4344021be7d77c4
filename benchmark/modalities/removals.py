"""Ways to remove features, by name, for tasks that a person makes: `REMOVALS`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from benchmark.core.errors import UsageError, in_a_line
from benchmark.core.parameters import bounded
from benchmark.core.registry import Registry, a_text, some_of
from benchmark.core.seeding import content_seeds
from benchmark.core.types import Baseline, Modality, Removal
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval, TokenRemoval, blur

BLURRED = 1 / 20
"""The deviation of a blur, as a share of an image's side."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a removal is made from.

    Attributes:
        modality: of the task.
        background: rows (M, ...) that say what is usual: training rows.
        mask_id: the token that stands for a removed one; None where nobody said it.
        pad_id: the token of padding; -1, which no token is, where there is none.
    """

    modality: Modality
    background: Tensor
    mask_id: int | None = None
    pad_id: int = -1
    __repr__ = in_a_line

    def replaced_by(self, values: Tensor, sigma: float | None = None) -> Removal:
        """Return the removal of columns by `values` (G,), or of pixels by `values` (channels,).

        Args:
            values: what takes a removed feature's place.
            sigma: images are inserted into themselves under a blur of so many pixels; None for into `values`.
        """
        if self.modality == "image":
            height, width = self.background.shape[-2:]
            return PixelRemoval(values, height, width, sigma)
        return ColumnRemoval(values)

    def like(self, value: float) -> Tensor:
        """Return one number for each column or channel."""
        return self.background.new_full((self.background.shape[1],), value)


class RemovalSpec(ABC):
    """A way to remove features: a frozen dataclass whose fields are its settings.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Median(RemovalSpec):
        ...     "Columns take their median over the background."
        ...     def make(self, inputs):
        ...         return inputs.replaced_by(inputs.background.median(0).values)
        >>> Median().make(Inputs("table", torch.tensor([[1.0], [5.0], [6.0]]))).means.tolist()
        [5.0]
    """

    @abstractmethod
    def make(self, inputs: Inputs) -> Removal:
        """Return how features are removed from inputs like these."""


REMOVALS: Registry[type[RemovalSpec]] = Registry(
    "removal", "REMOVALS", RemovalSpec, {"modalities": some_of(*get_args(Modality)), "group": a_text}
)


@REMOVALS.register("mean", modalities=("table", "image"))
@dataclass(frozen=True)
class Mean(RemovalSpec):
    """Means over the background, of each column or channel; images are inserted into themselves, blurred.

    Args:
        sigma: deviation of that blur in pixels, by default a 20th of an image's side.
    """

    sigma: float | None = bounded(None, above=0)

    def make(self, inputs: Inputs) -> Removal:
        """See `RemovalSpec`."""
        means = inputs.background.mean(0 if inputs.modality == "table" else (0, 2, 3))
        return inputs.replaced_by(means, self.sigma or inputs.background.shape[-1] * BLURRED)


@REMOVALS.register("zero", modalities=("table", "image"))
@dataclass(frozen=True)
class Zero(RemovalSpec):
    """Zero, for removal and for insertion."""

    def make(self, inputs: Inputs) -> Removal:
        """See `RemovalSpec`."""
        return inputs.replaced_by(inputs.like(0.0))


@REMOVALS.register("value", modalities=("table", "image"))
@dataclass(frozen=True)
class Value(RemovalSpec):
    """One number for all columns or channels, for removal and for insertion.

    Args:
        value: the number.
    """

    value: float = 0.0

    def make(self, inputs: Inputs) -> Removal:
        """See `RemovalSpec`."""
        return inputs.replaced_by(inputs.like(self.value))


@REMOVALS.register("blur", modalities=("image",))
@dataclass(frozen=True)
class Blur(RemovalSpec):
    """The image itself under a Gaussian blur, for removal and for insertion.

    Args:
        sigma: deviation in pixels, by default a 20th of the image's side.
    """

    sigma: float | None = bounded(None, above=0)

    def make(self, inputs: Inputs) -> Removal:
        """See `RemovalSpec`."""
        height, width = inputs.background.shape[-2:]
        return BlurRemoval(inputs.like(0.0), height, width, self.sigma or width * BLURRED)


@REMOVALS.register("marginal", modalities=("table", "image"))
@dataclass(frozen=True)
class Marginal(RemovalSpec):
    """The features of another row of the background: one draw for each sample, the same for all its removal sets.

    Args:
        seed: what the draws follow from, together with the content of the sample.
    """

    seed: int = 0

    def make(self, inputs: Inputs) -> Removal:
        """See `RemovalSpec`."""
        return MarginalRemoval(inputs.replaced_by(inputs.like(0.0)), inputs.background, self.seed)


@REMOVALS.register("mask", modalities=("text",))
@dataclass(frozen=True)
class Mask(RemovalSpec):
    """The mask token of the model's vocabulary."""

    def make(self, inputs: Inputs) -> Removal:
        """See `RemovalSpec`.

        Raises:
            UsageError: nobody said which token that is.
        """
        if inputs.mask_id is None:
            raise UsageError(
                "a removed token becomes the mask token, and nobody said which that is: pass mask_id=, or tokenizer= "
                "with a mask token"
            )
        return TokenRemoval(inputs.background.shape[1], inputs.mask_id, inputs.pad_id)


@dataclass(frozen=True, eq=False)
class BlurRemoval(PixelRemoval):
    """Pixels that take the values of the image under a blur of `sigma`; `means` plays no part."""

    shares_baseline = True

    def baseline(self, x: Tensor, kind: Baseline = "removal") -> Tensor:
        """Return the blurred images (B, C, H, W)."""
        assert self.sigma is not None
        return blur(x, self.sigma)


@dataclass(frozen=True, eq=False)
class MarginalRemoval:
    """Features that take the values of a row of `rows` (M, ...), one for each sample, drawn by its content and `seed`.

    Source: Lundberg and Lee 2017, eq. 11 (features independent), with one draw.
    """

    inner: Removal
    rows: Tensor
    seed: int
    __repr__ = in_a_line
    shares_baseline = True

    @property
    def n_features(self) -> int:
        """Return G."""
        return self.inner.n_features

    @property
    def pads(self) -> bool:
        """Tell whether inputs may be padded."""
        return self.inner.pads

    def baseline(self, x: Tensor, kind: Baseline = "removal") -> Tensor:
        """Return a row of the background for each input, (B, ...)."""
        drawn = [seed % len(self.rows) for seed in content_seeds(self.seed, x)]
        return self.rows[torch.tensor(drawn, device=self.rows.device)].to(x)

    def expand(self, removed: Tensor) -> Tensor:
        """Return `removed` in a shape that broadcasts against x."""
        return self.inner.expand(removed)

    def valid(self, x: Tensor) -> Tensor:
        """Return True where there is a feature."""
        return self.inner.valid(x)

    def pool(self, raw: Tensor) -> Tensor:
        """Sum what a gradient gives into one number a feature."""
        return self.inner.pool(raw)
