"""Turns what a person has (a module, a function, an estimator) into the frozen module that an evaluation needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from benchmark.core.errors import UsageError, few, in_a_line, short
from benchmark.models.metering import Cost, charge
from benchmark.models.others.adapters import (
    NEAR_ONE,
    AsLogits,
    BlackBox,
    Function,
    Output,
    TextAdapter,
    is_outside,
    rounding_of_sums,
    tensor_in,
    view,
)

ROWS = 64
"""Rows of a forward while it is found out what a model gives."""
_given: WeakKeyDictionary[nn.Module, ref[nn.Module]] = WeakKeyDictionary()
"""The module that a person gave, by what was made of it: neither keeps the other."""


@dataclass(frozen=True, eq=False)
class Wrapped:
    """A model ready for an evaluation.

    Attributes:
        model: in eval mode, gives logits (B, C); the module itself, as a view of its own, where nothing else is needed.
        logits: what it gives for all inputs, (N, C).
        usual: what it gives for the background, (M, C).
        classes: the labels of the classes, where an estimator knows them.
    """

    model: nn.Module
    logits: Tensor
    usual: Tensor
    classes: tuple[Any, ...] | None = None
    __repr__ = in_a_line


def wrap(
    model: object,
    x: Tensor,
    output: Output | None = None,
    text: bool = False,
    pad_id: int = -1,
    background: Tensor | None = None,
    names: tuple[str, ...] | None = None,
) -> Wrapped:
    """Return a model as an evaluation needs it, and leave the given one as it is.

    Args:
        model: an `nn.Module`, an estimator with `predict_proba`, or a function of tensors or of arrays.
        x: all inputs (N, ...), on the model's device.
        output: what it gives, `logits` or `probabilities`; by default rows that are non-negative and sum to 1, and one
            column all of whose numbers lie in [0, 1], are probabilities, for x and for the background.
        text: the inputs are token ids.
        pad_id: the token of padding of texts.
        background: rows (M, ...) that say what is usual; x itself where none are given.
        names: of the columns of x, by which an estimator that was fitted on named columns gets them.

    Raises:
        UsageError: it is none of these, cannot answer, or gives something else than was said.

    Example:
        >>> from torch import nn
        >>> wrapped = wrap(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), torch.randn(5, 4))
        >>> wrapped.model(torch.zeros(1, 4)).softmax(1).sum().isclose(torch.tensor(1.0)).item()
        True
    """
    asked = _module(model, x, text, pad_id, names)
    kinds = [x] if background is None or background is x else [x, background]
    parts = [part for rows in kinds for part in rows.split(ROWS)]
    given = torch.cat([_answer(asked, part) for part in parts])
    binary = given.dim() == 1 or given.shape[1] == 1
    looks = _looks_like(given, binary)
    _check(given, output, looks, binary)
    output = output or looks or _refuse_to_guess(given)
    classes = getattr(model, "classes_", None)
    adapted = AsLogits(asked, output, binary)
    bare = not (asked._forward_hooks or asked._forward_pre_hooks)  # what hooks do to the model is part of it
    as_it_is = output == "logits" and not binary and bare and isinstance(_asked(asked, x[:1]), Tensor)
    wrapped = asked if as_it_is else adapted
    if isinstance(model, nn.Module):
        _given[wrapped] = ref(model)
    logits = adapted.made(given)
    usual = logits if len(kinds) == 1 else logits[len(x) :]
    return Wrapped(wrapped, logits[: len(x)], usual, None if classes is None else tuple(classes))


def given_for(wrapped: nn.Module) -> nn.Module | None:
    """Return the module that a person gave, of which `wrapped` was made, or None where there is none."""
    known = _given.get(wrapped)
    return known() if known is not None else None


@contextmanager
def counted(wrapped: nn.Module) -> Iterator[None]:
    """Let rows that pass the module a person gave count for the phase that is under way, as those of `wrapped` do."""
    model = given_for(wrapped)
    if model is None:
        yield
        return

    def forward(_module: nn.Module, _inputs: object, output: object) -> None:
        answer = tensor_in(output)
        if isinstance(answer, Tensor):
            charge(Cost(forwards=len(answer)))
            if answer.requires_grad:
                answer.register_hook(lambda gradient: charge(Cost(backwards=len(gradient))))

    hook = model.register_forward_hook(forward)
    try:
        yield
    finally:
        hook.remove()


def is_text_model(model: object) -> bool:
    """Tell whether a model is of the form of Hugging Face's text models."""
    return isinstance(model, nn.Module) and hasattr(model, "get_input_embeddings") and hasattr(model, "config")


def place_of(model: object) -> tuple[torch.device, torch.dtype] | None:
    """Return the device and the type of a module's weights, or None where it has none.

    Raises:
        UsageError: some of them are on the device `meta`, which holds no numbers.
    """
    tensors = (*model.parameters(), *model.buffers()) if isinstance(model, nn.Module) else ()
    if any(tensor.is_meta for tensor in tensors):
        raise UsageError("the model is on the device meta, where weights have no numbers: load them onto a real device")
    return next(((tensor.device, tensor.dtype) for tensor in tensors if tensor.is_floating_point()), None)


def _module(model: object, x: Tensor, text: bool, pad_id: int, names: tuple[str, ...] | None) -> nn.Module:
    """Return a module that gives what the model gives."""
    if isinstance(model, nn.Module):
        own = view(model)
        hugging_face = text and is_text_model(model)
        return TextAdapter(own, pad_id, hugging_face) if hugging_face or (text and not hasattr(own, "embed")) else own
    name = type(model).__name__
    if hasattr(model, "predict_proba"):
        return BlackBox(Function(_estimator(model, names), of_arrays=True), name)
    if not callable(model) or isinstance(model, type):
        hint = "fit one with predict_proba" if hasattr(model, "predict") else "pass an nn.Module, a fitted estimator"
        raise UsageError(f"expected a model that gives logits or probabilities, got {name}: {hint} or a function")
    return BlackBox(Function(model, _takes_arrays(model, x)), getattr(model, "__name__", name))


def names_fitted(model: object) -> tuple[str, ...] | None:
    """Return the names of the columns that an estimator was fitted on, or None where they had none."""
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else tuple(map(str, names))


def _estimator(model: Any, names: tuple[str, ...] | None) -> Callable[[Any], Any]:
    """Return an estimator's probabilities as a function of arrays; one that was fitted on named columns gets these.

    Args:
        model: with `predict_proba`.
        names: of the columns of arrays, which may stand in any order; without names they stand in the fitted one.

    Raises:
        UsageError: it has several outputs, knows one class, or was fitted on other columns.
    """
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list):
        raise UsageError(f"{type(model).__name__} has {len(classes)} outputs: expected one, so choose one of them")
    if classes is not None and len(classes) < 2:
        raise UsageError(f"{type(model).__name__} knows one class only, {classes[0]!r}: expected two or more")
    fitted = names_fitted(model)
    if fitted is None:
        return model.predict_proba
    if names is not None and sorted(names) != sorted(fitted):
        lacking, more = sorted({*fitted} - {*names}), sorted({*names} - {*fitted})
        raise UsageError(
            f"x expects the columns that {type(model).__name__} was fitted on; lacking: {few(lacking)}; not among "
            f"them: {few(more)}: rename or choose columns, or give an array in the order that it was fitted in"
        )
    import pandas as pd

    return lambda x: model.predict_proba(pd.DataFrame(x, columns=list(names or fitted))[list(fitted)])


def _takes_arrays(function: Any, x: Tensor) -> bool:
    """Tell whether a function is one of arrays: it is, unless it makes a tensor of a tensor."""
    errors = []
    for of_arrays in (False, True):
        few_rows = x[:2].detach().clone()  # whatever it does to them
        rows = few_rows.cpu().numpy() if of_arrays else few_rows
        try:
            with torch.no_grad():
                given = tensor_in(function(rows))
        except Exception as error:  # of a person's function
            errors.append(f"{type(error).__name__}: {short(error)}")
            continue
        if of_arrays or isinstance(given, Tensor):
            return of_arrays
    raise UsageError(f"the function that was given as the model answers neither tensors nor arrays: {few(errors)}")


def _asked(model: nn.Module, x: Tensor) -> object:
    """Return what a model gives for inputs x, as it gives it."""
    try:
        with torch.no_grad():
            return model(x)
    except UsageError:
        raise
    except Exception as error:  # of a person's model
        raise UsageError(
            f"the model cannot answer inputs of shape {tuple(x.shape)} and type {x.dtype}: {type(error).__name__}: "
            f"{short(error, 200)}"
        ) from error


def _answer(model: nn.Module, x: Tensor) -> Tensor:
    """Return what a model gives for inputs x, (n,) or (n, C).

    Raises:
        UsageError: it gives nothing of that shape, or changes its inputs.
    """
    rows = x.clone()
    given = tensor_in(_asked(model, rows))
    if not torch.equal(rows.nan_to_num(), x.nan_to_num()):
        raise UsageError("the model changes its input: let it work on a copy (inplace=False)")
    if not isinstance(given, Tensor):
        raise UsageError(
            f"a model must give logits or probabilities (batch, classes), got {type(given).__name__}: let it return a "
            "tensor or an array"
        )
    if len(x) == 1 and given.dim() == 0:  # one column that was squeezed
        given = given.reshape(1)
    if not given.is_floating_point() or given.dim() not in (1, 2) or len(given) != len(x) or given.shape[1:] == (0,):
        raise UsageError(
            f"a model must give logits or probabilities (batch, classes), got {tuple(given.shape)} of {given.dtype} "
            f"for {len(x)} inputs"
        )
    return given


def _looks_like(given: Tensor, binary: bool) -> Output | None:
    """Return what a model seems to give, judged by rows of finite numbers; None where that cannot be told."""
    numbers = given[given.isfinite().reshape(len(given), -1).all(1)]
    if not len(numbers) or bool(is_outside(numbers).any()):
        return "logits"
    if binary:
        return "probabilities"
    off = float((numbers.double().sum(1) - 1).abs().max())
    if off <= rounding_of_sums(numbers.dtype):
        return "probabilities"
    return "logits" if off > NEAR_ONE else None


def _refuse_to_guess(given: Tensor) -> NoReturn:
    sums = given.double().sum(1)
    raise UsageError(
        f"the model gives rows of numbers in [0, 1] that sum to {float(sums.min()):.4g} to {float(sums.max()):.4g}, "
        'which may be probabilities that were rounded, or logits: say output="probabilities" or output="logits"'
    )


def _check(given: Tensor, output: Output | None, looks: Output | None, binary: bool) -> None:
    """Make sure that a model gives what was said, of two classes at least.

    Raises:
        UsageError: it does not.
    """
    if output not in (None, "logits", "probabilities"):
        raise UsageError(f'output expects "logits", "probabilities" or None to find out, got {output!r}')
    if binary and bool((given == 1).all()):
        raise UsageError("the model gives one column that is 1 for every input: expected two classes or more")
    if output == "probabilities" and looks == "logits":
        span = f"{float(given.min()):.3g} to {float(given.max()):.3g}"
        what = "numbers in [0, 1]" if binary else "rows of numbers in [0, 1] that sum to 1"
        raise UsageError(f'output="probabilities" expects {what}, and the model gives {span}: say output="logits"')
    if output == "logits" and looks == "probabilities" and not binary:
        raise UsageError(
            'output="logits" was said, and the model gives rows that are non-negative and sum to 1: say '
            'output="probabilities", or leave out its softmax'
        )
