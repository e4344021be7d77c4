"""A board: the methods of one task with their ranks, scores and costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmark.core.errors import BenchmarkError
from benchmark.records.record import Record
from benchmark.scoring.metrics import PAPER


class GapError(BenchmarkError):
    """A board has gaps, and no mean is taken over gaps."""


@dataclass(frozen=True)
class Row:
    """One method on a board.

    Attributes:
        method: its label.
        kind: baseline, control, oracle or learned.
        mean_rank: mean of `ranks` over the metrics, 1 for a method that is best in all; NaN without a score.
        family_rank: the same, where each family of metrics counts once.
        means: mean score by metric, over seeds and samples.
        ranks: rank by metric, 1 for the best.
        valid: how many scores were averaged, and how many there should be.
        forwards: forward passes an explanation.
        backwards: backward passes an explanation.
        milliseconds: time of an explanation.
        train_seconds: seconds of training, once.
        train_passes: forward and backward passes of training, once.
        break_even: number of explanations after which training has cost no more time than KernelSHAP; infinite where it
            never does, None where nothing was trained.
        evidence: share of the positive attribution that lies on planted evidence; None where none was planted.
        gaps: what is missing, in words.
        sample_rank: methods ranked on each sample, then averaged.
        low: lower end of the 95 % interval of `mean_rank`; NaN where there is one score only.
        high: upper end of it.
        best: share of resamples in which the method leads, 0 to 1.
        group: methods with one number cannot be told apart from the first of them; 0 where there is one score only.
    """

    method: str
    kind: str
    mean_rank: float
    family_rank: float
    means: dict[str, float]
    ranks: dict[str, float]
    valid: tuple[int, int]
    forwards: float
    backwards: float
    milliseconds: float
    train_seconds: float
    train_passes: float = 0.0
    break_even: float | None = None
    evidence: float | None = None
    gaps: tuple[str, ...] = ()
    sample_rank: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    best: float = float("nan")
    group: int = 0


@dataclass(frozen=True)
class CostClass:
    """What a board says of its class of costs, the methods on which are tuned for it.

    Attributes:
        name: the most rows, forward and backward passes, an explanation; or `any`.
        settings: by method, the parameters that were chosen and are not its defaults.
        notes: sentences on how they were chosen, and on what is not on the board.
    """

    name: str
    settings: dict[str, dict[str, Any]]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Return the class in words."""
        return "any number of rows" if self.name == "any" else f"at most {self.name} rows"

    def given(self, method: str) -> str:
        """Return the settings of a method that are not its defaults, as a person writes them."""
        return ",".join(f"{key}={value}" for key, value in self.settings.get(method, {}).items())


@dataclass(frozen=True)
class Board:
    """The methods of one task from the best mean rank to the worst.

    Attributes:
        source: real or synthetic.
        task: its name.
        samples: number of test samples.
        seeds: seeds that the means are over.
        limit: number of test samples asked for, None for all there are.
        precision: of the model's forward passes, fp32 or bf16.
        metrics: by name, whether higher is better, in the order of the columns; all of one group.
        rows: the methods.
        origin: where the data come from.
        quality: the model's accuracy and balanced accuracy, 0 to 1, where known; means over models.
        preset: standard, quick or paper.
        device: cpu or cuda.
        comparable: False where a record says that it may share no board with others.
        weak: the model is under the task's floor.
        group: of its metrics: `ten`, the paper's, or another.
        models: seeds of the task's models that the means are over.
        cost_class: what the methods were tuned for; None on a board of settings as they were run.
        notes: sentences that a reader must know to read the board right.
    """

    source: str
    task: str
    samples: int
    seeds: tuple[int, ...]
    limit: int | None
    precision: str
    metrics: dict[str, bool]
    rows: tuple[Row, ...]
    origin: str
    quality: dict[str, float]
    preset: str = "standard"
    device: str = "cpu"
    comparable: bool = True
    weak: bool = False
    group: str = PAPER
    models: tuple[int, ...] = (0,)
    cost_class: CostClass | None = None
    notes: tuple[str, ...] = field(default=())


Kind = tuple[str, str, str, str, str, int | None]


def kind_of(item: Record | Board) -> Kind:
    """Return what the records of one board share: source, task, precision, device, preset and limit."""
    cell = item.cell if isinstance(item, Record) else item
    return cell.source, cell.task, cell.precision, cell.device, cell.preset, cell.limit
