"""One sample of a golden case as a recipe sees it: NumPy, its own features alone, answers kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmark.testing.golden import Golden

Baseline = Callable[[Golden], Tensor]
"""What stands in the place of removed features: (N, ...) or (1, ...)."""


class Sample:
    """A sample with n features.

    Attributes:
        s: attributions (n,).
        ties: the order that equal attributions keep, as places among the sample's own features, (n,).
        steps: the most groups that it has.
        subsets: random removal sets (R, n) bool, or None.
        target: the class predicted.
    """

    def __init__(self, golden: Golden, row: int, padding: bool) -> None:
        self.golden, self.row = golden, row
        valid = golden.valid[row].numpy()
        self.features = np.arange(len(valid)) if padding else np.flatnonzero(valid)
        place = np.full(len(valid), -1)
        place[self.features] = np.arange(len(self.features))
        ties = place[golden.ties[row].numpy()]
        self.ties = ties[ties >= 0]
        self.s = golden.attributions[row].numpy()[self.features]
        self.steps = min(golden.steps, len(self.features))
        self.subsets = None if golden.subsets is None else golden.subsets[row].numpy()[:, self.features]
        self.target = int(golden.target[row])
        self._answers: dict[tuple[Baseline, bytes], np.ndarray] = {}  # of one removal set
        self._asked: dict[tuple[Baseline, bytes], np.ndarray] = {}  # of several, as they were asked

    @property
    def n(self) -> int:
        """Return the number of features."""
        return len(self.features)

    def base(self, baseline: Baseline) -> Tensor:
        """Return the sample with every feature at the baseline, (1, ...)."""
        given = baseline(self.golden).to(self.golden.x)
        return given[self.row : self.row + 1] if len(given) > 1 else given

    def logits(self, removed: np.ndarray, baseline: Baseline) -> np.ndarray:
        """Return logits (S, C) for removal sets (S, n) bool; each is asked once."""
        together = baseline, removed.tobytes()
        if together not in self._asked:
            self._asked[together] = self._logits(removed, baseline)
        return self._asked[together]

    def _logits(self, removed: np.ndarray, baseline: Baseline) -> np.ndarray:
        keys = [(baseline, mask.tobytes()) for mask in removed]
        new = {key: mask for key, mask in zip(keys, removed, strict=True) if key not in self._answers}
        if new:
            masks = np.zeros((len(new), self.golden.valid.shape[1]), dtype=bool)
            masks[:, self.features] = np.stack(list(new.values()))
            x = self.golden.x[self.row : self.row + 1]
            expanded = self.golden.task.removal.expand(torch.as_tensor(masks))
            with torch.no_grad():
                answers = self.golden.task.model(self.base(baseline).where(expanded, x)).numpy()
            self._answers.update(zip(new, answers, strict=True))
        return np.stack([self._answers[key] for key in keys])

    def whole(self) -> np.ndarray:
        """Return the logits (1, C) with nothing removed."""
        return self.logits(np.zeros((1, self.n), dtype=bool), _nothing)


def _nothing(golden: Golden) -> Tensor:
    return golden.x


def sample(golden: Golden, row: int, padding: bool) -> Sample:
    """Return a sample of a case, the same one each time."""
    key = "sample", row, padding
    if key not in golden.kept:
        golden.kept[key] = Sample(golden, row, padding)
    kept = golden.kept[key]
    assert isinstance(kept, Sample)
    return kept
