"""What a cell gives for some of its samples, and where that is kept until the rest is there."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import RecordError, describe
from benchmark.core.files import write_atomically
from benchmark.core.identity import source_digest
from benchmark.core.store import Unusable, intact, key_of, sealed, unseal
from benchmark.records.provenance import versions
from benchmark.records.record import Cell, Record
from benchmark.records.store import RecordStore, plain_record, record_from, stored_or_said

if TYPE_CHECKING:
    from benchmark.scoring.evaluation import Evaluation

FORMAT = 1
EXPLAINERS = "explainers"
NAME = re.compile(r"^(?P<start>\d+)-(?P<stop>\d+)\.safetensors$")
"""How a file is named after its samples, the last one not among them."""


@dataclass(frozen=True, eq=False)
class Part:
    """What a cell gave for some of its samples.

    Attributes:
        record: that of the cell, but for its scores and what follows from all of them; a failed one ends the cell.
        evaluation: of these samples; None where they failed. What a file keeps is without attributions and costs.
        shown: those of these samples that are among the first of the cell (see `benchmark.running.kept_samples`).
    """

    record: Record
    evaluation: Evaluation | None = None
    shown: list[dict[str, Any]] = field(default_factory=list)


def content_of(part: Part, name: str) -> bytes:
    """Return a part that did not fail as the content of the file `name`.

    Raises:
        ValueError, TypeError, RecordError: it holds something that JSON or a record has no word for.
    """
    import torch

    evaluation = part.evaluation
    assert evaluation is not None
    tensors = {f"scores/{metric}": scores for metric, scores in evaluation.scores.items()}
    tensors |= {f"reasons/{metric}": codes for metric, codes in evaluation.reasons.items()}
    tensors |= {"samples": torch.tensor(evaluation.samples), "target": torch.tensor(evaluation.target)}
    tensors |= {} if evaluation.evidence is None else {"evidence": evaluation.evidence}
    facts = {"record": plain_record(part.record), "metrics": list(evaluation.scores), "shown": part.shown}
    return sealed(tensors, json.loads(json.dumps(facts, allow_nan=False)), name)


def part_in(path: Path, name: str) -> Part:
    """Return the part that a file holds.

    Raises:
        FileNotFoundError: there is none.
        Unusable: it is damaged, or another file.
    """
    from benchmark.scoring.evaluation import Evaluation

    tensors, facts = unseal(path, name)
    try:
        evaluation = Evaluation(
            samples=tensors["samples"].tolist(),
            target=tensors["target"].tolist(),
            scores={metric: tensors[f"scores/{metric}"] for metric in facts["metrics"]},
            reasons={metric: tensors[f"reasons/{metric}"] for metric in facts["metrics"]},
            evidence=tensors.get("evidence"),
        )
        return Part(record_from(facts["record"]), evaluation, facts["shown"])
    except (KeyError, TypeError, RecordError) as error:
        raise Unusable(f"holds no part of a record ({describe(error, Part)})") from error


class PartStore:
    """The parts of one cell under a folder of records, as long as it is not finished.

    Args:
        store: of the records.
        cell: whose parts they are.
        identity: digests of all that scores follow from beside the cell itself; parts of others are none of these.
        metrics: facts of those that are scored.
        engine: what answers for the model, whose last digits may differ from another's.
    """

    def __init__(
        self, store: RecordStore, cell: Cell, identity: dict[str, str], metrics: dict[str, Any], engine: str
    ) -> None:
        self.store, self.cell, self.identity = store, cell, identity
        code = source_digest("benchmark.scoring.evaluator")  # parts of one record are of one program
        self.folder = store.parts(cell) / key_of(FORMAT, identity, metrics, engine, code, versions())

    def path(self, rows: range) -> Path:
        """Return where the part of some samples is or will be."""
        return self.folder / f"{rows.start}-{rows.stop}.safetensors"

    def name(self, rows: range) -> str:
        """Return what the part of some samples says of itself, so that no other file passes for it."""
        return f"{self.cell.key}/{self.folder.name}/{rows.start}-{rows.stop}"

    def stored(self) -> list[range]:
        """Return the samples of parts that are there, in their order, each sample once and as many as there are.

        Parts overlap where two runs cut a cell otherwise.
        """
        found = [NAME.match(path.name) for path in self.folder.glob("*.safetensors")]
        ranges = [range(int(name["start"]), int(name["stop"])) for name in found if name]
        best: list[tuple[int, list[range]]] = [(0, [])]  # of ranges that end before: how many samples, and which
        ends = [0]
        for rows in sorted(filter(len, ranges), key=lambda rows: (rows.stop, rows.start)):
            samples, before = best[bisect_right(ends, rows.start) - 1]
            if samples + len(rows) > best[-1][0]:
                best.append((samples + len(rows), [*before, rows]))
                ends.append(rows.stop)
        return best[-1][1]

    def remove(self) -> None:
        """Remove the parts."""
        self.store.remove_parts(self.cell, self.folder.name)

    def read(self, rows: range) -> Part | None:
        """Return the part of some samples, or None where there is none; a damaged one is set aside, with a warning."""
        return intact(self.path(rows), lambda path: part_in(path, self.name(rows)), "part of a record")

    def explainers(self) -> dict[str, bytes]:
        """Return the files of explainers that parts were computed with elsewhere, by their place in the cache."""
        folder = self.folder / EXPLAINERS
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}

    def keep_explainers(self, files: dict[str, bytes]) -> None:
        """Keep the files of explainers, so that the rest of the cell is computed with the same.

        Raises:
            BenchmarkError: the disk is full or fails.
        """
        with stored_or_said(self.store, self.cell, self.folder):
            for place, content in files.items():
                write_atomically(self.folder / EXPLAINERS / place, content)

    def write(self, rows: range, content: bytes) -> None:
        """Keep what `content_of` gave.

        Raises:
            BenchmarkError: the disk is full or fails.
        """
        with stored_or_said(self.store, self.cell, self.folder):
            write_atomically(self.path(rows), content)
