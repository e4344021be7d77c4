"""The boundary between the evaluator and a method: what goes in, what comes out, and what must stay as it was.

A method is given a task without test rows (`for_methods`); what it returns is checked and copied (`check_attribution`);
and a `Guard` makes sure that it leaves task, model and process as it found them.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.core.errors import BenchmarkError
from benchmark.core.identity import layer_settings, removal_state
from benchmark.core.seeding import seed_for, seeded
from benchmark.core.types import Modality, Split, Task

HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip


KINDS = {"_parameters": "the weights", "_buffers": "the buffers", "__dict__": "the settings"}
"""Where a module holds tensors, and what they are called."""


class BadAttributionError(BenchmarkError):
    """A method returned something that is no attribution."""


class ChangedTaskError(BenchmarkError):
    """A method left the task in another state than it found it in."""


def for_methods(task: Task) -> Task:
    """Return the task that methods are given: it has no test rows, and does not tell where evidence was planted.

    Nor which classes of test rows are explained: a method is told with each batch.
    """
    none = Split(task.test.x[:0].clone(), task.test.y[:0].clone())
    return replace(task, test=none, evidence=None, target="predicted", provenance=copy.deepcopy(task.provenance))


HELD_OUT: dict[Modality, int] = {"table": 100, "text": 40, "image": 16}
"""Training rows that judge when methods are tuned, at most, and never more than a third of all."""


def for_tuning(task: Task) -> Task:
    """Return a task whose test rows are some of its training rows, which it has no longer for training.

    The test rows of the task are not in it, so that nothing that is given it can read one.
    """
    count = len(task.train.x)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_for(0, task.name, "tuning")))
    order = order.to(task.train.x.device)
    held = order[: min(HELD_OUT[task.modality], count // 3)]
    rest = order[len(held) :].sort().values
    train, judging = (Split(task.train.x[rows].clone(), task.train.y[rows].clone()) for rows in (rest, held))
    return replace(task, train=train, test=judging, evidence=None, target="predicted")


def check_attribution(attribution: object, shape: tuple[int, int]) -> Tensor:
    """Return a copy of an attribution, detached, as float32 or float64.

    Args:
        attribution: what a method returned.
        shape: (B, G), which it must have.

    Raises:
        BadAttributionError: not a tensor, another shape than `shape`, or complex or integer numbers.
    """
    if not isinstance(attribution, Tensor):
        raise BadAttributionError(
            f"expected an attribution of shape {shape}, got {type(attribution).__name__}: return a tensor"
        )
    if tuple(attribution.shape) != shape:
        raise BadAttributionError(
            f"expected an attribution of shape {shape} (samples, features), got {tuple(attribution.shape)}"
        )
    if not attribution.is_floating_point():
        raise BadAttributionError(f"expected a floating-point attribution, got {attribution.dtype}")
    detached = attribution.detach().clone()  # a method may use its tensor again
    return detached if detached.dtype == torch.float64 else detached.float()


class Guard:
    """Watches methods at work on a task, and names what one of them leaves changed.

    The model is put back: weights, buffers, settings, hooks and layers. Rows and removal baselines are not, since a
    copy of them may not fit; `intact` is False where they were changed, or where the model could not be put back, and
    the task has to be built anew.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.intact = task, True
        self._layers = {name: _Layer(module) for name, module in task.model.named_modules()}
        self._rows = {name: _fingerprint(tensor) for name, tensor in self._shared().items()}

    def ignore_own_changes(self) -> None:
        """Let pass from now on what the model's own forwards have changed since this guard was made: a counter, say."""
        for layer in self._layers.values():
            layer.ignore_own_changes()

    @contextmanager
    def watch(self, seed: int) -> Iterator[None]:
        """Run a block under seeded global generators, which are put back, and see that it leaves the task as it was.

        Raises:
            ChangedTaskError: it did not, or an earlier block did not and the task could not be put back.
        """
        if not self.intact:
            raise ChangedTaskError("a method before this one changed the task for good: build the task anew")
        before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
        place, casts = os.getcwd(), [(kind, torch.is_autocast_enabled(kind)) for kind in ("cpu", "cuda")]
        try:
            with seeded(seed), redirect_stdout(sys.stderr):  # where no result of ours is
                yield
        finally:
            torch.set_default_dtype(before[0])
            torch.set_grad_enabled(before[1])
            if torch.get_num_threads() != before[2]:
                torch.set_num_threads(before[2])
            for kind, enabled in casts:
                torch.set_autocast_enabled(kind, enabled)
            os.chdir(place)
            changed = self._changed()
            if changed:
                for layer in self._layers.values():
                    layer.restore()
                self.intact = self._changed() is None
        if changed:
            raise ChangedTaskError(f"it changed {changed}: a method must leave what it is given as it was")

    def _changed(self) -> str | None:
        """Return what is no longer as it was, or None."""
        rows = {name: _fingerprint(tensor) for name, tensor in self._shared().items()}
        now = dict(self.task.model.named_modules())
        if now.keys() != self._layers.keys():
            return "the layers of the model"
        for name, layer in self._layers.items():
            if what := layer.changed(now[name]):
                return f"{what} of the model" + (f" (layer {name})" if name else "")
        changed_rows = [name for name in self._rows.keys() | rows.keys() if self._rows.get(name) != rows.get(name)]
        return f"the {sorted(changed_rows)[0]} of the task" if changed_rows else None

    def _shared(self) -> dict[str, Tensor]:
        """Return the tensors that methods share with the evaluator, by what they are."""
        tensors = {f"removal's {name}": value for name, value in removal_state(self.task.removal)[1].items()}
        return {"training rows": self.task.train.x, "training labels": self.task.train.y} | tensors


class _Layer:
    """One module as it was: parameters and buffers with copies of their contents, children, mode and hooks."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind, self.forward = module, type(module), vars(module).get("forward")
        self.code = type(module).forward
        self.settings, others = layer_settings(module)
        self.ignored: set[str] = set()
        self.children = dict(module._modules)
        self.tensors: dict[str, dict[str, Tensor | None]] = {
            "_parameters": dict(module._parameters), "_buffers": dict(module._buffers),
        }  # fmt: skip
        self.tensors |= {"__dict__": dict(others)}
        self.contents = {
            (kind, name): (tensor.detach().clone(), tensor.requires_grad)
            for kind, named in self.tensors.items()
            for name, tensor in named.items()
            if tensor is not None
        }
        self.hooks = {name: dict(vars(module)[name]) for name in HOOKS if name in vars(module)}

    def ignore_own_changes(self) -> None:
        """Forget buffers and settings that are no longer as they were."""
        now = layer_settings(self.module)[0]
        self.settings = {name: value for name, value in self.settings.items() if name in now and now[name] == value}
        self.ignored |= now.keys() - self.settings.keys()
        for kind in ("_buffers", "__dict__"):
            for name, tensor in getattr(self.module, kind).items():
                known = self.contents.get((kind, name))
                if known is not None and not _same(tensor, known[0]):
                    del self.contents[kind, name]
                    self.tensors[kind][name] = tensor

    def changed(self, now: nn.Module) -> str | None:
        """Return what of the module is no longer as it was, or None."""
        if (
            now is not self.module
            or type(now) is not self.kind
            or type(now).forward is not self.code
            or _names(now._modules) != _names(self.children)
            or vars(now).get("forward") is not self.forward
        ):
            return "the layers"
        if now._parameters.keys() != self.tensors["_parameters"].keys():
            return "the weights"
        if layer_settings(now)[1].keys() != self.tensors["__dict__"].keys():
            return "the settings"
        for (kind, name), (content, wants) in self.contents.items():
            tensor = getattr(now, kind).get(name)
            if not isinstance(tensor, Tensor) or not _same(tensor, content):
                return KINDS[kind]
            if tensor.requires_grad != wants:
                return "whether gradients are taken of the weights"
        settings = {name: value for name, value in layer_settings(now)[0].items() if name not in self.ignored}
        if settings != self.settings:
            return "the mode" if settings.get("training") != self.settings["training"] else "the settings"
        return (
            "the hooks" if any(_names(vars(now)[name]) != _names(hooks) for name, hooks in self.hooks.items()) else None
        )

    def restore(self) -> None:
        """Put the module back."""
        module = self.module
        module.__class__ = self.kind
        if self.kind.forward is not self.code:
            self.kind.forward = self.code
        plain, tensors = layer_settings(module)
        known = self.settings.keys() | self.tensors["__dict__"].keys() | self.ignored
        for name in (plain.keys() | tensors.keys()) - known:
            del vars(module)[name]
        vars(module).update(self.settings)
        if vars(module).get("forward") is not self.forward:
            vars(module).pop("forward", None)
            vars(module).update({} if self.forward is None else {"forward": self.forward})
        _refill(module._modules, self.children)
        for kind in ("_parameters", "_buffers"):
            _refill(getattr(module, kind), self.tensors[kind])
        vars(module).update(self.tensors["__dict__"])
        for (kind, name), (content, wants) in self.contents.items():
            tensor = self.tensors[kind][name]
            assert tensor is not None
            if tensor.shape != content.shape or tensor.dtype != content.dtype:
                tensor.data = content.clone()
            elif not _same(tensor, content):
                tensor.data.copy_(content)  # in its place, which others may share
            if tensor.requires_grad != wants:
                tensor.requires_grad_(wants)
        for name, hooks in self.hooks.items():
            _refill(vars(module)[name], hooks)


def _refill(named: dict[str, Any], former: dict[str, Any]) -> None:
    """Give a dictionary that others hold, too, the content it had."""
    if _names(named) != _names(former):
        named.clear()
        named.update(former)


def _names(named: dict[str, Any]) -> list[tuple[str, int]]:
    """Return which objects a dictionary holds, in its order: tensors are not compared by their contents here."""
    return [(name, id(value)) for name, value in named.items()]


def _same(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors are the same to the bit."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(_bits(a), _bits(b))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _fingerprint(tensor: Tensor) -> tuple[Any, ...]:
    """Return what tells whether a tensor was written to: its version, and for what has none sums over its bits.

    Each row counts by its place, so that rows that change places are seen.
    """
    bits = _bits(tensor)
    count = len(tensor) if tensor.dim() and len(tensor) else 1
    words = bits.view(torch.int32) if len(bits) % (4 * count) == 0 else bits
    rows = words.view(count, -1).sum(1, dtype=torch.int64)
    version = 0 if tensor.is_inference() else tensor._version
    placed = rows * torch.arange(1, len(rows) + 1, device=rows.device)
    return tuple(tensor.shape), tensor.dtype, version, int(rows.sum()), int(placed.sum())
