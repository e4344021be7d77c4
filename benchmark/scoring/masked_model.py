"""The masked model: predictions for removal sets, in forwards that fit the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from benchmark.core.errors import DataError, in_a_line
from benchmark.core.types import Baseline, Precision, Task
from benchmark.models.batching import Batching
from benchmark.scoring.removal_sets import MaskSets, RemovalSets, all_subsets

BLOCK = 2**23
"""Bytes of rows that are made together for several forwards: making few at a time is slow."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model predicts for S removal sets of B samples.

    `prob` (B, S) float64: the target's probability; `same_class` (B, S) bool: the class that is predicted for the whole
    input is still predicted.
    """

    prob: Tensor
    same_class: Tensor
    __repr__ = in_a_line

    def __getitem__(self, key: object) -> Predictions:
        """Index both alike."""
        return Predictions(self.prob[key], self.same_class[key])  # type: ignore[index]

    def gather(self, which: Tensor) -> Predictions:
        """Return the predictions for sets `which` (..., B, n) of each sample; leading dimensions look up the same."""
        shape = (*which.shape[:-1], self.prob.shape[-1])
        return Predictions(self.prob.expand(shape).gather(-1, which), self.same_class.expand(shape).gather(-1, which))

    def view(self, *shape: int) -> Predictions:
        """View both alike."""
        return Predictions(self.prob.view(shape), self.same_class.view(shape))


class Buffer(Protocol):
    """Keeps what is wanted of answers, forward by forward."""

    def append(self, logits: Tensor, classes: Tensor) -> None:
        """Take the logits (n, C) and the classes to watch, (n,) or (n, 2), of the next rows."""


class MaskedModel:
    """A task's model, queried about removal sets; rows of all samples are packed into full forwards.

    Example:
        >>> from benchmark.inspection.crosscheck.cases import CASES  # small tasks, made by formula
        >>> from benchmark.scoring.removal_sets import MaskSets
        >>> task = CASES[0].task()
        >>> masked_model = MaskedModel(task)
        >>> target, clean = masked_model.clean(task.test.x)
        >>> masks = torch.ones(2, len(target), task.n_features, dtype=torch.bool)  # (S, B, G)
        >>> sets = MaskSets(masks, len(target))
        >>> masked_model.query(task.test.x, target, sets).prob.shape  # (B, S)
        torch.Size([6, 2])

    Args:
        task: model, and how its features are removed.
        byte_budget: bound of the memory of one forward, in bytes; see `Batching`, which also says what happens where
            memory runs out.
        precision: bf16 runs the model under autocast.
    """

    def __init__(self, task: Task, byte_budget: int | None = None, precision: Precision = "fp32") -> None:
        self.task, self.precision = task, precision
        self.device = task.test.x.device
        self.batching = Batching(task, byte_budget)

    def raw_logits(self, x: Tensor) -> Tensor:
        """Return the logits (n, C) of one forward as the model gives them."""
        if self.precision == "fp32":
            return self.task.model(x)
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.task.model(x)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (n, C) of one forward, float64."""
        return self.raw_logits(x).double()

    @torch.inference_mode()
    def clean(self, x: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the classes to watch and the target's probability (B,) float64 on whole inputs.

        Args:
            x: inputs (B, ...).
            target: the classes explained (B,); None for those that the model predicts.

        Returns:
            The classes that `query` takes: (B,), or (B, 2) where a target is given; and the probability.
        """
        logits = self._all_logits(x)
        classes = watched(logits, target)
        return classes, predictions_in_parts(logits, classes).prob

    @torch.inference_mode()
    def clean_and_empty(self, x: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor, Predictions]:
        """Return what `clean` does, and the predictions (B, 1) where every feature is removed."""
        emptied = self.task.remove(x, self.task.removal.valid(x))
        whole, empty = self._all_logits(torch.cat([x, emptied])).chunk(2)
        classes = watched(whole, target)
        return classes, predictions_in_parts(whole, classes).prob, predictions_in_parts(empty, classes)[:, None]

    def _all_logits(self, x: Tensor) -> Tensor:
        return self.batching.ask(x, lambda rows: self.logits(x[rows]))

    @torch.inference_mode()
    def query(self, x: Tensor, classes: Tensor, removals: RemovalSets, kind: Baseline = "removal") -> Predictions:
        """Return the predictions (B, S) for every removal set that exists; the others get 0 and False.

        Args:
            x: inputs (B, ...).
            classes: the target (B,), which is also the class predicted; or (B, 2), target and class predicted.
            removals: which features are removed.
            kind: what takes their place.
        """
        batch, sets = removals.shape
        buffer = _LogitBuffer(x.device)
        rows = self.ask(x, classes, removals, buffer, kind)
        if rows is None:
            by_set = buffer.result().view(sets, batch)
            return Predictions(by_set.prob.T.contiguous(), by_set.same_class.T.contiguous())
        existing = buffer.result()
        prob = existing.prob.new_zeros(batch * sets).scatter(0, rows, existing.prob)
        same_class = existing.same_class.new_zeros(batch * sets).scatter(0, rows, existing.same_class)
        return Predictions(prob, same_class).view(batch, sets)

    @torch.inference_mode()
    def ask(
        self, x: Tensor, classes: Tensor, removals: RemovalSets, buffer: Buffer, kind: Baseline = "removal"
    ) -> Tensor | None:
        """Ask about every removal set that exists, and let `buffer` keep of each answer what it wants.

        Returns:
            None where all sets exist: the rows that went into the buffer are all samples of set 0, of set 1 and so on.
            Else the places (rows,) of the rows, sample * S + set.
        """
        baseline = self.task.removal.baseline(x, kind)
        if removals.exists is None:
            self._query_blocks(x, classes, removals, baseline, buffer)
            return None
        rows = removals.exists.flatten().nonzero().squeeze(1)
        self._query_pairs(x, classes, removals, baseline, rows, buffer)
        return rows

    def _query_blocks(
        self, x: Tensor, classes: Tensor, removals: RemovalSets, baseline: Tensor, buffer: Buffer
    ) -> None:
        """Ask about whole sets, all samples each, or where samples are too many, about some of them at a time."""
        batch, sets = removals.shape
        at_once = max(self.batching.rows_per_forward(x), BLOCK // x[:1].nbytes)
        width, height = min(batch, at_once), max(1, at_once // batch)
        for begin in range(0, sets, height):
            for first in range(0, batch, width):
                samples = slice(first, min(batch, first + width))
                masks = removals.block(samples, slice(begin, min(sets, begin + height)))
                masks = self.task.removal.expand(masks.flatten(0, 1)).unflatten(0, masks.shape[:2])
                base = baseline if len(baseline) == 1 else baseline[samples]
                rows = substitute(x[samples], base, masks).flatten(0, 1)
                self._forward(rows, classes[samples].repeat(len(masks), *[1] * (classes.dim() - 1)), buffer)

    def _query_pairs(
        self, x: Tensor, classes: Tensor, removals: RemovalSets, baseline: Tensor, rows: Tensor, buffer: Buffer
    ) -> None:
        """Ask about chosen pairs of sample and set, `rows` = sample * sets + set."""
        at_once = max(self.batching.rows_per_forward(x), BLOCK // x[:1].nbytes)
        for pack in rows.split(at_once):
            sample, which = pack // removals.shape[1], pack % removals.shape[1]
            masks = self.task.removal.expand(removals.removed(sample, which))
            base = baseline if len(baseline) == 1 else baseline.index_select(0, sample)
            masked = substitute(x.index_select(0, sample), base, masks)
            self._forward(masked, classes.index_select(0, sample), buffer)

    def _forward(self, x: Tensor, classes: Tensor, buffer: Buffer) -> None:
        """Ask about rows x (n, ...) in forwards of equal size."""
        done = 0
        for logits in self.batching.answers(x, lambda rows: self.raw_logits(x[rows])):
            buffer.append(logits, classes[done : done + len(logits)])
            done += len(logits)

    def value_table(self, x: Tensor, target: Tensor | None = None) -> tuple[Tensor, Predictions]:
        """Return the classes of `clean` and predictions for all 2^G removal sets (B, 2^G), as in `all_subsets`."""
        classes, clean = self.clean(x, target)
        masks = all_subsets(self.task.n_features, x.device).unsqueeze(1)
        rest = self.query(x, classes, MaskSets(masks[1:], len(x)))
        prob = torch.cat([clean.unsqueeze(1), rest.prob], 1)
        return classes, Predictions(prob, torch.cat([torch.ones_like(rest.same_class[:, :1]), rest.same_class], 1))


class _LogitBuffer:
    """Buffers logits until there are MIN_LOGITS, then turns them into predictions in one call.

    Softmax on small tensors is dominated by the overhead of the call.
    """

    MIN_LOGITS = 2**14
    """So many numbers are turned into predictions together."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.size = 0
        self.parts: list[Predictions] = []

    def append(self, logits: Tensor, classes: Tensor) -> None:
        """Append the logits (n, C) and the classes to watch, (n,) or (n, 2), of the next rows."""
        self.pending.append((logits, classes))
        self.size += logits.nelement()
        if self.size >= self.MIN_LOGITS:
            self._flush()

    def _joined(self) -> tuple[Tensor, Tensor]:
        """Return the logits and classes of all that is pending."""
        if len(self.pending) == 1:
            return self.pending[0]
        logits, classes = zip(*self.pending, strict=True)
        return torch.cat(logits), torch.cat(classes)

    def _flush(self) -> None:
        try:
            predictions = [to_predictions(*self._joined())]
        except torch.OutOfMemoryError:  # nothing was added yet: go on in smaller parts
            torch.cuda.empty_cache()
            predictions = [predictions_in_parts(logits, classes) for logits, classes in self.pending]
        self.parts += predictions
        self.pending, self.size = [], 0

    def result(self) -> Predictions:
        """Return the predictions (rows,) for all that was appended, in its order."""
        if self.pending:
            self._flush()
        if not self.parts:
            nothing = torch.zeros(0, dtype=torch.float64, device=self.device)
            return Predictions(nothing, nothing.bool())
        return concatenated(self.parts)


BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}


def substitute(x: Tensor, base: Tensor, masks: Tensor) -> Tensor:
    """Return x (b, ...) with `base` (b or 1, ...) where masks (s, b or 1, ...) or (b, ...) are True.

    On a CPU x + (base - x) * mask is computed on the bits as integers, which is exact: torch.where branches at each
    element, and takes 10 times as long where masks are random.
    """
    base = base.to(x.dtype)
    if x.device.type != "cpu":
        return torch.where(masks, base, x)
    kind = BITS[x.element_size()]
    bits = x.view(kind)
    made = masks.to(kind).expand(torch.broadcast_shapes(masks.shape, x.shape)).contiguous()
    return torch.addcmul(bits, base.view(kind) - bits, made, out=made).view(x.dtype)


def watched(logits: Tensor, target: Tensor | None) -> Tensor:
    """Return the classes to watch: those predicted (n,) from logits (n, C) of whole inputs; with a target, (n, 2).

    Raises:
        DataError: a target is not among the C classes.
    """
    predicted = logits.argmax(-1)
    if target is None:
        return predicted
    if bool(((target < 0) | (target >= logits.shape[1])).any()):
        raise DataError(
            f"expected targets among the model's {logits.shape[1]} classes, numbered from 0, got "
            f"{int(target.min())} to {int(target.max())}"
        )
    return torch.stack([target, predicted], 1)


def to_predictions(logits: Tensor, classes: Tensor) -> Predictions:
    """Return the target's probability under logits, float64, and whether the class predicted is still the highest.

    The probability is NaN where any logit is not finite, that of another class too. Few classes are summed along the
    long axis, which is 5 times faster.

    Args:
        logits: (n, C).
        classes: the target (n,), which is also the class predicted; or (n, 2), target and class predicted.
    """
    target, predicted = (classes, classes) if classes.dim() == 1 else classes.unbind(1)
    along = 0 if logits.shape[1] <= 32 else 1
    by_class = logits if along else logits.T
    by_class = by_class.to(torch.float64, memory_format=torch.contiguous_format)
    highest = by_class.amax(along)
    own = by_class.gather(along, predicted.unsqueeze(along)).squeeze(along)
    prob = by_class.softmax(along).gather(along, target.unsqueeze(along)).squeeze(along)
    unknown = ~(highest + by_class.amin(along)).isfinite()
    return Predictions(prob.masked_fill_(unknown, float("nan")), highest <= own)


def predictions_in_parts(logits: Tensor, classes: Tensor) -> Predictions:
    """Return what `to_predictions` does, in as many parts as memory asks for."""
    try:
        return to_predictions(logits, classes)
    except torch.OutOfMemoryError:
        if len(logits) == 1:
            raise
        torch.cuda.empty_cache()
    middle = len(logits) // 2
    return concatenated(
        [
            predictions_in_parts(logits[:middle], classes[:middle]),
            predictions_in_parts(logits[middle:], classes[middle:]),
        ]
    )


def concatenated(parts: list[Predictions]) -> Predictions:
    """Return predictions for rows, one after the other."""
    return Predictions(torch.cat([part.prob for part in parts]), torch.cat([part.same_class for part in parts]))
