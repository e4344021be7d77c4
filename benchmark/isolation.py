"""What a method is given is its own: a task without test rows, and a model that is seen to be as it was afterwards."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import BenchmarkError
from benchmark.seeding import seeded
from benchmark.types import Split, Task

HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip


class ChangedTaskError(BenchmarkError):
    """A method left the task in another state than it found it in."""


def for_methods(task: Task) -> Task:
    """Return the task that methods are given: it has no test rows, and does not tell where evidence was planted."""
    none = Split(task.test.x[:0].clone(), task.test.y[:0].clone())
    return replace(task, test=none, evidence=None, provenance=copy.deepcopy(task.provenance))


class Guard:
    """Watches methods at work on a task, and names what one of them leaves changed.

    The model is put back: weights, buffers, mode, hooks and layers. Rows and removal baselines are not, since a copy of
    them may not fit; `intact` is False where they were changed, and the task has to be built anew.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.intact = task, True
        self._layers = {name: _Layer(module) for name, module in task.model.named_modules()}
        self._rows = {name: _fingerprint(tensor) for name, tensor in self._shared().items()}

    @contextmanager
    def watch(self, seed: int) -> Iterator[None]:
        """Run a block under seeded global generators, which are put back, and see that it leaves the task as it was.

        Raises:
            ChangedTaskError: it did not, or an earlier block did not and the task could not be put back.
        """
        if not self.intact:
            raise ChangedTaskError("a method before this one changed the rows of the task: build the task anew")
        before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
        try:
            with seeded(seed):
                yield
        finally:
            torch.set_default_dtype(before[0])
            torch.set_grad_enabled(before[1])
            if torch.get_num_threads() != before[2]:
                torch.set_num_threads(before[2])
            changed = self._changed()
            self._restore()
        if changed:
            raise ChangedTaskError(f"it changed {changed}: a method must leave what it is given as it was")

    def _changed(self) -> str | None:
        """Return what is no longer as it was, or None."""
        now = dict(self.task.model.named_modules())
        if now.keys() != self._layers.keys():
            return "the layers of the model"
        for name, layer in self._layers.items():
            if what := layer.changed(now[name]):
                return f"{what} of the model" + (f" (layer {name})" if name else "")
        for name, tensor in self._shared().items():
            if _fingerprint(tensor) != self._rows[name]:
                self.intact = False
                return f"the {name} of the task"
        return None

    def _restore(self) -> None:
        for layer in self._layers.values():
            layer.restore()

    def _shared(self) -> dict[str, Tensor]:
        """Return the tensors that methods share with the evaluator, by what they are."""
        removal = self.task.removal
        state = {f.name: getattr(removal, f.name) for f in fields(removal)} if is_dataclass(removal) else vars(removal)
        tensors = {f"removal's {name}": value for name, value in state.items() if isinstance(value, Tensor)}
        return {"training rows": self.task.train.x, "training labels": self.task.train.y} | tensors


class _Layer:
    """One module as it was: parameters and buffers with copies of their contents, children, mode and hooks."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training, self.forward = module, module.training, vars(module).get("forward")
        self.children = dict(module._modules)
        self.tensors: dict[str, dict[str, Tensor | None]] = {
            "_parameters": dict(module._parameters), "_buffers": dict(module._buffers),
        }  # fmt: skip
        self.contents = {
            (kind, name): (tensor.detach().clone(), tensor.requires_grad)
            for kind, named in self.tensors.items()
            for name, tensor in named.items()
            if tensor is not None
        }
        self.hooks = {name: dict(vars(module)[name]) for name in HOOKS if name in vars(module)}

    def changed(self, now: nn.Module) -> str | None:
        """Return what of the module is no longer as it was, or None."""
        if (
            now is not self.module
            or _names(now._modules) != _names(self.children)
            or vars(now).get("forward") is not self.forward
        ):
            return "the layers"
        for kind, named in self.tensors.items():
            if getattr(now, kind).keys() != named.keys():
                return "the weights"
        for (kind, name), (content, wants) in self.contents.items():
            tensor = getattr(now, kind)[name]
            if tensor is None or not _same(tensor, content):
                return "the weights" if kind == "_parameters" else "the buffers"
            if tensor.requires_grad != wants:
                return "whether gradients are taken of the weights"
        if now.training != self.training:
            return "the mode"
        return (
            "the hooks" if any(_names(vars(now)[name]) != _names(hooks) for name, hooks in self.hooks.items()) else None
        )

    def restore(self) -> None:
        """Put the module back."""
        module = self.module
        module.training = self.training
        if vars(module).get("forward") is not self.forward:
            vars(module).pop("forward", None)
            vars(module).update({} if self.forward is None else {"forward": self.forward})
        _refill(module._modules, self.children)
        for kind, named in self.tensors.items():
            _refill(getattr(module, kind), named)
        for (kind, name), (content, wants) in self.contents.items():
            tensor = self.tensors[kind][name]
            assert tensor is not None
            if not _same(tensor, content):
                tensor.data = content.clone()
            if tensor.requires_grad != wants:
                tensor.requires_grad_(wants)
        for name, hooks in self.hooks.items():
            _refill(vars(module)[name], hooks)


def _refill(named: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Give a dictionary that others hold, too, the content it had."""
    if _names(named) != _names(wanted):
        named.clear()
        named.update(wanted)


def _names(named: dict[str, Any]) -> list[tuple[str, int]]:
    """Return which objects a dictionary holds, in its order: tensors are not compared by their contents here."""
    return [(name, id(value)) for name, value in named.items()]


def _same(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors are the same to the bit."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(_bits(a), _bits(b))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _fingerprint(tensor: Tensor) -> tuple[Any, ...]:
    """Return what tells whether a tensor was written to: its version, and a sum over its bits for what has none."""
    bits = _bits(tensor)
    words = bits.view(torch.int32) if len(bits) % 4 == 0 else bits
    version = 0 if tensor.is_inference() else tensor._version
    return tuple(tensor.shape), tensor.dtype, version, int(words.sum(dtype=torch.int64))
