"""The ten metrics by Quantus and Captum, or by plain loops, one sample at a time.

Quantus sees each sample alone as an image (1, 1, 1, n) of its own features, without softmax, with our baseline
written back by `perturb_func`: this avoids its batch-dependent baselines, its channel handling and its padding.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.core.errors import DataError
from benchmark.core.types import Task
from benchmark.inspection.crosscheck.loops import places

INSTALL = "pip install 'deepfaith-benchmark[crosscheck]' (or pip install '.[crosscheck]' in a checkout)"


def load_quantus() -> Any:
    """Return the quantus module.

    Raises:
        DataError: it is not installed, or not with a numpy it works with.
    """
    try:
        import quantus
    except ImportError as error:
        raise DataError(f"the cross-check needs Quantus, which could not be imported ({error}): {INSTALL}") from error
    if not hasattr(np, "trapz"):
        raise DataError(f"Quantus 0.6 needs numpy < 2.4, this is {np.__version__}: {INSTALL}")
    return quantus


class AsImage(nn.Module):
    """A task's model as Quantus wants it: (b, 1, h, w) values of one sample's features -> logits."""

    def __init__(self, task: Task, x: Tensor, features: list[int]) -> None:
        super().__init__()
        self.task, self.x, self.features = task, x, features

    def forward(self, values: Tensor) -> Tensor:
        """Put the values of the features into the sample and ask the model."""
        rows = self.x.repeat(len(values), *[1] * self.x.dim()).flatten(1)
        rows[:, self.features] = values.flatten(1).to(rows.dtype)
        return self.task.model(rows.view(len(values), *self.x.shape))


@dataclass(frozen=True, eq=False)
class Sample:
    """One input, its attribution and its random subsets, as NumPy; what every reference starts from.

    `subsets` and `coins` are the removal sets of FC and INF, as positions among the sample's own features.
    """

    task: Task
    x: Tensor
    features: list[int]
    s: np.ndarray
    subsets: list[np.ndarray]
    coins: list[np.ndarray]
    enumerated: bool

    @property
    def n(self) -> int:
        """Return the number of features."""
        return len(self.features)

    @property
    def step(self) -> int:
        """Return the features removed in each step; all steps are of one size in our cases."""
        steps = min(self.task.budget.steps, self.n)
        assert self.n % steps == 0, "Quantus wants steps of one size"
        return self.n // steps

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the shape Quantus sees."""
        return (1, 1, 8, 8) if self.x.dim() == 3 else (1, 1, 1, self.n)

    def flat(self, x: Tensor) -> np.ndarray:
        """Return the values of the sample's features in x."""
        return x.flatten()[self.features].cpu().numpy().astype(self.number)

    @property
    def number(self) -> type:
        """Return the floating-point type that the case is checked in."""
        parameter = next(iter(self.task.model.parameters()))
        return np.float64 if parameter.dtype == torch.float64 else np.float32

    def baseline(self, insertion: bool = False) -> np.ndarray:
        """Return what stands in each feature's place when it is removed."""
        base = self.task.removal.baseline(self.x.unsqueeze(0), "insertion" if insertion else "removal")
        return self.flat(base[0].expand_as(self.x))

    def model(self) -> AsImage:
        """Return the model as Quantus sees it."""
        return AsImage(self.task, self.x, self.features).eval()

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Return all class probabilities with the given values of the features."""
        with torch.no_grad():
            logits = self.model()(torch.as_tensor(values).view(1, -1))[0].double().cpu().numpy()
        exps = np.exp(logits - logits.max())
        return exps / exps.sum()

    def without(self, removed: np.ndarray) -> np.ndarray:
        """Return all class probabilities with the features at positions `removed` at their baseline."""
        values = self.flat(self.x).copy()
        values[removed] = self.baseline()[removed]
        return self.probabilities(values)

    @property
    def target(self) -> int:
        """Return the predicted class."""
        return int(self.probabilities(self.flat(self.x)).argmax())

    @property
    def order(self) -> np.ndarray:
        """Return the features from most to least relevant."""
        return np.argsort(-self.s)

    def until_flip(self, order: np.ndarray) -> int:
        """Return t: the first number of steps after which another class is predicted, or all of them."""
        steps = self.n // self.step
        for k in range(1, steps + 1):
            if int(self.without(order[: k * self.step]).argmax()) != self.target:
                return k
        return steps


def _writing(values: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a `perturb_func` for Quantus that writes `values` at the given places."""

    def perturb(arr: np.ndarray, indices: Any = None, mask: np.ndarray | None = None, **_: Any) -> np.ndarray:
        changed = np.array(arr, copy=True)
        if mask is not None:  # IROF
            full = np.broadcast_to(values.reshape(arr.shape), arr.shape)
            return np.where(np.broadcast_to(mask, arr.shape), full, changed)
        places = np.asarray(indices).reshape(len(arr), -1) if not isinstance(indices, tuple) else indices
        if isinstance(places, tuple):
            changed[places] = values[np.asarray(places[-1])]
            return changed
        for row, at in zip(changed, places, strict=True):
            row[at] = values[at]
        return changed

    return perturb


def _ask(metric: Any, sample: Sample, attribution: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """Call a Quantus metric on one sample and return what it gives, as an array."""
    start = sample.flat(sample.x) if start is None else start
    with _default_type(sample.number):
        result = metric(
            model=sample.model(),
            x_batch=start.reshape(sample.shape),
            y_batch=np.array([sample.target]),
            a_batch=attribution.astype(sample.number).reshape(sample.shape),
            softmax=True,
            channel_first=True,
            batch_size=1,
            device="cpu",
        )
    return np.asarray(result, dtype=np.float64).squeeze(0)


@contextlib.contextmanager
def _default_type(number: type) -> Iterator[None]:
    """Quantus builds tensors of torch's default type, whatever it is given."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if number is np.float64 else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _options(sample: Sample, insertion: bool = False, back: bool = False) -> dict[str, Any]:
    values = sample.flat(sample.x) if back else sample.baseline(insertion)
    return {
        "normalise": False,
        "abs": False,
        "return_aggregate": False,
        "disable_warnings": True,
        "perturb_func": _writing(values),
        "perturb_baseline": 0.0,
    }


def _curve(sample: Sample, attribution: np.ndarray) -> np.ndarray:
    """Return v_1..v_K by Quantus' PixelFlipping."""
    metric = load_quantus().PixelFlipping(features_in_step=sample.step, **_options(sample))
    return _ask(metric, sample, attribution)


def fc(sample: Sample) -> float:
    """FC by Quantus on our subsets."""
    quantus = load_quantus()
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=len(sample.subsets),
        subset_size=len(sample.subsets[0]),
        similarity_func=quantus.similarity_func.correlation_pearson,
        **_options(sample),
    )
    ours = iter(sample.subsets)
    with mock.patch("numpy.random.choice", lambda *_args, **_words: next(ours)):
        return float(_ask(metric, sample, sample.s))


def fe(sample: Sample) -> float:
    """FE by Quantus."""
    quantus = load_quantus()
    metric = quantus.FaithfulnessEstimate(
        features_in_step=sample.step, similarity_func=quantus.similarity_func.correlation_pearson, **_options(sample)
    )
    return float(_ask(metric, sample, sample.s))


def mc(sample: Sample) -> float:
    """MC by Quantus, its effects tied as ours; called with |s|, where both definitions of the groups are the same."""
    quantus = load_quantus()

    def spearman(a: np.ndarray, b: np.ndarray, **words: Any) -> Any:
        whole, groups = sample.probabilities(sample.flat(sample.x)), np.argsort(sample.s).reshape(-1, sample.step)
        answers = [sample.without(group)[sample.target] for group in groups]
        place = np.array(places(whole[sample.target], answers))
        tied = np.array([b[0, place == each].min() for each in place])
        return quantus.similarity_func.correlation_spearman(a=a, b=tied[None], **words)

    metric = quantus.MonotonicityCorrelation(
        nr_samples=1, eps=1e-12, features_in_step=sample.step, similarity_func=spearman, **_options(sample)
    )
    return float(_ask(metric, sample, sample.s))


def deletion(sample: Sample) -> float:
    """DEL: mean of the PixelFlipping curve."""
    return float(_curve(sample, sample.s).mean())


def negative(sample: Sample) -> float:
    """NEG: mean of the PixelFlipping curve of max(s) - s, up to our own flip."""
    return float(_curve(sample, sample.s.max() - sample.s)[: sample.until_flip(sample.order[::-1])].mean())


def positive(sample: Sample) -> float:
    """POS: mean of the PixelFlipping curve up to our own flip."""
    return float(_curve(sample, sample.s)[: sample.until_flip(sample.order)].mean())


def insertion(sample: Sample) -> float:
    """INS: PixelFlipping that starts at the insertion baseline and writes the original values back."""
    metric = load_quantus().PixelFlipping(features_in_step=sample.step, **_options(sample, back=True))
    return float(_ask(metric, sample, sample.s, start=sample.baseline(insertion=True)).mean())


def region(sample: Sample) -> float:
    """RP by RegionPerturbation with regions of one feature."""
    metric = load_quantus().RegionPerturbation(
        patch_size=1, order="morf", regions_evaluation=sample.n, **_options(sample)
    )
    return float(_ask(metric, sample, sample.s).sum() / (sample.n + 1))


def irof(sample: Sample) -> float:
    """IROF with our groups as segments: Quantus gives K - trapezoid(r_1..r_K), ours is 1 - mean(r_1..r_K)."""
    groups = np.empty(sample.n, dtype=int)
    groups[sample.order] = np.arange(sample.n) // sample.step
    segments = groups.reshape(sample.shape[2:])
    metric = load_quantus().IROF(**_options(sample))
    with mock.patch("quantus.helpers.utils.get_superpixel_segments", lambda **_: segments):
        by_quantus = float(_ask(metric, sample, sample.s))
    v0 = sample.without(np.array([], dtype=int))[sample.target]
    first, last = (sample.without(sample.order[:k])[sample.target] / v0 for k in (sample.step, sample.n))
    return float((by_quantus - (first + last) / 2) / (sample.n // sample.step))


def _pearson(masses: list[float], drops: list[float]) -> float:
    """Pearson's r, written out."""
    a, b = sum(masses) / len(masses), sum(drops) / len(drops)
    top = sum((x - a) * (y - b) for x, y in zip(masses, drops, strict=True))
    return top / math.sqrt(sum((x - a) ** 2 for x in masses)) / math.sqrt(sum((y - b) ** 2 for y in drops))


def _by_loop(sample: Sample, sets: list[np.ndarray]) -> float:
    v0 = sample.without(np.array([], dtype=int))[sample.target]
    drops = [float(v0 - sample.without(removed)[sample.target]) for removed in sets]
    return _pearson([float(sample.s[removed].astype(np.float64).sum()) for removed in sets], drops)


def inf_by_loop(sample: Sample) -> float:
    """INF's Pearson form by a loop over our subsets: no library has it."""
    return _by_loop(sample, sample.coins)


def fc_by_enumeration(sample: Sample) -> float:
    """FC over all subsets of its size, by itertools."""
    size = len(sample.subsets[0])
    return _by_loop(sample, [np.array(c) for c in itertools.combinations(range(sample.n), size)])


def inf_by_enumeration(sample: Sample) -> float:
    """INF over all subsets, by itertools."""
    sizes = range(sample.n + 1)
    subsets = itertools.chain.from_iterable(itertools.combinations(range(sample.n), size) for size in sizes)
    return _by_loop(sample, [np.array(c, dtype=int) for c in subsets])


def infidelity_by_captum(sample: Sample) -> float:
    """Yeh's squared error on INF's own subsets, by captum.metrics.infidelity."""
    from captum.metrics import infidelity

    kind = torch.float64 if sample.number is np.float64 else torch.float32
    base = torch.as_tensor(sample.baseline(), dtype=kind)
    masks = torch.zeros(len(sample.coins), sample.n, dtype=kind)
    for row, removed in zip(masks, sample.coins, strict=True):
        row[removed] = 1
    model = sample.model()
    values = torch.as_tensor(sample.flat(sample.x), dtype=kind).unsqueeze(0)

    def perturb(inputs: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        return masks, torch.where(masks > 0, base, inputs)

    squared_error = infidelity(
        lambda v: model(v).softmax(-1), perturb, values, torch.as_tensor(sample.s, dtype=kind).unsqueeze(0),
        target=sample.target, n_perturb_samples=len(masks),
    )  # fmt: skip
    return float(squared_error)


def infidelity_by_quantus(sample: Sample) -> float:
    """Yeh's squared error on sets that grow in raster order, by Quantus; it multiplies attributions by x - b."""
    quantus = load_quantus()
    metric = quantus.Infidelity(perturb_patch_sizes=[1], n_perturb_samples=1, **_options(sample))
    gap = sample.flat(sample.x) - sample.baseline()
    return float(_ask(metric, sample, sample.s / gap))
