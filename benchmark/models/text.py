"""The paper's text models on word numbers (B, L): an LSTM and a Transformer, both blind to padding.

Each also takes embeddings (B, L, E) with a mask of real words, so that gradients can be taken with respect to words.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.words import MASK, PAD, UNKNOWN

SPREAD = 0.1
"""Standard deviation of embeddings before training: small, so that rare words say little until they are learnt."""


class TextModel(nn.Module):
    """Words to logits (B, C). Texts are padded at the end; columns that are padding in all of them are cut off."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width, padding_idx=PAD)
        nn.init.normal_(self.embed.weight[UNKNOWN:], std=SPREAD)

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """Return logits for word numbers (B, L), or for embeddings (B, L, E) where `real` (B, L) is True."""
        if real is None:
            real = x != PAD
        length = max(1, int(real.sum(1).max()))
        x, real = x[:, :length], real[:, :length]
        return self.classify(x if x.is_floating_point() else self.embed(x), real)

    @abstractmethod
    def classify(self, vectors: Tensor, real: Tensor) -> Tensor:
        """Return logits (B, C) for embeddings (B, L, E) of which `real` (B, L) are words."""


def mean_of_real(vectors: Tensor, real: Tensor) -> Tensor:
    """Return the mean (B, E) of vectors (B, L, E) over real words."""
    weights = real.to(vectors).unsqueeze(-1)
    return (vectors * weights).sum(1) / weights.sum(1).clamp(min=1)


class LSTMClassifier(TextModel):
    """A bidirectional LSTM, the mean of its states over real words, and a linear layer.

    The backward direction reads each text reversed within its own length, so that it never starts in padding.
    """

    def __init__(self, words: int, classes: int, embedding: int, width: int, dropout: float) -> None:
        super().__init__(words, embedding)
        self.onward = nn.LSTM(embedding, width, batch_first=True)
        self.back = nn.LSTM(embedding, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, classes)

    def classify(self, vectors: Tensor, real: Tensor) -> Tensor:
        """See `TextModel`."""
        vectors = self.dropout(vectors)
        place = torch.arange(real.shape[1], device=real.device)
        turned = (
            (real.sum(1, keepdim=True) - 1 - place).clamp(min=0).unsqueeze(-1)
        )  # where word k of the reverse stands
        with torch.backends.cudnn.flags(enabled=self.training):  # cuDNN refuses gradients of a model in eval mode
            onward, _ = self.onward(vectors)
            back, _ = self.back(vectors.gather(1, turned.expand(-1, -1, vectors.shape[2])))
        return self.head(self.dropout(mean_of_real(torch.cat([onward, back], -1), real)))


class Block(nn.Module):
    """A Transformer encoder layer, normalised first (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.act, self.narrow = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """Return x (B, L, E) after attention among real words and the feed-forward layer."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None, :])
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        return x + self.dropout(self.narrow(self.act(self.wide(self.norm2(x)))))


class TransformerClassifier(TextModel):
    """Transformer encoder layers over words and places, the mean over real words, and a linear layer."""

    def __init__(
        self, words: int, classes: int, width: int, depth: int, heads: int, length: int, dropout: float
    ) -> None:
        super().__init__(words, width)
        self.place = nn.Parameter(SPREAD * torch.randn(length, width))
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def classify(self, vectors: Tensor, real: Tensor) -> Tensor:
        """See `TextModel`."""
        real = real | (
            torch.arange(real.shape[1], device=real.device) == 0
        )  # attention needs one key even where all is padding
        x = self.dropout(vectors + self.place[: vectors.shape[1]])
        for block in self.blocks:
            x = block(x, real)
        return self.head(self.dropout(mean_of_real(self.norm(x), real)))


def text_model(kind: str, sizes: dict[str, Any], words: int, classes: int) -> TextModel:
    """Return an untrained model of `kind` lstm or transformer; `sizes` are those of a task's recipe."""
    if kind == "lstm":
        return LSTMClassifier(words, classes, sizes["embedding"], sizes["width"], sizes["dropout"])
    return TransformerClassifier(
        words, classes, sizes["width"], sizes["depth"], sizes["heads"], sizes["length"], sizes["dropout"]
    )


def drop_words(x: Tensor, share: Tensor) -> Tensor:
    """Replace each word of texts (B, L) by the mask with probability `share` (B, 1); draws from torch's generator."""
    return torch.where((torch.rand(x.shape, device=x.device) < share) & (x != PAD), MASK, x)
