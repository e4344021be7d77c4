"""Who leads published boards of classes of costs, and that the documents say so."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from benchmark.cli.parser import main
from benchmark.cli.studies.marked import MarkedPage
from benchmark.core.errors import DataError
from leaderboards.places import PUBLISHED, leaders_table, method_table, read, unclassed_table
from leaderboards.tables import write

ROOT = Path(__file__).parents[2]
HEADER = (
    "task,method,mean_rank,low,high,group,forwards,backwards,train_seconds,kind,source,samples,seeds,models,preset,"
    "metric_group,cost_class"
)
ROWS = [
    ("exact_shapley", 1.5, 1, 2, 1, 128, 0, 0, "oracle"),
    ("lime", 2.0, 1, 3, 1, 60, 0, 0, "baseline"),
    ("deepfaith", 2.5, 2, 3, 1, 1, 0, 40, "learned"),
    ("saliency", 4.0, 4, 4, 2, 1, 1, 0, "baseline"),
    ("random", 5.0, 5, 5, 3, 0, 0, 0, "control"),
]


def board(folder, name="nap_mlp-60-rows.csv", rows=ROWS, task="nap_mlp", source="real", cost_class="60"):
    lines = [",".join(map(str, (task, *row, source, 30, 2, 1, "standard", "ten", cost_class))) for row in rows]
    (folder / name).write_text("\n".join(["# a head", HEADER, *lines]) + "\n", encoding="utf-8")


def places(*words):
    return main(["places", *map(str, words)])


def test_leaders_are_the_first_method_and_those_that_cannot_be_told_from_it(tmp_path):
    board(tmp_path)
    (read_board,) = read(tmp_path)
    assert [place.method for place in read_board.places] == ["lime", "deepfaith", "saliency"], "no control, no oracle"
    assert [place.method for place in read_board.leaders] == ["lime", "deepfaith"]
    assert leaders_table([read_board]).rows == [
        ["nap_mlp", "30 (2 seeds, 1 model)", "–", "lime 2.0, deepfaith 2.5", "–", "–"]
    ]


def test_an_oracle_that_leads_alone_does_not_make_others_level(tmp_path):
    board(tmp_path, rows=[("exact_shapley", 1.0, 1, 1, 1, 128, 0, 0, "oracle"),
                          ("lime", 2.0, 2, 2, 2, 60, 0, 0, "baseline"),
                          ("saliency", 3.0, 3, 3, 3, 2, 0, 0, "baseline")])  # fmt: skip
    assert [place.method for place in read(tmp_path)[0].leaders] == ["lime"]


@pytest.mark.parametrize(
    ("method", "place", "standing", "other"),
    [
        ("lime", "1 of 3", "first, level with deepfaith", "deepfaith 2.5 (2.0 to 3.0; 1 rows)"),
        ("deepfaith", "2 of 3", "level with lime", "lime 2.0 (1.0 to 3.0; 60 rows)"),
        ("saliency", "3 of 3", "behind lime", "lime 2.0 (1.0 to 3.0; 60 rows)"),
    ],
)
def test_where_a_method_stands(method, place, standing, other, tmp_path):
    board(tmp_path)
    (row,) = method_table(read(tmp_path), method).rows
    assert (row[4], row[5], row[8]) == (place, standing, other)


def test_a_method_that_leads_alone_is_said_to(tmp_path):
    board(tmp_path, rows=[(*row[:4], index + 1, *row[5:]) for index, row in enumerate(ROWS)])
    assert method_table(read(tmp_path), "lime").rows[0][5] == "first alone"


def test_boards_of_synthetic_data_and_those_of_no_class_take_no_part(tmp_path):
    board(tmp_path, "nap_mlp-synthetic-60-rows.csv", source="synthetic")
    board(tmp_path, "nap_mlp.csv", cost_class="")
    with pytest.raises(DataError, match="has no board of a class of costs of real data"):
        read(tmp_path)


def test_tasks_and_classes_are_in_order(tmp_path):
    for task in ("wcd_mlp", "nap_mlp"):
        for rows in ("any", "5", "500"):
            board(tmp_path, f"{task}-{rows}-rows.csv", task=task, cost_class=rows)
    assert [(each.task, each.cost_class) for each in read(tmp_path)] == [
        (task, rows) for task in ("nap_mlp", "wcd_mlp") for rows in ("5", "500", "any")
    ]


def test_what_is_wrong_with_boards_is_said(tmp_path, capsys):
    assert places("--boards", tmp_path / "none") == 3
    assert "has no board of a class of costs" in capsys.readouterr().err
    board(tmp_path)
    assert places("--boards", tmp_path, "--of", "limee") == 2
    assert "limee stands on none of these boards: expected one of deepfaith, lime, saliency" in capsys.readouterr().err
    board(tmp_path, "nap_mlp-60-rows-3-models.csv")
    assert places("--boards", tmp_path) == 3
    assert "two boards of nap_mlp for 60 rows" in capsys.readouterr().err
    (tmp_path / "nap_mlp-60-rows-3-models.csv").write_text("task,method\nnap_mlp,lime\n")
    assert places("--boards", tmp_path) == 3
    assert "nap_mlp-60-rows-3-models.csv is no published board" in capsys.readouterr().err


def test_a_page_is_given_both_parts(tmp_path, capsys):
    board(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- places -->\n<!-- /places -->\nb\n<!-- places: lime -->\n<!-- /places: lime -->\nc\n")
    assert (
        places("--boards", tmp_path, "--write", page)
        == places("--boards", tmp_path, "--of", "lime", "--write", page)
        == 0
    )
    text = page.read_text()
    assert "lime 2.0, deepfaith 2.5" in text
    assert "first, level with deepfaith" in text
    assert re.search(r"Made by `python -m benchmark places --of lime --boards .* --write .*page.md`", text)
    page.write_text("no marks\n")
    assert places("--boards", tmp_path, "--write", page) == 2


@pytest.mark.parametrize(
    ("method", "standing", "cheap", "best"),
    [
        ("deepfaith", "level with lime", "–", "lime 2.0 (1.0 to 3.0; 60 rows)"),
        ("saliency", "behind lime", "deepfaith 2.5 (2.0 to 3.0; 1 rows)", "lime 2.0 (1.0 to 3.0; 60 rows)"),
        ("lime", "first, level with deepfaith", *["deepfaith 2.5 (2.0 to 3.0; 1 rows)"] * 2),
    ],
)  # fmt: skip
def test_beside_methods_of_any_cost(method, standing, cheap, best, tmp_path):
    board(tmp_path, "nap_mlp.csv", cost_class="")
    board(tmp_path, "nap_mlp-60-rows.csv")
    (row,) = unclassed_table(read(tmp_path, classes=False), method).rows
    assert (row[4], row[7], row[8]) == (standing, cheap, best)


def test_stand_ins_have_a_table_of_their_own(tmp_path, capsys):
    board(tmp_path, "nap_mlp.csv", cost_class="")
    board(tmp_path, "wcd_mlp-synthetic.csv", task="wcd_mlp", source="synthetic", cost_class="")
    page = tmp_path / "page.md"
    page.write_text("<!-- places: lime no class synthetic -->\n<!-- /places: lime no class synthetic -->\n")
    words = ("--boards", tmp_path, "--of", "lime", "--no-class", "--source", "synthetic", "--write", page)
    assert places(*words) == 0
    text = page.read_text()
    assert "wcd_mlp" in text
    assert "lime beside methods of any cost, on SYNTHETIC stand-ins" in text
    assert "nap_mlp" not in text
    assert "--of lime --no-class --source synthetic" in text
    assert places(*words[:4]) == 3, "no board of a class"
    assert places("--no-class") == 2
    assert "name it with --of METHOD" in capsys.readouterr().err


@pytest.mark.parametrize(("page", "of"), [("README.md", None), ("docs/deepfaith.md", "deepfaith")])
def test_documents_say_what_the_published_boards_show(page, of):
    boards = read(PUBLISHED)
    part = f"places: {of}" if of else "places"
    table = method_table(boards, of) if of else leaders_table(boards)
    assert write(table, "md").strip() in MarkedPage("page", ROOT / page, part)[part]


@pytest.mark.parametrize(
    ("source", "part", "tasks"),
    [
        ("real", "", {"agnews_lstm", "digits_cnn", "imagenet_mobilenet", "nap_mlp", "wcd_mlp"}),
        ("synthetic", " synthetic", {"agnews_lstm", "nap_mlp", "oct_efficientnet"}),
    ],
)
def test_documents_say_where_the_hinted_form_stands(source, part, tasks):
    boards = read(PUBLISHED / "no_class", classes=False, source=source)
    assert tasks <= {board.task for board in boards}
    part = f"places: deepfaith_hinted no class{part}"
    page = MarkedPage("page", ROOT / "docs/deepfaith.md", part)
    assert write(unclassed_table(boards, "deepfaith_hinted"), "md").strip() in page[part]


def test_our_own_boards_without_a_class_are_read():
    assert {"nap_mlp", "imdb_lstm"} <= {board.task for board in read(PUBLISHED, classes=False)}


def test_the_places_are_those_of_the_files():
    for each in read(PUBLISHED):
        (path,) = PUBLISHED.glob(f"{each.task}-{each.cost_class}-rows*.csv")
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        ranks = {row["method"]: float(row["mean_rank"]) for row in csv.DictReader(lines)}
        assert {place.method: place.rank for place in each.places}.items() <= ranks.items()
        assert all(place.low <= place.rank <= place.high for place in each.places)
