"""`Result`: scores by metric, the board, a figure, and records on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmark.api.saving import write_records
from benchmark.core.errors import UsageError, did_you_mean, few
from benchmark.core.files import path_of
from benchmark.records.record import Record
from benchmark.records.store import RecordStore
from benchmark.scoring.metrics import PAPER
from leaderboards.board import kind_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmark.scoring.evaluator import Evaluation
    from leaderboards.board import Board
    from leaderboards.rank import Ranking

PARTS = ("task", "seed", "source", "limit", "precision", "device", "preset")
"""What records of one label may differ in."""
CONTROLS = 'no control is among these: add "random": benchmark.method("random") to see what explaining nothing scores'


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What `evaluate` gave, or what `load` read.

    Example:
        >>> import torch
        >>> import benchmark as fb
        >>> own = fb.task(torch.nn.Linear(4, 3), torch.randn(5, 4))
        >>> result = fb.evaluate(own, {"mine": torch.randn(5, 4)}, metrics="DEL,FC")
        >>> list(result.scores), result.to_frame().shape
        (['FC', 'DEL'], (10, 7))

    Attributes:
        records: one for each label, as a run stores them.
        examples: a few samples of each record, for a report.
        evaluations: what the evaluator gave, by label; empty where the result was loaded.
    """

    records: tuple[Record, ...]
    examples: tuple[list[dict[str, Any]], ...] = ()
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """Return the labels of what was evaluated, in its order."""
        return list(dict.fromkeys(record.label for record in self.records))

    @property
    def scores(self) -> dict[str, pd.DataFrame]:
        """Return a table for each metric: a row a sample, a column a label; NaN where a score is undefined."""
        frame = self.to_frame()
        rows = [name for name in PARTS if name in frame and frame[name].nunique() > 1] + ["sample"]
        tables = {}
        for metric in frame["metric"].unique():
            of_metric = frame[frame["metric"] == metric]
            table = of_metric.pivot(index=rows if len(rows) > 1 else "sample", columns="method", values="score")
            order = of_metric.set_index(rows).index.unique()
            columns = [label for label in self.labels if label in table]
            tables[metric] = table.loc[order, columns].rename_axis(columns=None)
        return tables

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each method, sample and metric: method, sample, target, metric, score, valid, reason.

        Where the result holds several tasks or seeds, `task` and `seed` stand in front; likewise whatever else its
        records differ in: `limit` is their number of samples.
        """
        cells = [record.cell for record in self.records]
        several = [name for name in PARTS if len({getattr(cell, name) for cell in cells}) > 1]
        frames = []
        for record in self.records:
            if record.status != "done":
                continue
            given = {name: getattr(record.cell, name) for name in several} | {"method": record.label}
            given |= {"limit": record.n_total} if "limit" in several else {}
            frame = record.scores.assign(**given)[[*given, *record.scores.columns]]
            frame = frame.astype({"sample": int, "target": int, "metric": str, "reason": object})
            frames.append(frame.assign(reason=frame["reason"].where(frame["reason"].notna(), None)))
        if not frames:
            raise UsageError("this result holds no scores: every record in it failed")
        whole = pd.concat(frames, ignore_index=True)
        place = {name: at for at, name in enumerate([*self.labels, *self._metrics()])}
        return whole.sort_values(
            ["method", "metric"], key=lambda names: names.map(place), kind="stable", ignore_index=True
        )

    def _metrics(self) -> list[str]:
        """Return the metrics in the order of boards."""
        order = {name: facts["order"] for record in self.records for name, facts in record.metrics.items()}
        return sorted(order, key=lambda name: (order[name], name))

    def rankings(self) -> list[Ranking]:
        """Return the boards of each task and group of metrics with what they were made from; those with gaps, too."""
        from leaderboards.rank import rankings

        return rankings(self.records, partial=True)

    def board(self, group: str | None = None) -> Board:
        """Return the mean-rank board.

        Args:
            group: of metrics: `ten`, the paper's, by default where the result has them, or that of others.

        Raises:
            UsageError: the result holds several tasks, or several groups of which none is said.
        """
        boards = [ranking.board for ranking in self.rankings()]
        kinds = {kind_of(board) for board in boards}
        if len(kinds) > 1:
            names = few(sorted({board.task for board in boards}))
            raise UsageError(f"this result holds boards of {len(kinds)} runs ({names}): load one, with task=")
        by_group = {board.group: board for board in boards}
        group = group or (next(iter(by_group)) if len(by_group) == 1 else PAPER)
        if group not in by_group:
            raise UsageError(f"this result has no board of the metrics {group!r}{did_you_mean(group, by_group)}")
        return by_group[group]

    def __repr__(self) -> str:
        """Return in a line what this holds."""
        tasks = few(sorted({record.cell.task for record in self.records}))
        return f"Result({tasks}: {few(self.labels)}; metrics {', '.join(self._metrics())})"

    def __str__(self) -> str:
        """Return the boards as text."""
        from leaderboards.tables import render

        boards = [ranking.board for ranking in self.rankings()]
        controls = any(record.kind in ("control", "oracle") for record in self.records)
        return render(boards, "table") + ("" if controls else f"\n{CONTROLS}")

    def plot(self, group: str | None = None) -> Figure:
        """Draw the mean ranks with their 95 % intervals.

        Args:
            group: of metrics, see `board`.

        Returns:
            A figure of matplotlib, which a notebook shows; `.savefig("board.png")` writes it.
        """
        import matplotlib as mpl
        from matplotlib import pyplot as plt

        from leaderboards.figures import intervals_figure

        with mpl.rc_context():  # a person's own settings stay
            figure = intervals_figure(self.board(group))
        plt.close(figure)  # of pyplot's list alone: it can be shown and saved
        return figure

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the records to a folder, as a run does, all or none.

        A record that is there of the same label, seed and number of samples, and of the same attributions, model and
        data, keeps the metrics that this one has not; its costs become those of this one. The commands `leaderboard
        --out FOLDER` and `report --out FOLDER`, and `load`, read them.

        Args:
            folder: is made where there is none.
            overwrite: whether a record of the same label that is of something else is replaced, and not refused.

        Returns:
            The folder.

        Raises:
            UsageError: the folder cannot be written, or holds another record of the same label.
        """
        root = path_of(folder, "folder")
        store = RecordStore(root).open()
        write_records(store, self.records, self.examples, overwrite)
        return root


def load(folder: str | Path, *, task: str | None = None) -> Result:
    """Read the records in a folder, whatever wrote them.

    Example:
        >>> result = load("results", task="nap_mlp")  # doctest: +SKIP

    Args:
        folder: that `Result.save` or `python -m benchmark run` wrote.
        task: only the records of one task.

    Raises:
        UsageError: there is no such folder, no record in it, or one that is damaged.
    """
    root = path_of(folder, "folder")
    if not root.is_dir():
        what = "a file" if root.is_file() else "nothing"
        raise UsageError(f"load expects a folder of records, as save writes it, got {what} at {str(root)!r}")
    store = RecordStore(root)
    known = store.tasks()
    if task is not None and task not in known:
        raise UsageError(f"no records of a task {task!r} in {str(root)!r}{did_you_mean(task, known)}")
    records, problems = store.scan(task=task)
    if problems:
        count = f"{len(problems)} record{'s' * (len(problems) > 1)}"
        raise UsageError(f"{count} in {str(root)!r} cannot be read, of which the first: {problems[0]}")
    if not records:
        raise UsageError(f"no records in {str(root)!r}: save writes some")
    return Result(tuple(records), tuple(store.examples(record) for record in records))
