"""All logits, and what layers give, for removal sets: more of a model's answers than the target's probability."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmark.core.errors import DataError, UsageError, few
from benchmark.core.types import Baseline
from benchmark.models.batching import tensors_in
from benchmark.scoring.masked_model import MaskedModel, predictions_in_parts
from benchmark.scoring.metrics import Reading
from benchmark.scoring.removal_sets import MaskSets, RemovalSets

Answers = dict[str, Tensor]
"""By name: `prob` and `same_class`, (B, S); `logits` (B, S, C) and what layers give (B, S, ...) where they are read."""


def read(
    model: MaskedModel, x: Tensor, classes: Tensor, removals: RemovalSets, reading: Reading, kind: Baseline = "removal"
) -> Answers:
    """Return the answers about removal sets: what does not exist is 0.

    Args:
        model: is asked.
        x: inputs (B, ...).
        classes: the target (B,), or (B, 2), target and class predicted: see `MaskedModel.query`.
        removals: S sets for each.
        reading: what is kept.
        kind: the baseline.

    Raises:
        UsageError: the model has no layer of a name.
        DataError: a layer gives no tensor with a row for each input.
    """
    if reading == Reading():
        predictions = model.query(x, classes, removals, kind)
        return {"prob": predictions.prob, "same_class": predictions.same_class}
    batch, sets = removals.shape
    with _watched(model.task.model, reading.layers) as seen:
        buffer = _Buffer(seen)
        rows = model.ask(x, classes, removals, buffer, kind)
    answers = {}
    for name, parts in buffer.result(reading.logits, x.device).items():
        if rows is None:
            answers[name] = parts.view(sets, batch, *parts.shape[1:]).transpose(0, 1)
        else:
            whole = parts.new_zeros(batch * sets, *parts.shape[1:])
            answers[name] = whole.index_copy(0, rows, parts).view(batch, sets, *parts.shape[1:])
    return answers


def read_clean(model: MaskedModel, x: Tensor, classes: Tensor, reading: Reading) -> Answers:
    """Return the answers about whole inputs, with an axis of one set, the empty one: see `read`."""
    nothing = torch.zeros(1, 1, model.task.n_features, dtype=torch.bool, device=x.device)
    return read(model, x, classes, MaskSets(nothing, len(x)), reading)


class _Buffer:
    """Keeps logits, and the latest outputs of layers, `seen` by name, forward by forward."""

    def __init__(self, seen: dict[str, Tensor]) -> None:
        self.seen = seen
        self.parts: dict[str, list[Tensor]] = {}

    def append(self, logits: Tensor, classes: Tensor) -> None:
        """See `Buffer`."""
        predictions = predictions_in_parts(logits, classes)
        kept = {"prob": predictions.prob, "same_class": predictions.same_class, "logits": logits.double()}
        for name, output in self.seen.items():
            if output.dim() == 0 or len(output) != len(logits):
                raise DataError(
                    f"a metric reads the layer {name!r}: expected a row for each of {len(logits)} inputs, got the "
                    f"shape {tuple(output.shape)}; name another layer"
                )
            kept[f"layer {name}"] = output.detach().clone()
        for name, part in kept.items():
            self.parts.setdefault(name, []).append(part)

    def result(self, logits: bool, device: torch.device) -> Answers:
        """Return what was kept of all rows; logits where they are wanted."""
        if not self.parts:  # no set exists
            return {"prob": torch.zeros(0, dtype=torch.float64, device=device),
                    "same_class": torch.zeros(0, dtype=torch.bool, device=device)}  # fmt: skip
        return {name: torch.cat(parts) for name, parts in self.parts.items() if logits or name != "logits"}


@contextmanager
def _watched(model: nn.Module, layers: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """Give the latest output of some layers by name, as forwards pass; the hooks are removed afterwards.

    Raises:
        UsageError: there is no layer of a name.
    """
    modules, seen = dict(model.named_modules()), dict[str, Tensor]()
    if unknown := [name for name in layers if name not in modules]:
        known = [name for name in modules if name]
        raise UsageError(
            f"a metric reads the layer {unknown[0]!r}, which the model has not: its layers are {few(known, 20)}"
        )

    def keep(name: str, output: object) -> None:
        tensor = next(tensors_in(output), None)
        if tensor is None:
            raise DataError(f"a metric reads the layer {name!r}: expected a tensor, got a {type(output).__name__}")
        seen[name] = tensor

    hooks = [
        modules[name].register_forward_hook(lambda _module, _inputs, output, name=name: keep(name, output))
        for name in layers
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
