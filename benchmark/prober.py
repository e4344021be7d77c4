"""How the model is asked about removal sets, and where answers are looked up instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.errors import DataError
from benchmark.probes import Listed, Removals, all_subsets
from benchmark.types import Baseline, Precision, Task


@dataclass(frozen=True, eq=False)
class Answers:
    """The target's probability (B, S) float64 and whether the predicted class is still the target (B, S)."""

    prob: Tensor
    kept: Tensor

    def __getitem__(self, key: object) -> Answers:
        """Index both alike."""
        return Answers(self.prob[key], self.kept[key])  # type: ignore[index]

    def gather(self, which: Tensor) -> Answers:
        """Return the answers to sets `which` (B, n) of each sample."""
        return Answers(self.prob.gather(1, which), self.kept.gather(1, which))


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
        counted, (batch, sets) = removals.counted, removals.shape
        baseline = self.task.removal.baseline(x, kind)
        rows = None if counted is None else counted.flatten().nonzero().squeeze(1)
        court = _Court(target, sets, rows)
        if rows is None:
            self._ask_blocks(x, removals, baseline, court)
        else:
            self._ask_rows(x, removals, baseline, rows, court)
        prob, kept = court.verdict()
        if rows is not None:
            prob = prob.new_zeros(batch * sets).scatter(0, rows, prob)
            kept = kept.new_zeros(batch * sets).scatter(0, rows, kept)
        return Answers(prob.view(batch, sets), kept.view(batch, sets))

    def _ask_blocks(self, x: Tensor, removals: Removals, baseline: Tensor, court: _Court) -> None:
        """Ask about whole samples at a time, or where one has too many sets, about runs of its sets."""
        batch, sets = removals.shape
        place = 0  # sample * sets + set

        def answer(size: int) -> None:
            nonlocal place
            first, begin = divmod(place, sets)
            whole = min(size // sets, batch - first) if begin == 0 else 0
            samples = slice(first, first + max(1, whole))
            block = slice(begin, sets if whole else min(sets, begin + size))
            masks = removals.block(samples, block)
            b, s = masks.shape[:2]
            masks = self.task.removal.expand(masks.reshape(b * s, -1))
            masks = masks.view(b, s, *masks.shape[1:])
            base = baseline if len(baseline) == 1 else baseline[samples]
            rows = base.unsqueeze(1).where(masks, x[samples].unsqueeze(1)).flatten(0, 1)
            court.hear(self.raw_logits(rows))
            place += b * s

        while place < batch * sets:
            self._try(x, answer)

    def _ask_rows(self, x: Tensor, removals: Removals, baseline: Tensor, rows: Tensor, court: _Court) -> None:
        """Ask about chosen pairs of sample and set."""
        sets, place = removals.shape[1], 0

        def answer(size: int) -> None:
            nonlocal place
            pack = rows[place : place + size]
            sample, which = pack // sets, pack % sets
            masks = self.task.removal.expand(removals.removed(sample, which))
            base = baseline if len(baseline) == 1 else baseline.index_select(0, sample)
            court.hear(self.raw_logits(base.where(masks, x.index_select(0, sample))))
            place += len(pack)

        while place < len(rows):
            self._try(x, answer)

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
        rest = self.ask(x, target, Listed(all_subsets(self.task.n_features, x.device)[1:], len(x)))
        prob = torch.cat([clean.unsqueeze(1), rest.prob], 1)
        return target, Answers(prob, torch.cat([torch.ones_like(rest.kept[:, :1]), rest.kept], 1))


class _Court:
    """Turns the logits of many forwards into answers, a large number at a time: small forwards are costly to judge.

    Rows are heard in the order sample * sets + set, or in that of `rows`, which number them so.
    """

    BENCH = 2**18
    """Logits that wait to be judged together."""

    def __init__(self, target: Tensor, sets: int, rows: Tensor | None) -> None:
        self.target, self.sets, self.rows = target, sets, rows
        self.waiting: list[Tensor] = []
        self.judged = 0
        self.parts: list[Answers] = []

    def hear(self, logits: Tensor) -> None:
        """Take the logits (n, C) of the next rows."""
        self.waiting.append(logits)
        if sum(part.nelement() for part in self.waiting) >= self.BENCH:
            self._judge()

    def _judge(self) -> None:
        logits = torch.cat(self.waiting).double()
        span = slice(self.judged, self.judged + len(logits))
        rows = torch.arange(span.start, span.stop, device=logits.device) if self.rows is None else self.rows[span]
        self.parts.append(judge(logits, self.target.index_select(0, rows // self.sets)))
        self.judged, self.waiting = span.stop, []

    def verdict(self) -> tuple[Tensor, Tensor]:
        """Return what was heard as probabilities and whether classes are kept, both (rows,)."""
        if self.waiting:
            self._judge()
        none = self.target.new_zeros(0, dtype=torch.bool)
        prob = torch.cat([part.prob for part in self.parts]) if self.parts else none.double()
        return prob, torch.cat([part.kept for part in self.parts]) if self.parts else none


def judge(logits: Tensor, target: Tensor) -> Answers:
    """Return the probability of `target` (n,) under logits (n, C) and whether no class has a higher logit.

    It is 1 / sum of exp(z_j - z_target). Few classes are summed along the long axis, which is 5 times faster.
    """
    if logits.shape[1] <= 32:
        classes = logits.T.contiguous()
        ahead = classes - classes.gather(0, target.unsqueeze(0))
        return Answers(ahead.exp().sum(0).reciprocal(), ahead.amax(0) <= 0)
    ahead = logits - logits.gather(1, target.unsqueeze(1))
    return Answers(ahead.exp().sum(1).reciprocal(), ahead.amax(1) <= 0)


def look_up(table: Answers, removals: Removals, features: int) -> Answers:
    """Return the answers to `removals` from the value table (B, 2^G): exact, and no forward."""
    batch, sets = removals.shape
    bit = (1 << torch.arange(features, device=table.prob.device)).double()
    codes = removals.block(slice(0, batch), slice(0, sets)).double() @ bit  # exact: far under 2^53
    return table.gather(codes.long())


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
