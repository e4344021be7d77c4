"""The training loop of explainers, with progress, checkpoints and the best weights by validation."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmark.core.errors import BenchmarkError
from benchmark.core.seeding import seeded
from benchmark.core.store import Unusable, discard, intact, key_of, store
from benchmark.models.metering import Cost, charge, spent
from benchmark.processes.progress import tqdm

CHECKPOINT_SECONDS = 20.0
"""Seconds between checkpoints: what a kill may cost."""
FORMAT = 4
"""Of checkpoints: raised when what stands in them changes."""


class DivergedError(BenchmarkError):
    """A loss is no longer a number."""


@dataclass(frozen=True)
class Fitting:
    """How a module is fitted: AdamW under a one-cycle rate, validated now and then.

    Args:
        iterations: optimiser steps, at most.
        rate: peak of the learning rate.
        decay: AdamW's weight decay.
        clip: the largest norm of a gradient; longer ones are scaled to it.
        checks: how often it is validated, at equal distances.
        patience: training ends early where so many checks in a row bring nothing better.
        seconds: ends training in place of `iterations`: the cycle of the rate and the checks run over the seconds. How
            many iterations that is depends on the machine.
        from_start: whether the weights before the first iteration are validated too, so that training makes nothing
            worse.
    """

    iterations: int
    rate: float
    decay: float = 1e-2
    clip: float = 1.0
    checks: int = 20
    patience: int = 8
    seconds: float | None = None
    from_start: bool = False

    @property
    def iterations_per_check(self) -> int:
        """Return the distance of two checks, where training ends by iterations."""
        return max(1, self.iterations // self.checks)

    def part(self, count: int) -> Fitting:
        """Return the settings of each of `count` fits that share the iterations and the seconds equally."""
        seconds = None if self.seconds is None else self.seconds / count
        return replace(self, iterations=-(-self.iterations // count), seconds=seconds)

    def less(self, used: float, what: str) -> Fitting:
        """Return these settings for what is left of the seconds, if they end the training, after `used` of them.

        Args:
            used: seconds.
            what: took them.

        Raises:
            BenchmarkError: nothing is left.
        """
        if self.seconds is None:
            return self
        if used >= self.seconds:
            raise BenchmarkError(
                f"{what} took {used:.1f} s, and nothing is left of {self.seconds:g} s to train in: give more seconds"
            )
        return replace(self, seconds=self.seconds - used)


class Objective(Protocol):
    """What a module is fitted to: a loss, and figures that say which weights are best.

    Attributes:
        progress: share of the training that is done, in [0, 1], which `fit` sets before each loss and each check.
    """

    progress: float

    def loss(self, generator: torch.Generator) -> Tensor:
        """Return the loss, a scalar with a gradient, of one batch drawn with `generator`."""

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
TICKS = 10_000
"""Steps of the rate's cycle where it runs over seconds."""


def iterations(curves: Curves) -> int:
    """Return how many iterations were made until the last check of each of the fits that `curves` are of.

    A row whose iteration is not above that of the row before begins another fit.
    """
    counts = [int(point["iteration"]) for point in curves]
    return sum(count for count, following in zip(counts, [*counts, 0][1:], strict=True) if following <= count)


def fit(
    module: nn.Module,
    objective: Objective,
    settings: Fitting,
    seed: int,
    checkpoint: Path | None = None,
    what: str = "explainer",
) -> Curves:
    """Fit `module` and leave it with its best weights, in eval mode and frozen.

    A fit that was killed goes on from `checkpoint`, ends with the same weights, and costs what it has cost before. A
    checkpoint that is damaged, or of other settings, is set aside.

    Example:
        >>> curves = fit(net, objective, Fitting(iterations=500, rate=1e-3), seed=0)
        >>> curves[-1]["loss"]

    Args:
        module: changed in place; it is on its device already.
        objective: what it is fitted to.
        settings: how.
        seed: of batches, dropout and whatever else is drawn.
        checkpoint: the file that an interrupted fit leaves; without it none is written.
        what: the name of the module, for the progress bar and for errors.

    Returns:
        The curves, a row for each check.

    Raises:
        DivergedError: the loss is not finite.
    """
    with seeded(seed):
        training = _Training(module, objective, settings, seed, what)
        if checkpoint is not None:
            training.resume(checkpoint)
        _run(training, checkpoint)
    training.end()
    if checkpoint is not None:
        discard(checkpoint)
    return training.curves


def _run(training: _Training, checkpoint: Path | None) -> None:
    """Step to the last iteration, or until training ends early, with checks and checkpoints on the way."""
    stored = time.monotonic()
    with tqdm(
        total=None if training.settings.seconds is not None else training.settings.iterations,
        initial=training.done,
        desc=training.what,
        disable=not sys.stderr.isatty(),
        leave=False,
        position=1,
    ) as bar:
        if training.settings.from_start and not training.curves:
            training.check()
        while not training.is_over:
            training.step()
            bar.update()
            if training.is_checked:
                training.check()
                if training.has_no_hope:
                    return
            if checkpoint is not None and time.monotonic() - stored > CHECKPOINT_SECONDS:
                store(checkpoint, _dump(training.state()))
                stored = time.monotonic()


class _Training:
    """A fit after some iterations: everything that a checkpoint holds.

    Attributes:
        done: iterations that were made.
        curves: a row for each check so far.
        best_loss: the lowest validation loss so far.
        best_iteration: at which it was seen.
        best_weights: the module's weights and buffers then; empty before the first check.
        waited: the last check at which the objective was `waiting`: patience counts from there.
        seconds_before: seconds of training before it was interrupted.
        progress: share of the training that is done, in [0, 1].
    """

    def __init__(self, module: nn.Module, objective: Objective, settings: Fitting, seed: int, what: str) -> None:
        self.module, self.objective, self.settings, self.what = module, objective, settings, what
        self.device = next(module.parameters()).device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        fused = self.device.type in ("cpu", "cuda")
        self.optimiser = torch.optim.AdamW(module.parameters(), settings.rate, weight_decay=settings.decay, fused=fused)
        steps = settings.iterations if settings.seconds is None else TICKS
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, settings.rate, total_steps=steps + 1)
        self.done = 0
        self.curves: Curves = []
        self.best_loss, self.best_iteration = float("inf"), 0
        self.best_weights: dict[str, Tensor] = {}
        self.waited = 0
        self.seconds_before, self.begun = 0.0, time.monotonic()
        self.progress = 0.0
        self.spent_before = spent()
        shapes = {key: [str(value.dtype), *value.shape] for key, value in module.state_dict().items()}
        asked = asdict(settings) | {"seconds": settings.seconds is not None}  # what is left of them is never the same
        self.identity = key_of(FORMAT, torch.__version__, asked, seed, type(self.optimiser).__name__, shapes)

    def step(self) -> None:
        """Make one iteration.

        Raises:
            DivergedError: the loss or its gradient is not finite.
        """
        self.module.train()
        self.objective.progress = self.progress
        loss = self.objective.loss(self.generator)
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip)
        if not bool(torch.isfinite(norm)):  # it is not finite where the loss is not, and one look costs less than two
            raise DivergedError(
                f"training the {self.what} diverged: the loss or its gradient is not finite at iteration "
                f"{self.done + 1}; try a lower rate than {self.settings.rate:g}"
            )
        self.optimiser.step()
        self.done += 1
        self.advance()

    def advance(self) -> None:
        """Note how much of the training is done, and set the rate of the next iteration."""
        seconds = self.settings.seconds
        if seconds is None:
            self.progress = self.done / self.settings.iterations
        else:
            self.progress = min(1.0, self.seconds / seconds)
            self.schedule.last_epoch = round(TICKS * self.progress) - 1  # of which the next line makes the next one
        self.schedule.step()

    @property
    def seconds(self) -> float:
        """Return the seconds of training so far, those before an interruption included."""
        return self.seconds_before + time.monotonic() - self.begun

    @property
    def is_over(self) -> bool:
        """Tell whether iterations, or seconds, are used up. One iteration is made in any case."""
        return self.done > 0 and self.progress >= 1.0

    @property
    def is_checked(self) -> bool:
        """Tell whether a check is due after this iteration."""
        if self.is_over:
            return True
        if self.settings.seconds is not None:
            return int(self.progress * self.settings.checks) > sum(point["iteration"] > 0 for point in self.curves)
        return self.done % self.settings.iterations_per_check == 0

    def check(self) -> None:
        """Validate, note the figures, and copy the weights where they are the best so far."""
        self.objective.progress = self.progress
        figures = _validate(self.module, self.objective)
        numbers = {key: value for key, value in figures.items() if math.isfinite(value)}
        self.curves.append({"iteration": float(self.done)} | numbers)
        if figures["loss"] < self.best_loss:
            self.best_loss, self.best_iteration = figures["loss"], self.done
            self.best_weights = {key: value.detach().clone() for key, value in self.module.state_dict().items()}
        elif figures.get("waiting"):
            self.waited = self.done

    @property
    def has_no_hope(self) -> bool:
        """Tell, after a check, whether nothing better has come for so long that training ends early."""
        since = max(self.best_iteration, self.waited)
        return sum(point["iteration"] > since for point in self.curves) >= self.settings.patience

    def end(self) -> None:
        """Leave the module with its best weights, in eval mode and frozen.

        Raises:
            DivergedError: no validation loss was a number.
        """
        if not self.best_weights:
            raise DivergedError(f"training the {self.what} diverged: its validation loss was never a number")
        self.module.load_state_dict(self.best_weights)
        self.module.eval().requires_grad_(False)

    def state(self) -> dict[str, Any]:
        """Return what `resume` needs, as plain data and tensors."""
        return {
            "identity": self.identity,
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "objective": self.objective.state(),
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "progress": {name: getattr(self, name) for name in PROGRESS} | {"seconds_before": self.seconds},
            "spent": asdict(spent() - self.spent_before),
        }

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint of the same fit, where there is one; see `_read`."""
        state = intact(checkpoint, partial(_read, self.objective, self.identity, self.device), "checkpoint")
        if state is None:
            return
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["torch"].cpu())
        for name in PROGRESS:
            setattr(self, name, state["progress"][name])
        self.begun = time.monotonic()
        charge(Cost(**state["spent"]))


PROGRESS = ("done", "curves", "best_loss", "best_iteration", "best_weights", "waited", "progress", "seconds_before")
"""Attributes of `_Training` that a checkpoint holds as they are."""


def _dump(state: dict[str, Any]) -> bytes:
    """Return a checkpoint's content: a line with the digest of the rest, then the rest."""
    sink = io.BytesIO()
    torch.save(state, sink)
    content = sink.getvalue()
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _read(objective: Objective, identity: str, device: torch.device, checkpoint: Path) -> dict[str, Any]:
    """Return what `_dump` wrote of a fit of this identity, and let the objective go on from it.

    Raises:
        FileNotFoundError: there is none.
        Unusable: it is damaged, or of another fit.
    """
    digest, _, content = checkpoint.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise Unusable("is damaged (its digest does not match)")
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise Unusable(f"cannot be read ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(state, dict) or state.get("identity") != identity:
        raise Unusable("is of a training with other settings")
    try:
        objective.restore(state["objective"])
    except (KeyError, TypeError) as error:
        raise Unusable("is of another objective") from error
    return state


@torch.no_grad()
def _validate(module: nn.Module, objective: Objective) -> dict[str, float]:
    module.eval()
    return objective.validate()
