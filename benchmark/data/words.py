"""Splits texts into words and numbers the words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PAD, UNKNOWN, MASK = 0, 1, 2
SPECIAL = ("<pad>", "<unk>", "<mask>")
_BREAK = re.compile(r"<br\s*/?>")
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)*|[!?]")


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, with ! and ?; other punctuation and line breaks are dropped."""
    return _WORD.findall(_BREAK.sub(" ", text.lower()))


@dataclass(frozen=True)
class Vocabulary:
    """The words a model knows. Numbers 0, 1 and 2 are padding, an unknown word and a removed word."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[list[str]], size: int) -> Vocabulary:
        """Return the `size` most frequent words, equally frequent ones in alphabetical order."""
        counts = Counter(word for words in texts for word in words)
        frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:size]
        return cls(tuple(word for word, _ in frequent))

    @cached_property
    def number(self) -> dict[str, int]:
        """Return the number of each word."""
        return {word: at + len(SPECIAL) for at, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words) + len(SPECIAL)

    def encode(self, texts: Sequence[list[str]], length: int) -> np.ndarray:
        """Return numbers (N, length) int64 of the last `length` words of each text, padded at the end.

        The last, because a long review sums up where it ends.
        """
        ids = np.full((len(texts), length), PAD, np.int64)
        for row, words in zip(ids, texts, strict=True):
            numbers = [self.number.get(word, UNKNOWN) for word in words[-length:]]
            row[: len(numbers)] = numbers
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the words behind numbers, padding left out."""
        return [(SPECIAL + self.words)[i] for i in ids if i != PAD]
