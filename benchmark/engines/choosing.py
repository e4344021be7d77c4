"""Chooses the engine of a task's model: the one asked for, or the fastest; none that answers otherwise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice

import torch
from torch import Tensor

from benchmark.core.errors import UsageError, describe, did_you_mean, few, shown
from benchmark.core.identity import model_digest, rows_near, settings_digest
from benchmark.core.store import Made, Store
from benchmark.core.types import Precision, Task
from benchmark.engines.engine import Engine, EngineError, Forward, build
from benchmark.engines.installed import install, uninstall
from benchmark.engines.names import AUTO, CHOICES, EAGER, ENGINES
from benchmark.engines.timing import seconds_of
from benchmark.models.batching import Batching, bare

TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "bf16": 2e-2}
"""The most by which a probability may differ from that of the eager model in 32 bits."""
WORTH = {
    "cpu": {"channels_last": 0.2, "onnxruntime": 0.2, "openvino": 0.2, "compile": 5.0},
    "cuda": {"channels_last": 0.05, "compile": 0.05},
}
"""Milliseconds that a row must take the eager model for `auto` to try an engine, by kind of device: exporting a model
takes seconds in each process, compiling it most of a minute. What is not named is not tried there."""
PACKAGES = {"onnxruntime": ("onnxruntime", "onnxscript"), "openvino": ("openvino",)}
"""What engines beyond PyTorch need."""
BATCHES = 2
"""Batches of training rows that an engine is compared on: whole, mixed with others, and with features removed."""
REPEATS = 3
SECONDS = 0.5
"""What one timed forward should take at most."""
CHOSEN = Store("engines", "choice of an engine")
log = logging.getLogger("benchmark")


def check_installed(name: str) -> None:
    """Make sure that the packages of an engine are here.

    Raises:
        UsageError: one is missing.
    """
    if missing := [package for package in PACKAGES.get(name, ()) if find_spec(package) is None]:
        raise UsageError(
            f"the engine {name} needs {few(missing)}: pip install 'deepfaith-benchmark[{name}]', or use auto"
        )


def equip(task: Task, name: str, precision: Precision = "fp32") -> Engine:
    """Let a task's model be answered by an engine from now on, whoever asks it.

    Gradients, single layers and inputs of another type stay with the model itself, and so does a precision that the
    engine does not give.

    Args:
        task: its model is changed in place, but for its weights and its digest.
        name: `auto`, `eager`, or an engine.
        precision: of the forwards of probing; perturbation methods ask in 32 bits.

    Returns:
        What was chosen. `auto` remembers its choice in the cache, so that the same machine always chooses alike; an
        engine that does not answer as the model does any more is not used.

    Raises:
        UsageError: the engine that was asked for is not installed, cannot run this model, or answers otherwise.
    """
    uninstall(task.model)
    if name == EAGER:
        return Engine()
    trial = Trial(task, precision)
    if name != AUTO:
        check_installed(name)
        try:
            forwards, difference = trial.checked(name)
        except EngineError as error:
            raise UsageError(f"{task.name}: {error}; use auto or eager") from error
        install(task.model, forwards, trial.rows)
        return Engine(name, difference)
    path = CHOSEN.path(task.name, *trial.identity())
    facts = CHOSEN.get(path, trial.choose)[1]
    chosen = Engine(**facts)
    if chosen.name == EAGER:
        return chosen
    try:
        forwards, difference = trial.built.get(chosen.name) or trial.checked(chosen.name)
    except EngineError as error:  # not chosen anew: what is not remembered may differ from process to process
        log.warning(f"{task.name}: {error}: the model answers by itself")
        return replace(chosen, name=EAGER, difference=0.0)
    install(task.model, forwards, trial.rows)
    return replace(chosen, difference=difference)


@contextmanager
def answering(task: Task, name: str) -> Iterator[Engine]:
    """Let a task's model be answered by an engine inside the block; see `equip`.

    Raises:
        UsageError: there is no engine of this name, or see `equip`.
    """
    if name not in CHOICES:
        raise UsageError(f"no engine {shown(name)}{did_you_mean(str(name), CHOICES)}")
    try:
        yield equip(task, name)
    finally:
        uninstall(task.model)


class Trial:
    """Tries engines on training rows of a task.

    Args:
        task: with a model that answers by itself.
        precision: of the forwards of probing.

    Attributes:
        rows: (n, ...), features removed from some.
        built: forwards by precision of the engines that answer as the model does, and their differences, by name.
    """

    def __init__(self, task: Task, precision: Precision) -> None:
        self.task, self.precision = task, precision
        self.rows = torch.cat(list(islice(rows_near(task, task.train), 3 * BATCHES)))
        self.built: dict[str, tuple[dict[Precision, Forward], float]] = {}

    def identity(self) -> list[object]:
        """Return all that a choice follows from."""
        device = self.rows.device
        return [
            model_digest(self.task.model, rows_near(self.task, self.task.train)), settings_digest(self.task),
            self.precision, torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
            torch.get_num_threads(), {name: version_of(name) for name in ("torch", *sum(PACKAGES.values(), ()))},
        ]  # fmt: skip

    def choose(self) -> Made:
        """Return the facts of the fastest engine that answers as the model does; no tensors."""
        eager = seconds_of(bare(self.task.model), self.rows[:1], 1)
        rows = self._as_packed(eager)
        worth = WORTH.get(rows.device.type, {})
        candidates: dict[str, tuple[Forward, float]] = {EAGER: (self._eager, 0.0)}
        milliseconds = {EAGER: seconds_of(self._eager, rows, 1) / len(rows) * 1e3}
        for name in ENGINES:
            if milliseconds[EAGER] < worth.get(name, float("inf")):
                continue
            try:
                check_installed(name)
                forwards, difference = self.checked(name)
            except UsageError:
                continue
            except EngineError as error:
                log.info(f"{self.task.name}: {error}")
                continue
            self.built[name] = forwards, difference
            candidates[name] = forwards[self.precision], difference
        for _ in range(REPEATS if len(candidates) > 1 else 0):  # by turns, so that what else goes on strikes all
            for name, (forward, _difference) in candidates.items():
                took = seconds_of(forward, rows, 1) / len(rows) * 1e3
                milliseconds[name] = min(took, milliseconds.get(name, took))
        fastest = min(candidates, key=milliseconds.__getitem__)
        return {}, {"name": fastest, "difference": candidates[fastest][1], "milliseconds": milliseconds}

    def checked(self, name: str) -> tuple[dict[Precision, Forward], float]:
        """Return an engine's forwards by precision, and the largest difference of a probability from the model's.

        In bf16 the engine is built twice, since perturbation methods ask in 32 bits.

        Raises:
            EngineError: it cannot run the model in the precision of probing, or answers otherwise.
        """
        forwards: dict[Precision, Forward] = {}
        difference = 0.0
        for precision in dict.fromkeys((self.precision, "fp32")):
            try:
                forward, found = self._compared(name, precision)
            except EngineError:
                if precision == self.precision:
                    raise
            else:
                forwards[precision], difference = forward, max(difference, found)
        return forwards, difference

    def _compared(self, name: str, precision: Precision) -> tuple[Forward, float]:
        """Return an engine's forward, and the largest difference of a probability in batches of two sizes.

        Raises:
            EngineError: it cannot run the model, or the difference is over the tolerance or not a number.
        """
        model = self.task.model
        try:
            with torch.no_grad():
                forward = build(name, model, self.rows, precision)
                found = torch.cat([forward(self.rows[:1]), forward(self.rows[1:])]).double().softmax(1)
        except EngineError:
            raise
        except Exception as error:  # what a compiler raises is of any type
            raise EngineError(f"{name} cannot run {type(model).__name__}: {describe(error, build)}") from error
        with torch.no_grad():
            expected = bare(model)(self.rows).double().softmax(1)
        difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("nan")
        if not difference <= TOLERANCE[precision]:
            raise EngineError(
                f"{name} gives probabilities that are {difference:.1e} away from those of the model in {precision}, "
                f"expected at most {TOLERANCE[precision]:g}"
            )
        return forward, difference

    def _eager(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return bare(self.task.model)(x)

    def _as_packed(self, seconds_a_row: float) -> Tensor:
        """Return rows as many as a forward of the evaluator has, or fewer where that would take long."""
        packed = Batching(self.task).rows_per_forward(self.rows)
        count = max(1, min(packed, int(SECONDS / max(seconds_a_row, 1e-9)), 4096))
        return self.rows.repeat(-(-count // len(self.rows)), *[1] * (self.rows.dim() - 1))[:count]


def version_of(package: str) -> str:
    """Return the version of a package, nothing where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    """Return the name of this machine's processor."""
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a processor without a name
        return platform.processor() or platform.machine()
