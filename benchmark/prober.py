"""How the model is asked about removal sets, and where answers are looked up instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.errors import DataError
from benchmark.probes import Listed, Removals, all_subsets
from benchmark.types import Baseline, Precision, Task

BLOCK = 2**23
"""Bytes of rows that are made together for several forwards: making few at a time is slow."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The target's probability (B, S) float64 and whether the predicted class is still the target (B, S)."""

    prob: Tensor
    kept: Tensor

    def __getitem__(self, key: object) -> Answers:
        """Index both alike."""
        return Answers(self.prob[key], self.kept[key])  # type: ignore[index]

    def gather(self, which: Tensor) -> Answers:
        """Return the answers to sets `which` (..., B, n) of each sample; leading dimensions look up the same."""
        shape = (*which.shape[:-1], self.prob.shape[-1])
        return Answers(self.prob.expand(shape).gather(-1, which), self.kept.expand(shape).gather(-1, which))

    def view(self, *shape: int) -> Answers:
        """View both alike."""
        return Answers(self.prob.view(shape), self.kept.view(shape))


class Prober:
    """Asks a task's model about removal sets, packing rows of all samples into full forwards.

    `byte_budget` bounds the memory of one forward: rows a forward = budget / what one row holds (`bytes_per_row`).
    By default it is 2 GiB on a GPU; on a CPU 8 MiB, about what caches hold, or the size of the weights where that is
    more. It does not follow from timings, so that the same machine always packs alike. Out of memory on a GPU halves
    the rows and goes on; `halvings` counts that. `precision` bf16 runs the model under autocast.
    """

    def __init__(self, task: Task, byte_budget: int | None = None, precision: Precision = "fp32") -> None:
        self.task, self.precision, self.halvings = task, precision, 0
        weights = list(task.model.parameters())
        self.device = task.test.x.device
        held = sum(weight.nelement() * weight.element_size() for weight in weights)
        self.byte_budget = byte_budget or (max(2**23, held) if self.device.type == "cpu" else 2**31)
        self._rows: int | None = None

    def rows_per_forward(self, x: Tensor) -> int:
        """Return how many rows like those of x fit one forward."""
        if self._rows is None:
            self._rows = max(1, min(2**17, self.byte_budget // bytes_per_row(self.task.model, x)))
        return self._rows

    def packing(self) -> dict[str, int]:
        """Return what a record says of how rows were packed."""
        return {"rows_per_forward": self._rows or 0, "byte_budget": self.byte_budget, "halvings": self.halvings}

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
    def clean(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predicted class (B,) and its probability (B,) float64 on whole inputs."""
        logits = self._all_logits(x)
        target = logits.argmax(-1)
        return target, judge(logits, target).prob

    @torch.inference_mode()
    def clean_and_empty(self, x: Tensor) -> tuple[Tensor, Tensor, Answers]:
        """Return what `clean` does, and the answers (B, 1) where every feature is removed."""
        emptied = self.task.remove(x, self.task.removal.valid(x))
        whole, empty = self._all_logits(torch.cat([x, emptied])).chunk(2)
        target = whole.argmax(-1)
        return target, judge(whole, target).prob, judge(empty, target)[:, None]

    def _all_logits(self, x: Tensor) -> Tensor:
        parts: list[Tensor] = []

        def answer(size: int) -> None:
            done = sum(map(len, parts))
            parts.append(self.logits(x[done : done + size]))

        while sum(map(len, parts)) < len(x):
            self._try(x, answer)
        return torch.cat(parts)

    @torch.inference_mode()
    def ask(self, x: Tensor, target: Tensor, removals: Removals, kind: Baseline = "removal") -> Answers:
        """Return the model's answers for every counted removal set; uncounted ones answer 0 and False."""
        batch, sets = removals.shape
        baseline = self.task.removal.baseline(x, kind)
        court = _Court(x.device)
        if removals.counted is None:
            self._ask_blocks(x, target, removals, baseline, court)
            found = court.verdict().view(sets, batch)
            return Answers(found.prob.T.contiguous(), found.kept.T.contiguous())
        rows = removals.counted.flatten().nonzero().squeeze(1)
        self._ask_rows(x, target, removals, baseline, rows, court)
        found = court.verdict()
        prob = found.prob.new_zeros(batch * sets).scatter(0, rows, found.prob)
        kept = found.kept.new_zeros(batch * sets).scatter(0, rows, found.kept)
        return Answers(prob, kept).view(batch, sets)

    def _ask_blocks(self, x: Tensor, target: Tensor, removals: Removals, baseline: Tensor, court: _Court) -> None:
        """Ask about whole sets, all samples each, or where samples are too many, about some of them at a time."""
        batch, sets = removals.shape
        at_once = max(self.rows_per_forward(x), BLOCK // x[:1].nbytes)
        width, height = min(batch, at_once), max(1, at_once // batch)
        for begin in range(0, sets, height):
            for first in range(0, batch, width):
                samples = slice(first, min(batch, first + width))
                masks = removals.block(samples, slice(begin, min(sets, begin + height)))
                masks = self.task.removal.expand(masks.flatten(0, 1)).unflatten(0, masks.shape[:2])
                base = baseline if len(baseline) == 1 else baseline[samples]
                rows = substitute(x[samples], base, masks).flatten(0, 1)
                self._forward(rows, target[samples].expand(len(masks), -1).flatten(), court)

    def _ask_rows(
        self, x: Tensor, target: Tensor, removals: Removals, baseline: Tensor, rows: Tensor, court: _Court
    ) -> None:
        """Ask about chosen pairs of sample and set, `rows` = sample * sets + set."""
        at_once = max(self.rows_per_forward(x), BLOCK // x[:1].nbytes)
        for pack in rows.split(at_once):
            sample, which = pack // removals.shape[1], pack % removals.shape[1]
            masks = self.task.removal.expand(removals.removed(sample, which))
            base = baseline if len(baseline) == 1 else baseline.index_select(0, sample)
            asked = substitute(x.index_select(0, sample), base, masks)
            self._forward(asked, target.index_select(0, sample), court)

    def _forward(self, rows: Tensor, target: Tensor, court: _Court) -> None:
        """Ask about rows in forwards of equal size."""
        place = 0

        def answer(size: int) -> None:
            nonlocal place
            left = len(rows) - place
            part = slice(place, place + -(-left // -(-left // size)))
            court.hear(self.raw_logits(rows[part]), target[part])
            place = part.stop

        while place < len(rows):
            self._try(rows, answer)

    def _try(self, x: Tensor, answer: Callable[[int], None]) -> None:
        """Call `answer` with the rows a forward may have; where memory runs out, halve them for the next try."""
        size = self.rows_per_forward(x)
        try:
            answer(size)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            self._rows = max(1, size // 2)
            self.halvings += 1
            torch.cuda.empty_cache()

    def value_table(self, x: Tensor) -> tuple[Tensor, Answers]:
        """Return the predicted class (B,) and the answers to all 2^G removal sets (B, 2^G), as in `all_subsets`."""
        target, clean = self.clean(x)
        masks = all_subsets(self.task.n_features, x.device).unsqueeze(1)
        rest = self.ask(x, target, Listed(masks[1:], len(x)))
        prob = torch.cat([clean.unsqueeze(1), rest.prob], 1)
        return target, Answers(prob, torch.cat([torch.ones_like(rest.kept[:, :1]), rest.kept], 1))


class _Court:
    """Turns the logits of many forwards into answers, a large number at a time: small forwards are costly to judge."""

    BENCH = 2**14
    """Logits that wait to be judged together."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.heard = 0
        self.parts: list[Answers] = []

    def hear(self, logits: Tensor, target: Tensor) -> None:
        """Take the logits (n, C) of the next rows and the class (n,) watched in each."""
        self.waiting.append((logits, target))
        self.heard += logits.nelement()
        if self.heard >= self.BENCH:
            self._judge()

    def _judge(self) -> None:
        alone = self.waiting[0] if len(self.waiting) == 1 else None
        logits, target = alone or (torch.cat(column) for column in zip(*self.waiting, strict=True))
        self.parts.append(judge(logits, target))
        self.waiting, self.heard = [], 0

    def verdict(self) -> Answers:
        """Return the answers (rows,) to all that was heard, in its order."""
        if self.waiting:
            self._judge()
        if not self.parts:
            nothing = torch.zeros(0, dtype=torch.float64, device=self.device)
            return Answers(nothing, nothing.bool())
        return Answers(torch.cat([part.prob for part in self.parts]), torch.cat([part.kept for part in self.parts]))


BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}


def substitute(x: Tensor, base: Tensor, masks: Tensor) -> Tensor:
    """Return x (b, ...) with `base` (b or 1, ...) where masks (s, b or 1, ...) or (b, ...) are True.

    On a CPU x + (base - x) * mask is computed on the bits as integers, which is exact: torch.where branches at each
    element, and takes 10 times as long where masks are random.
    """
    if x.device.type != "cpu":
        return torch.where(masks, base, x)
    kind = BITS[x.element_size()]
    bits = x.view(kind)
    made = masks.to(kind).expand(torch.broadcast_shapes(masks.shape, x.shape)).contiguous()
    return torch.addcmul(bits, base.view(kind) - bits, made, out=made).view(x.dtype)


def judge(logits: Tensor, target: Tensor) -> Answers:
    """Return the probability of `target` (n,) under logits (n, C), in float64, and whether no class has a higher logit.

    Few classes are summed along the long axis, which is 5 times faster.
    """
    along = 0 if logits.shape[1] <= 32 else 1
    classes = logits if along else logits.T
    classes, watched = classes.to(torch.float64, memory_format=torch.contiguous_format), target.unsqueeze(along)
    kept = classes.amax(along) <= classes.gather(along, watched).squeeze(along)
    return Answers(classes.softmax(along).gather(along, watched).squeeze(along), kept)


def bytes_per_row(model: nn.Module, x: Tensor) -> int:
    """Return what one row of a forward holds at its peak: 3 x the largest layer output + 2 x the input.

    Raises:
        DataError: the model gives anything but logits (B, C) of two classes or more.
    """
    largest = 0

    def measure(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.nelement() * output.element_size())

    hooks = [module.register_forward_hook(measure) for module in model.modules() if module is not model]
    try:
        with torch.inference_mode():
            shape = tuple(bare(model)(x[:1]).shape)
    finally:
        for hook in hooks:
            hook.remove()
    if len(shape) != 2 or shape[1] < 2:
        raise DataError(
            f"a model must give logits of shape (batch, classes) with at least two classes, got {shape} for one sample"
        )
    return max(1, 3 * largest + 2 * x[:1].nelement() * x.element_size())


def bare(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the model's forward without the hooks on the model itself, so that a meter does not count it."""
    return model.forward
