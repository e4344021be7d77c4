"""What an explainer's training follows from beside the task and the seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmark.learning.fitting import Fitting
from deepfaith.drawing import Drawing
from deepfaith.schedule import Schedule


@dataclass(frozen=True)
class Hyperparameters:
    """Everything that makes an explainer but the task and the seed.

    Args:
        fitting: the training loop.
        drawing: inputs and removal sets for L_LC.
        schedule: how alpha moves.
        width, depth, heads, dropout: of the encoder.
        form, conditioning: see `Explainer`.
        rows: training inputs that prior methods explain.
        similarity: delta; explanations whose cosine is at least this are one (section 3.3).
        quantile: p; explanations below this quantile in any metric are not copied (section 3.3).
        batch: inputs a step for L_LC.
        copies: chosen explanations a step for L_PC.
        held_out: share of the explained rows, and of all training inputs, though not more than 64, that validates.
        mixed: computes in bfloat16, on a GPU alone.
        compiled: goes through torch.compile, on a GPU alone.
    """

    fitting: Fitting
    drawing: Drawing
    schedule: Schedule
    width: int
    depth: int
    heads: int
    dropout: float
    form: str
    conditioning: str
    rows: int
    similarity: float
    quantile: float
    batch: int
    copies: int
    held_out: float = 0.1
    mixed: bool = True
    compiled: bool = False

    def plain(self) -> dict[str, Any]:
        """Return this recipe as plain data."""
        return asdict(self)
