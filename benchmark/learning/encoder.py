"""The Transformer encoder that learned explainers share: from a task's inputs to a few numbers for each feature.

Tokens are a table's columns, a text's words or an image's square patches; a token's output holds the numbers of
all its features, so that a patch gives one for each of its pixel sites.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.types import Modality, Task

SPREAD = 0.1
"""Standard deviation of embeddings before training."""
PATCHES = 14
"""Patches a side of an image, as in the vision Transformers at 224 pixels; 8 where that does not divide the side."""


@dataclass(frozen=True)
class Shape:
    """What an encoder reads and writes, and the sizes in between. What a modality has no use for is 0.

    Args:
        modality: of the inputs.
        features: G.
        outputs: numbers for each feature.
        width, depth, heads, dropout: of the Transformer.
        words: size of a text's vocabulary.
        embedding: width of its word vectors.
        pad: the word number of padding, which is no feature.
        channels: of an image.
        patch: pixels a side of its patches.
        masked: the encoder also sees which features are removed: a zero that is removed is not a zero that was given.
        given: numbers for each feature that the encoder is given beside the input.
        coarse: a patch's outputs hold for all its pixels, so that they do not grow with the size of an image.
    """

    modality: Modality
    features: int
    outputs: int
    width: int
    depth: int
    heads: int
    dropout: float = 0.0
    words: int = 0
    embedding: int = 0
    pad: int = 0
    channels: int = 0
    patch: int = 0
    masked: bool = False
    given: int = 0
    coarse: bool = False

    def plain(self) -> dict[str, Any]:
        """Return this shape as plain data."""
        return asdict(self)

    @property
    def side(self) -> int:
        """Return an image's pixels a side."""
        return round(self.features**0.5)


def shape_of(task: Task, outputs: int, width: int, depth: int, heads: int, dropout: float = 0.0) -> Shape:
    """Return the shape of an encoder for `task`."""
    shape = Shape(task.modality, task.n_features, outputs, width, depth, heads, dropout)
    sizes = asdict(shape)
    if task.modality == "text":
        known = embedding_of(task)
        words, wide = (int(task.train.x.max()) + 1, width) if known is None else tuple(known.shape)
        sizes |= {"words": words, "embedding": wide, "pad": int(getattr(task.removal, "pad_id", 0))}
    if task.modality == "image":
        side = shape.side
        patches = next((n for n in (PATCHES, 8, 7, 4, 2) if side % n == 0 and side >= 2 * n), side)
        sizes |= {"channels": task.train.x.shape[1], "patch": side // patches}
    return Shape(**sizes)


def embedding_of(task: Task) -> Tensor | None:
    """Return the word vectors (words, E) of a text task's model, or None where it has none that are called `embed`."""
    embed = getattr(task.model, "embed", None)
    return embed.weight.detach().float() if isinstance(embed, nn.Embedding) else None


class Backbone(nn.Module):
    """Inputs (B, ...) to (B, G, outputs).

    Args:
        shape: see `Shape`.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, per_token = shape.width, shape.outputs
        match shape.modality:
            case "table":
                tokens = shape.features
                self.scale = nn.Parameter(SPREAD * torch.randn(tokens, width))
                if shape.masked:
                    self.absent = nn.Parameter(SPREAD * torch.randn(tokens, width))
            case "text":
                tokens = shape.features
                self.embed = nn.Embedding(shape.words, shape.embedding)
                nn.init.normal_(self.embed.weight, std=SPREAD)
                self.project = nn.Linear(shape.embedding, width)
            case "image":
                tokens = (shape.side // shape.patch) ** 2
                per_token *= 1 if shape.coarse else shape.patch**2
                self.patchify = nn.Conv2d(shape.channels + shape.masked, width, shape.patch, shape.patch)
        if shape.given:
            self.see = (
                nn.Conv2d(shape.given, width, shape.patch, shape.patch)
                if shape.modality == "image"
                else nn.Linear(shape.given, width)
            )
        self.place = nn.Parameter(SPREAD * torch.randn(tokens, width))
        layer = nn.TransformerEncoderLayer(
            width, shape.heads, 2 * width, shape.dropout, F.gelu, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, shape.depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, per_token)

    def forward(
        self,
        x: Tensor,
        extra: Tensor | None = None,
        removed: Tensor | None = None,
        shown: tuple[Tensor, Tensor] | None = None,
        given: Tensor | None = None,
    ) -> Tensor:
        """Return (B, G, outputs); padding gets zeros, and is cut off before attention where all rows have it.

        Args:
            x: inputs (B, ...).
            extra: conditioning tokens (B, T, width), which are attended to and give no output.
            removed: (B, G) bool, for masked encoders; a text's removed words show by themselves.
            shown: for masked encoders, in place of `removed`: the share (B, tokens) in [0, 1] of each token that is
                seen, and inputs (B, ...) from which all is removed, which make up the rest of it.
            given: (B, G, `Shape.given`), where the encoder is given numbers beside the input.
        """
        real = self._real(x)
        if real is not None:
            length = max(1, int(real.sum(1).max()))
            x, real = x[:, :length], real[:, :length]
        tokens = self._tokens(x, removed) if shown is None else self._partly(x, *shown)
        count = tokens.shape[1]
        if given is not None:
            tokens = tokens + self._beside(given, count)
        tokens = tokens + self.place[:count]
        ignored = None if real is None else ~real
        if extra is not None:
            tokens = torch.cat([tokens, extra], 1)
            ignored = None if ignored is None else F.pad(ignored, (0, extra.shape[1]))
        elif ignored is not None:
            ignored[:, 0] = False  # attention needs one key even where all is padding
        by_token = self.head(self.encoder(tokens, src_key_padding_mask=ignored)[:, :count])
        if real is not None:
            by_token = by_token.masked_fill(~real.unsqueeze(-1), 0.0)
            return F.pad(by_token, (0, 0, 0, self.shape.features - count))
        return self._unpatchify(by_token) if self.shape.modality == "image" else by_token

    def start_from(self, task: Task) -> None:
        """Begin with the word vectors of the model that is to be explained: they know what words mean to it."""
        known = embedding_of(task) if self.shape.modality == "text" else None
        if known is not None:
            self.embed.weight.data.copy_(known)

    def valid(self, x: Tensor) -> Tensor:
        """Return (B, G) bool: True where there is a feature, False for padding."""
        if self.shape.modality == "text":
            return x != self.shape.pad
        return torch.ones(len(x), self.shape.features, dtype=torch.bool, device=x.device)

    def _real(self, x: Tensor) -> Tensor | None:
        return x != self.shape.pad if self.shape.modality == "text" else None

    def _tokens(self, x: Tensor, removed: Tensor | None = None) -> Tensor:
        match self.shape.modality:
            case "table" if self.shape.masked:
                assert removed is not None, "a masked encoder has to see what is removed"
                return (x * ~removed).unsqueeze(-1) * self.scale + removed.unsqueeze(-1) * self.absent
            case "image" if self.shape.masked:
                assert removed is not None, "a masked encoder has to see what is removed"
                with_mask = torch.cat([x, removed.view(len(x), 1, *x.shape[2:]).to(x)], 1)
                return self.patchify(with_mask).flatten(2).mT
            case "table":
                return x.unsqueeze(-1) * self.scale
            case "text":
                return self.project(self.embed(x))
            case _:
                return self.patchify(x).flatten(2).mT

    def _beside(self, given: Tensor, count: int) -> Tensor:
        """Return what numbers (B, G, `given`) add to the first `count` tokens."""
        if self.shape.modality != "image":
            return self.see(given[:, :count])
        return self.see(given.mT.unflatten(2, (self.shape.side, self.shape.side))).flatten(2).mT

    def _partly(self, x: Tensor, share: Tensor, empty: Tensor) -> Tensor:
        """Return tokens between those of x and those of `empty`, from which all is removed; see `forward`."""
        removed = torch.ones(len(x), self.shape.features, dtype=torch.bool, device=x.device)
        whole, rest = self._tokens(x, ~removed), self._tokens(empty[:, : x.shape[1]], removed)
        share = share[:, : whole.shape[1]].unsqueeze(-1)
        return share * whole + (1 - share) * rest

    def _unpatchify(self, by_patch: Tensor) -> Tensor:
        """Lay out the sites of each patch (B, patches, patch * patch * outputs) in raster order of the image."""
        n, p = self.shape.side // self.shape.patch, self.shape.patch
        if self.shape.coarse:
            sites = by_patch.unflatten(1, (n, n)).repeat_interleave(p, 1).repeat_interleave(p, 2)
            return sites.flatten(1, 2)
        sites = by_patch.view(len(by_patch), n, n, p, p, self.shape.outputs).transpose(2, 3)
        return sites.reshape(len(by_patch), self.shape.features, self.shape.outputs)
