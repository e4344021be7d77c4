"""How a feature is removed in each modality: the only place where modalities differ for the evaluator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.core.errors import in_a_line
from benchmark.core.types import Baseline


@dataclass(frozen=True, eq=False)
class ColumnRemoval:
    """Tables (B, G): a removed column takes its mean over the training rows, `means` (G,)."""

    means: Tensor
    __repr__ = in_a_line
    pads = False
    shares_baseline = True

    @property
    def n_features(self) -> int:
        """Return G."""
        return len(self.means)

    def baseline(self, x: Tensor, kind: Baseline = "removal") -> Tensor:
        """Return the training means (1, G)."""
        return self.means.to(x).unsqueeze(0)

    def expand(self, removed: Tensor) -> Tensor:
        """Return `removed` as it is."""
        return removed

    def valid(self, x: Tensor) -> Tensor:
        """Return all True: a table has no padding."""
        return torch.ones_like(x, dtype=torch.bool)

    def pool(self, raw: Tensor) -> Tensor:
        """Return `raw` as it is."""
        return raw


@dataclass(frozen=True, eq=False)
class TokenRemoval:
    """Token ids (B, G): a removed token becomes `mask_id`; `pad_id` marks padding, which is no feature."""

    n_features: int
    mask_id: int
    pad_id: int
    pads = True
    shares_baseline = True

    def baseline(self, x: Tensor, kind: Baseline = "removal") -> Tensor:
        """Return mask tokens (1, G); padding is never removed, so it stays padding."""
        return torch.full_like(x[:1], self.mask_id)

    def expand(self, removed: Tensor) -> Tensor:
        """Return `removed` as it is."""
        return removed

    def valid(self, x: Tensor) -> Tensor:
        """Return True at real tokens."""
        return x != self.pad_id

    def pool(self, raw: Tensor) -> Tensor:
        """Sum an embedding gradient (B, G, E) over the embedding."""
        return raw.sum(-1)


@dataclass(frozen=True, eq=False)
class PixelRemoval:
    """Images (B, C, H, W): a feature is a pixel site, its channels together; G = H * W in raster order.

    A removed site takes the channels' means over the training images, `means` (C,); the insertion baseline is the
    image under a Gaussian blur of `sigma` pixels, cut at three sigma, with reflected edges, or the same means if None.
    """

    means: Tensor
    height: int
    width: int
    sigma: float | None
    __repr__ = in_a_line
    pads = False

    @property
    def shares_baseline(self) -> bool:
        """Tell whether images are inserted into the means that removal uses."""
        return self.sigma is None

    @property
    def n_features(self) -> int:
        """Return G."""
        return self.height * self.width

    def baseline(self, x: Tensor, kind: Baseline = "removal") -> Tensor:
        """Return the channel means (1, C, H, W), or for insertion the blurred images (B, C, H, W)."""
        if kind == "insertion" and self.sigma is not None:
            return blur(x, self.sigma)
        return self.means.to(x).view(1, -1, 1, 1).expand(1, -1, self.height, self.width)

    def expand(self, removed: Tensor) -> Tensor:
        """Return `removed` as (B, 1, H, W)."""
        return removed.view(-1, 1, self.height, self.width)

    def valid(self, x: Tensor) -> Tensor:
        """Return all True: an image has no padding."""
        return torch.ones(len(x), self.n_features, dtype=torch.bool, device=x.device)

    def pool(self, raw: Tensor) -> Tensor:
        """Sum (B, C, H, W) over channels."""
        return raw.sum(1).flatten(1)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Return images (B, C, H, W) under a separable Gaussian blur of `sigma` pixels, edges reflected."""
    radius = min(max(1, round(3 * sigma)), x.shape[-1] - 1, x.shape[-2] - 1)
    at = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-(at**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).to(x)
    channels = x.shape[1]
    across = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    x = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="reflect"), across, groups=channels)
    return F.conv2d(F.pad(x, (0, 0, radius, radius), mode="reflect"), across.transpose(2, 3), groups=channels)
