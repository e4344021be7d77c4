"""Modules that make logits (B, C) of what a person's model gives, whatever it takes and gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from benchmark.core.errors import UsageError, short

Output = Literal["logits", "probabilities"]
NEAR_ONE = 0.05
"""Rows of numbers in [0, 1] whose sums are nearer to 1 than this may be probabilities, rounded coarsely."""


def rounding_of_sums(kind: torch.dtype) -> float:
    """Return how far from 1 probabilities of a type may sum: those of float16 and bfloat16 are rounded."""
    return max(1e-3, 2 * torch.finfo(kind).eps)


def is_outside(given: Tensor) -> Tensor:
    """Return which numbers lie outside [0, 1] by more than rounding; NaN does not."""
    given = given.detach()
    near = max(1e-6, torch.finfo(given.dtype).eps)
    return (given < -near) | (given > 1 + near)


class NoGradientError(UsageError, AttributeError):
    """A gradient, or the embedding that it is taken by, was asked of a model that has none."""


def view(model: nn.Module) -> nn.Module:
    """Return a model in eval mode whose parameters need no gradient, and leave the given one as it is.

    Its layers are new objects, its weights are those of the given model: they take no memory of their own, and a step
    of training of the given model changes both. Buffers, which a forward may change, are copied.

    Raises:
        UsageError: the model cannot be copied, or has no weights yet.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        held = (*module._parameters.values(), *module._buffers.values())
        if any(is_lazy(each) for each in held if each is not None):
            raise UsageError(f"{type(module).__name__} has layers without weights yet: call it on a batch first")
        for parameter in module._parameters.values():
            if parameter is not None:
                memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
        memo |= {id(value): value.detach() for value in vars(module).values() if isinstance(value, Tensor)}
        memo |= {id(value): value.detach().clone() for value in module._buffers.values() if value is not None}
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

    Probabilities become their logarithm, of which softmax makes them again, in float32 at least; what is 0 becomes the
    least number that is not. One column is the second of two classes; of logits the two get half each, with opposite
    signs, so that neither is a constant that nothing is attributed to.

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
        """Return logits (B, C) made of what the model gives.

        Raises:
            UsageError: they should be probabilities, and are none.
        """
        if self.output == "probabilities":
            self._check(given)
            given = given.to(torch.promote_types(given.dtype, torch.float32)).clamp(0, 1)
        if self.binary:
            given = self.columns(given)
        if self.output == "logits":
            return given / 2 if self.binary else given
        return given.clamp(min=torch.finfo(given.dtype).tiny).log()

    def _check(self, given: Tensor) -> None:
        """Make sure that what is not NaN is a probability: a model may have looked as if it gave some."""
        wrong = is_outside(given)
        if bool(wrong.any()):
            raise UsageError(
                f"the model gave {float(given[wrong].flatten()[0]):.4g}, which is no probability, as it seemed to give "
                'or as was said: say output="logits", or let all its answers lie in [0, 1]'
            )
        sums = torch.ones(1) if self.binary else given.detach().double().sum(1)
        if bool(((sums - 1).abs() > NEAR_ONE).any()):
            far = float(sums[(sums - 1).abs().argmax()])
            raise UsageError(
                f"the model gave probabilities that sum to {far:.4g}, expected 1: let each row of its answers sum to "
                '1, or say output="logits"'
            )

    def columns(self, given: Tensor) -> Tensor:
        """Return the two columns (B, 2) that one column stands for, as probabilities or with opposite signs."""
        second = given.reshape(-1, 1)
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
        model: of Hugging Face's form (takes `input_ids` and `attention_mask`), or any that takes ids.
        pad_id: the token of padding, which is not attended to.
        hugging_face: which of the two it is.
    """

    def __init__(self, model: nn.Module, pad_id: int, hugging_face: bool) -> None:
        super().__init__()
        self.model, self.pad_id, self.hugging_face = model, pad_id, hugging_face
        self.eval()

    def forward(self, x: Tensor, real: Tensor | None = None) -> object:
        """Return what the model gives.

        Raises:
            NoGradientError: embeddings were given, and the model reads its embedding otherwise than once.
        """
        if not self.hugging_face:
            return self.model(x) if real is None else self.model(x, real)
        real = x != self.pad_id if real is None else real
        pad = self._pad()
        if not x.is_floating_point():
            return self._asked(x.where(real, pad), real)
        calls = 0

        def replace(_embedding: nn.Module, _ids: object, looked_up: Tensor) -> Tensor:
            nonlocal calls
            calls += looked_up.shape == x.shape
            return x

        # by ids: heads of decoders and positions of others are counted by which ids are padding
        model: Any = self.model
        hook = model.get_input_embeddings().register_forward_hook(replace)
        try:
            given = self._asked(torch.full_like(real, int(pad == 0), dtype=torch.long).where(real, pad), real)
        finally:
            hook.remove()
        if calls != 1:
            raise self._no_embedding(f"reads it {calls} times in a forward, expected once")
        return given

    def _asked(self, ids: Tensor, real: Tensor) -> object:
        return tensor_in(self.model(input_ids=ids, attention_mask=real.long()))

    def _pad(self) -> int:
        """Return what the model itself takes for padding, whatever the tokenizer calls it."""
        config: Any = self.model.config
        own = getattr(config.get_text_config() if hasattr(config, "get_text_config") else config, "pad_token_id", None)
        return max(self.pad_id, 0) if own is None else own

    def _no_embedding(self, why: str) -> NoGradientError:
        return NoGradientError(
            f"gradients of a text are taken by its embedding, and {type(self.model).__name__} {why}: use a method that "
            "only asks for predictions, such as occlusion or lime"
        )

    def __getattr__(self, name: str) -> Any:
        """Return the embedding of the model that is asked."""
        if name != "embed":
            return super().__getattr__(name)
        model: Any = super().__getattr__("model")
        if self.hugging_face:
            if getattr(model.config, "is_encoder_decoder", False):
                raise self._no_embedding("has an encoder and a decoder that both read it")
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
