"""The training loop of explainers, with progress, checkpoints and the best weights by validation."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmark.core.errors import BenchmarkError
from benchmark.core.seeding import seeded
from benchmark.core.store import Unusable, discard, intact, key_of, store
from benchmark.models.metering import Cost, charge, spent

CHECKPOINT_SECONDS = 20.0
"""What a kill may cost."""
FORMAT = 2
"""Of checkpoints: raised when what stands in them changes."""


class DivergedError(BenchmarkError):
    """A loss is no longer a number."""


@dataclass(frozen=True)
class Fitting:
    """AdamW under a one-cycle rate whose peak is `rate`; the norm of the gradient is cut at `clip`.

    Validation happens `checks` times; training ends early where `patience` of them in a row bring nothing better.
    """

    iterations: int
    rate: float
    decay: float = 1e-2
    clip: float = 1.0
    checks: int = 20
    patience: int = 8


class Objective(Protocol):
    """What a module is fitted to."""

    def loss(self, generator: torch.Generator) -> Tensor:
        """Return the loss of one batch drawn with `generator`."""

    def validate(self) -> dict[str, float]:
        """Return figures for the curves; `loss` among them, lower is better, chooses the best weights.

        Where `waiting` is among them and not 0, what lowers that loss has not begun, and training does not end early.
        """

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to go on: plain data and tensors."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            KeyError, TypeError: it is that of something else. Nothing is changed then.
        """


Curves = list[dict[str, float]]
"""One row a check: `iteration`, and what the objective's `validate` gave, as far as it is a number."""


def fit(
    module: nn.Module, objective: Objective, settings: Fitting, seed: int, checkpoint: Path | None = None,
    what: str = "explainer",
) -> Curves:  # fmt: skip
    """Fit `module` and leave it with its best weights, in eval mode and frozen; return the curves.

    A fit that was killed goes on from `checkpoint`, ends with the same weights, and costs what it has cost before. A
    checkpoint that is damaged, or of other settings, is set aside.

    Raises:
        DivergedError: the loss is not finite.
    """
    device = next(module.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    fused = device.type in ("cpu", "cuda")
    optimiser = torch.optim.AdamW(module.parameters(), settings.rate, weight_decay=settings.decay, fused=fused)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.iterations + 1)
    best = {"loss": float("inf"), "iteration": 0.0}
    waited = 0
    kept: dict[str, Tensor] = {}
    curves: Curves = []
    done = 0

    shapes = {key: [str(value.dtype), *value.shape] for key, value in module.state_dict().items()}
    begun = spent()
    identity = key_of(FORMAT, torch.__version__, asdict(settings), seed, type(optimiser).__name__, shapes)

    def state() -> dict[str, Any]:
        return {
            "identity": identity,
            "module": module.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(),
            "objective": objective.state(), "generator": generator.get_state(), "torch": torch.get_rng_state(),
            "best": best, "kept": kept, "curves": curves, "done": done, "waited": waited,
            "spent": asdict(spent() - begun),
        }  # fmt: skip

    with seeded(seed):
        found = None
        if checkpoint is not None:
            found = intact(checkpoint, partial(_resume, objective, identity, device), "checkpoint")
        if found is not None:
            module.load_state_dict(found["module"])
            optimiser.load_state_dict(found["optimiser"])
            schedule.load_state_dict(found["schedule"])
            generator.set_state(found["generator"].cpu())
            torch.set_rng_state(found["torch"].cpu())
            best, kept, curves = found["best"], found["kept"], found["curves"]
            done, waited = found["done"], found["waited"]
            charge(Cost(**found["spent"]))
        stored = time.monotonic()
        every = max(1, settings.iterations // settings.checks)
        shown = sys.stderr.isatty()
        with tqdm(
            total=settings.iterations, initial=done, desc=what, disable=not shown, leave=False, position=1
        ) as bar:
            while done < settings.iterations:
                module.train()
                loss = objective.loss(generator)
                optimiser.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
                if not bool(torch.isfinite(norm)):  # holds the loss too, and one look costs less than two
                    raise DivergedError(
                        f"training the {what} diverged: the loss or its gradient is not finite at iteration "
                        f"{done + 1}; try a lower rate than {settings.rate:g}"
                    )
                optimiser.step()
                schedule.step()
                done += 1
                bar.update()
                if done % every == 0 or done == settings.iterations:
                    figures = _validate(module, objective)
                    known = {key: value for key, value in figures.items() if math.isfinite(value)}
                    curves.append({"iteration": float(done)} | known)
                    if figures["loss"] < best["loss"]:
                        best = {"loss": figures["loss"], "iteration": float(done)}
                        kept = {key: value.detach().clone() for key, value in module.state_dict().items()}
                    elif figures.get("waiting"):
                        waited = done
                    elif done - max(best["iteration"], waited) >= settings.patience * every:
                        break
                if checkpoint is not None and time.monotonic() - stored > CHECKPOINT_SECONDS:
                    store(checkpoint, _dump(state()))
                    stored = time.monotonic()
    if not kept:
        raise DivergedError(f"training the {what} diverged: its validation loss was never a number")
    module.load_state_dict(kept)
    module.eval().requires_grad_(False)
    if checkpoint is not None:
        discard(checkpoint)
    return curves


def _dump(state: dict[str, Any]) -> bytes:
    """Return a checkpoint's content: a line with the digest of the rest, then the rest."""
    sink = io.BytesIO()
    torch.save(state, sink)
    content = sink.getvalue()
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _resume(objective: Objective, identity: str, device: torch.device, checkpoint: Path) -> dict[str, Any]:
    """Return what `_dump` wrote of a fit of this identity, and let the objective go on from it.

    Raises:
        FileNotFoundError: there is none.
        Unusable: it is damaged, or of another fit.
    """
    digest, _, content = checkpoint.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise Unusable("is damaged (its digest does not match)")
    try:
        found = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise Unusable(f"cannot be read ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(found, dict) or found.get("identity") != identity:
        raise Unusable("is of a training with other settings")
    try:
        objective.restore(found["objective"])
    except (KeyError, TypeError) as error:
        raise Unusable("is of another objective") from error
    return found


@torch.no_grad()
def _validate(module: nn.Module, objective: Objective) -> dict[str, float]:
    module.eval()
    return objective.validate()
