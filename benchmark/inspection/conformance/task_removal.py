"""The laws of a removal: what it may replace, and by what."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.core.types import Baseline, Task
from benchmark.inspection.conformance.findings import Checks, Untried

TRIED, FEATURES = 4, 64
"""Test rows, and features of each, that are removed."""
KINDS: tuple[Baseline, ...] = ("removal", "insertion")
REMOVAL: Checks[Task] = Checks()


def _rows(task: Task) -> tuple[Tensor, Tensor]:
    """Return a few test rows, those with padding first, and where they have features."""
    valid = task.removal.valid(task.test.x)
    chosen = valid.sum(1).argsort()[:TRIED] if bool((~valid).any()) else torch.arange(min(TRIED, len(valid)))
    return task.test.x[chosen], valid[chosen]


@REMOVAL.add("tells features from padding, and each test row has a feature", vital=True)
def features(task: Task) -> str | None:
    """`valid` is (B, G) bool."""
    x = task.test.x
    valid, shape = task.removal.valid(x), (len(x), task.n_features)
    if tuple(valid.shape) != shape or valid.dtype != torch.bool:
        return f"removal.valid gives {tuple(valid.shape)} {valid.dtype}, expected {shape} torch.bool"
    if not bool(valid.any(1).all()):
        return f"{int((~valid.any(1)).sum())} test rows have no feature: drop empty inputs"
    if not task.removal.pads and not bool(valid.all()):
        return "removal.pads is False, and some test rows are padded: let it be True"
    return None


@REMOVAL.add("baselines and masks fit the inputs", vital=True)
def shapes(task: Task) -> str | None:
    """`baseline` is (1, ...) or (B, ...), of x's type; `expand` broadcasts against x."""
    x, valid = _rows(task)
    for kind in KINDS:
        found = task.removal.baseline(x, kind)
        if found.dtype != x.dtype or found.shape[1:] != x.shape[1:] or len(found) not in (1, len(x)):
            return (
                f"removal.baseline gives {tuple(found.shape)} {found.dtype} for {kind}, expected (1 or {len(x)}, "
                f"{', '.join(map(str, x.shape[1:]))}) {x.dtype}"
            )
    mask = task.removal.expand(valid)
    try:
        fits = torch.broadcast_shapes(mask.shape, x.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits or mask.dtype != torch.bool:
        return (
            f"removal.expand gives {tuple(mask.shape)} {mask.dtype}, which does not broadcast against {tuple(x.shape)}"
        )
    return None


@REMOVAL.add("removing nothing leaves an input as it is")
def nothing(task: Task) -> str | None:
    """To the bit."""
    x, valid = _rows(task)
    same = all(torch.equal(task.remove(x, torch.zeros_like(valid), kind), x) for kind in KINDS)
    return None if same else "an input from which nothing is removed is another: expand must keep False as False"


@REMOVAL.add("removing every feature gives the baseline")
def everything(task: Task) -> str | None:
    """Padding stays padding."""
    x, valid = _rows(task)
    for kind in KINDS:
        found, baseline = task.remove(x, valid, kind), task.removal.baseline(x, kind).expand_as(x)
        if bool(valid.all()):
            if not torch.equal(found, baseline):
                return f"an input from which every feature is removed is not the {kind} baseline"
        elif not torch.equal(task.removal.valid(found), valid):
            return f"removing words changes what is padding ({kind}): a removed word is still a place of the text"
    return None


@REMOVAL.add("a feature covers a place of its own, and together they cover all that is removed")
def places(task: Task) -> str | None:
    """Otherwise removing one feature removes another."""
    x, valid = _rows(task)
    x, valid = x[:1], valid[:1]
    numbers = valid[0].nonzero().flatten()[:FEATURES]
    single = torch.zeros(len(numbers), task.n_features, dtype=torch.bool)
    single[torch.arange(len(numbers)), numbers] = True
    covered = task.removal.expand(single).expand(len(numbers), *x.shape[1:]).flatten(1)
    if not bool(covered.any(1).all()):
        return f"feature {int(numbers[(~covered.any(1)).nonzero()[0, 0]])} covers nothing of the input"
    if bool((covered.sum(0) > 1).any()):
        return "two features cover one place of the input"
    whole = task.removal.expand(single.any(0, keepdim=True)).expand(1, *x.shape[1:]).flatten(1)[0]
    return None if torch.equal(covered.any(0), whole) else "features removed together cover other places than alone"


@REMOVAL.add("says rightly whether removal and insertion share a baseline")
def shared_baseline(task: Task) -> str | None:
    """INS is read off the LeRF curve then."""
    x, _ = _rows(task)
    same = torch.equal(*(task.removal.baseline(x, kind).expand_as(x) for kind in KINDS))
    if task.removal.shares_baseline and not same:
        return "removal.shares_baseline is True, and the two baselines differ: INS would be wrong"
    if same and not task.removal.shares_baseline:
        raise Untried("the two baselines are the same here: shares_baseline=True would save forward passes")
    return None


@REMOVAL.add("pools a gradient into one number a feature")
def pools(task: Task) -> str | None:
    """`pool` is (B, G)."""
    x, _ = _rows(task)
    raw = torch.ones(*x.shape, 2) if task.modality == "text" else torch.ones(x.shape)
    found, expected = tuple(task.removal.pool(raw).shape), (len(x), task.n_features)
    return None if found == expected else f"removal.pool gives {found} for {tuple(raw.shape)}, expected {expected}"
