"""A folder that the Hugging Face hub takes as a data set: a card, and the scores as parquet. Nothing is uploaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmark.bridges.scores import Scores
from benchmark.bridges.tidy import UNITS, parquet_bytes, records_of, to_frame
from benchmark.core.errors import UsageError, printable
from benchmark.core.files import path_of, write_atomically
from benchmark.records.provenance import version
from benchmark.records.record import Record

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
LABELS = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")
"""What the hub calls numbers of rows."""


def write_dataset(
    records: str | Path,
    out: str | Path,
    *,
    name: str = "Faithfulness scores of feature attributions",
    licence: str = "unknown",
    theirs: Sequence[Scores] = (),
) -> Path:
    """Write records as a data set for the Hugging Face hub: README.md, its card, and data/*.parquet.

    Scores on real and on synthetic data are two configurations, those of others a third, so that none are read together
    by accident.

    Args:
        records: a folder of records, or anything else that `to_frame` takes.
        out: a folder that is empty or not there yet.
        name: the title of the card.
        licence: of the scores, a word that the hub knows, such as cc-by-4.0.
        theirs: scores of others, see `Scores`.

    Returns:
        The folder. `huggingface-cli upload NAME FOLDER --repo-type dataset` uploads it, and
        `datasets.load_dataset(FOLDER, "real")` reads it here.

    Raises:
        UsageError: the folder holds something, or no record is done.
        DataError: a record is damaged.
    """
    out = path_of(out, "out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"expected an empty folder to write the data set into, {out} is none: name another")
    done = records_of(records)
    frame = to_frame(done)
    tables = dict(iter(frame.groupby("source", sort=True)))
    if theirs:
        parts = [
            scores.frame.assign(
                computed_by=scores.source, better=scores.frame["metric"].map(lambda m, s=scores: s.better.get(m, ""))
            )
            for scores in theirs
        ]
        tables["by_others"] = pd.concat(parts, ignore_index=True)
    for config, table in tables.items():
        write_atomically(out / "data" / f"{config}.parquet", parquet_bytes(table.reset_index(drop=True)))
    write_atomically(out / "README.md", _card(name, licence, tables, frame, done).encode())
    return out


def _card(name: str, licence: str, tables: dict[str, pd.DataFrame], frame: pd.DataFrame, records: list[Record]) -> str:
    """Return README.md: front matter, what is in the tables, and what made them."""
    rows = sum(map(len, tables.values()))
    front = {
        "pretty_name": name,
        "license": licence,
        "tags": ["explainability", "feature-attribution", "faithfulness", "benchmark"],
        "size_categories": [LABELS[sum(rows >= size for size in SIZES)]],
        "configs": [
            {"config_name": config, "data_files": [{"split": "test", "path": f"data/{config}.parquet"}]}
            for config in tables
        ],
    }
    failed = sum(record.status != "done" for record in records)
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", ""]
    lines += [
        f"# {_cell(name)}",
        "",
        f"{len(frame):,} scores of {frame['label'].nunique()} explanation methods on {frame['task'].nunique()} tasks, "
        "a row for each sample and metric: features are removed as an attribution orders them, and the model's "
        f"prediction is read. Made by {version()}.",
        "",
    ]
    if "synthetic" in tables:
        lines += [
            "The configuration `synthetic` holds scores on made-up stand-ins, which say nothing about real data.",
            "",
        ]
    if failed:
        lines += [f"{failed} records failed and are left out.", ""]
    lines += _table(["configuration", "task", "data", "methods", "samples", "metrics"], _tasks(frame))
    lines += ["", "## Metrics", ""]
    facts = frame.drop_duplicates(["metric", "metric_version"])[
        ["metric", "metric_version", "better", "unit", "family"]
    ]
    lines += _table(["metric", "version", "better", "unit", "family"], facts.to_numpy().tolist())
    lines += ["", "## Columns", "", *_table(["column", "holds"], [[f"`{key}`", text] for key, text in UNITS.items()])]
    if "by_others" in tables:
        computed = ", ".join(sorted(set(tables["by_others"]["computed_by"])))
        lines += [
            "", "## Scores by others", "",
            f"The configuration `by_others` holds scores as {_cell(computed)} computed them. They are of other "
            "definitions, and in no rank or mean of ours.",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _tasks(frame: pd.DataFrame) -> list[list[object]]:
    groups = frame.groupby(["source", "task", "origin"], sort=True)
    return [
        [*key, part["label"].nunique(), part["sample"].nunique(), ", ".join(dict.fromkeys(part["metric"]))]
        for key, part in groups
    ]


def _table(header: list[str], rows: list[list[object]]) -> list[str]:
    """Return a table in Markdown."""
    cells = [list(map(_cell, row)) for row in [header, ["---"] * len(header)]] + [list(map(_cell, row)) for row in rows]
    return [f"| {' | '.join(row)} |" for row in cells]


def _cell(value: object) -> str:
    """Return text that neither ends a cell nor begins markup."""
    text = printable(str(value)).replace("\\", "\\\\")
    return text.replace("|", "\\|").replace("<", "&lt;")
