"""Modules that make logits (B, C) of what a person's model gives, whatever it takes and gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError, short

Output = Literal["logits", "probabilities"]


class NoGradientError(UsageError, AttributeError):
    """A gradient, or the embedding that it is taken by, was asked of a model that has none."""


def view(model: nn.Module) -> nn.Module:
    """Return a model in eval mode whose parameters need no gradient, and leave the given one as it is.

    Its layers are new objects, its weights are those of the given model: they take no memory of their own, and a step
    of training of the given model changes both.

    Raises:
        UsageError: the model cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
        plain = (value for value in vars(module).values() if isinstance(value, Tensor))
        memo |= {id(value): value.detach() for value in (*module._buffers.values(), *plain) if value is not None}
    try:
        return copy.deepcopy(model, memo).eval()
    except Exception as error:  # of whatever a person's module holds
        raise UsageError(
            f"the model {type(model).__name__} cannot be copied layer by layer ({short(error)}): pass a function that "
            "calls it, such as lambda x: model(x), which is asked without gradients"
        ) from error


def tensor_in(given: object) -> object:
    """Return the logits of an output that names them, as Hugging Face's do; any other output as it is."""
    if isinstance(given, dict) and "logits" in given:
        return given["logits"]
    return getattr(given, "logits", given)


class AsLogits(nn.Module):
    """Makes logits of two classes or more of what a model gives.

    Probabilities become their logarithm, of which softmax makes them again; what is 0 becomes the least number that is
    not. One column is the second of two classes; of logits the two get half each, with opposite signs, so that
    neither is a constant that nothing is attributed to.

    Args:
        model: what gives them; its other arguments are passed on.
        output: what it gives.
        binary: it gives one column, (B,) or (B, 1).
    """

    def __init__(self, model: nn.Module, output: Output, binary: bool) -> None:
        super().__init__()
        self.model, self.output, self.binary = model, output, binary
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits (B, C)."""
        return self.made(tensor_in(self.model(*inputs)))

    def made(self, given: Any) -> Tensor:
        """Return logits (B, C) made of what the model gives."""
        if self.binary:
            given = self.columns(given)
        if self.output == "logits":
            return given / 2 if self.binary else given
        return given.clamp(min=torch.finfo(given.dtype).tiny).log()

    def columns(self, given: Tensor) -> Tensor:
        """Return the two columns (B, 2) that one column stands for, as probabilities or with opposite signs."""
        second = given.reshape(len(given), 1)
        first = 1 - second if self.output == "probabilities" else -second
        return torch.cat([first, second], 1)

    def __getattr__(self, name: str) -> Any:
        """Return the embedding of the model that is asked, where a text model has one."""
        if name == "embed":
            return getattr(super().__getattr__("model"), name)
        return super().__getattr__(name)


class TextAdapter(nn.Module):
    """A text model asked by token ids (B, L), or by embeddings (B, L, E) where real (B, L) is True.

    Args:
        model: of Hugging Face's form (takes `input_ids`, `attention_mask` and `inputs_embeds`), or any that takes ids.
        pad_id: the token of padding, which is not attended to.
        hugging_face: which of the two it is.
    """

    def __init__(self, model: nn.Module, pad_id: int, hugging_face: bool) -> None:
        super().__init__()
        self.model, self.pad_id, self.hugging_face = model, pad_id, hugging_face
        self.eval()

    def forward(self, x: Tensor, real: Tensor | None = None) -> object:
        """Return what the model gives."""
        if not self.hugging_face:
            return self.model(x) if real is None else self.model(x, real)
        mask = (x != self.pad_id if real is None else real).long()
        if x.is_floating_point():
            return tensor_in(self.model(inputs_embeds=x, attention_mask=mask))
        return tensor_in(self.model(input_ids=x, attention_mask=mask))

    def __getattr__(self, name: str) -> Any:
        """Return the embedding of the model that is asked."""
        if name != "embed":
            return super().__getattr__(name)
        model: Any = super().__getattr__("model")
        if self.hugging_face:
            return model.get_input_embeddings()
        if not hasattr(model, "embed"):
            raise NoGradientError(
                f"gradients of a text are taken by its embeddings, and {type(model).__name__} has no `embed`: name its "
                "nn.Embedding so and let forward take embeddings with a mask of real tokens, or use a method that "
                "only asks for predictions, such as occlusion or lime"
            )
        return model.embed


class Function:
    """What a black box asks: a function of arrays or of tensors. It is no part of what a model's digest can read."""

    def __init__(self, ask: Callable[[Any], Any], of_arrays: bool) -> None:
        self.ask, self.of_arrays = ask, of_arrays

    def answer(self, x: Tensor) -> object:
        """Return what the function gives for inputs (B, ...), arrays as tensors on the device of x."""
        given = tensor_in(self.ask(x.detach().cpu().numpy() if self.of_arrays else x.detach()))
        if isinstance(given, np.ndarray) and given.dtype != object:
            return torch.as_tensor(np.ascontiguousarray(given), device=x.device)
        return given


class BlackBox(nn.Module):
    """A function that is asked for predictions alone: no gradient passes it.

    Args:
        function: gives logits or probabilities.
        what: what it is called in sentences.
    """

    def __init__(self, function: Function, what: str) -> None:
        super().__init__()
        self.function, self.what = function, what
        self.eval()

    def forward(self, x: Tensor) -> object:
        """Return what the function gives.

        Raises:
            NoGradientError: a gradient is asked for.
        """
        if x.requires_grad and torch.is_grad_enabled():
            self._refuse()
        with torch.no_grad():
            return self.function.answer(x)

    def __getattr__(self, name: str) -> Any:
        """Say why there is no embedding."""
        return self._refuse() if name == "embed" else super().__getattr__(name)

    def _refuse(self) -> NoReturn:
        raise NoGradientError(
            f"the model is a black box ({self.what}), through which no gradient passes: pass it as an nn.Module, or "
            "use a method that only asks for predictions, such as lime, kernel_shap or occlusion"
        )
