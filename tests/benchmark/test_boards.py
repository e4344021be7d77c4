"""leaderboard, report and compare as a user calls them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmark.cli.parser import main
from benchmark.records.store import RecordStore
from benchmark.scoring.metrics import METRICS
from leaderboards.paper import read
from tests.leaderboards.generated import NAMES, made, several

SIGNS = np.array([1 if METRICS[name].higher_is_better else -1 for name in NAMES])[:, None]
PAPER = ("deepfaith", "lime", "saliency", "occlusion")
LEARNED = ("deepfaith", "fastshap", "vert")


def store(folder, records):
    kept = RecordStore(folder).open()
    for record in records:
        kept.write(record)
    return folder


def paper_like(folder, names=(*PAPER, "fastshap", "vert"), tasks=("nap_mlp", "wcd_mlp")):
    """Store methods whose quality falls in the order given."""
    rng = np.random.default_rng(0)
    return store(folder, [made(SIGNS * (rng.normal(size=(10, 30)) - 2 * i), name, task)
                          for task in tasks for i, name in enumerate(names)])  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    records, _ = several(1, 4, 2, 15)
    names = {"t00": "nap_mlp"}
    return store(
        tmp_path_factory.mktemp("results"),
        [replace(r, cell=replace(r.cell, task=names[r.cell.task])) for r in records],
    )


def board(results, *words):
    return main(["leaderboard", "--out", str(results), *words])


@pytest.mark.parametrize("form", ["table", "md", "csv", "json", "latex"])
def test_forms(results, capsys, form):
    assert board(results, "--format", form) == 0
    out = capsys.readouterr().out
    assert all(f"m{i:02d}" in out for i in range(4))
    match form:
        case "csv":
            assert out.startswith("task,method,mean_rank,FC,FE,MC,INF,DEL,INS,NEG,POS,RP,IROF,low,high,")
            rows = list(csv.DictReader(io.StringIO(out)))
            assert [float(row["low"]) <= float(row["high"]) for row in rows] == [True] * 4
            assert {"source", "task", "best", "group", "break_even", *NAMES} <= set(rows[0])
        case "json":
            assert json.loads(out)["boards"][0]["rows"][0]["group"] == 1
        case "latex":
            assert out.count(r"\toprule") == out.count(r"\end{tabular}") == 1
            assert r"nap\_mlp" in out
            assert r"INS$\uparrow$" in out
        case _:
            assert "95 % interval" in out
            assert "cannot be told from the first of them" in out


def test_some_metrics(results, capsys):
    assert board(results, "--metrics", "FC,DEL", "--format", "json") == 0
    assert list(json.loads(capsys.readouterr().out)["boards"][0]["metrics"]) == ["FC", "DEL"]
    assert board(results, "--metrics", "FX") == 2
    assert "FX" in capsys.readouterr().err


def test_pairs(results, capsys):
    assert board(results, "--pairs") == 0
    assert "all pairs · nap_mlp, real data" in capsys.readouterr().out
    assert board(results, "--pairs", "--format", "json") == 0
    assert len(json.loads(capsys.readouterr().out)["pairs"][0]["rows"]) == 6


def test_several_tasks_stand_together(tmp_path, capsys):
    paper_like(tmp_path)
    assert board(tmp_path) == 0
    out = capsys.readouterr().out
    assert "2 tasks together · real data" in out
    assert "deepfaith against each: no test possible" in out
    assert board(tmp_path, "--one", "lime", "--format", "json") == 0
    together = json.loads(capsys.readouterr().out)["overall"][0]
    assert together["tasks"] == ["nap_mlp", "wcd_mlp"]
    assert together["tests"][1].startswith("lime against each")


# The paper


def test_the_paper_beside_ours(tmp_path, capsys):
    paper_like(tmp_path)
    assert board(tmp_path, "--compare", "paper", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    published = {row["method"]: row for row in read("mean_rank")}
    for task, table, alike in zip(("nap_mlp", "wcd_mlp"), found["tables"], found["agreement"], strict=False):
        assert table["rows"] == [[m, f"{i + 1:.1f}", f"{i + 1:.1f} to {i + 1:.1f}", published[m][task]]
                                 for i, m in enumerate(PAPER)]  # fmt: skip
        from scipy.stats import spearmanr

        theirs = [float(published[m][task]) for m in PAPER]
        assert alike["rho"] == pytest.approx(spearmanr(range(4), theirs).statistic)
    learned = found["tables"][2]
    assert learned["header"] == ["method", "where", "FC↑", "INS↑", "DEL↓", "NEG↑", "IROF↑", "rank"]
    ours = [row for row in learned["rows"] if row[1] == "here"]
    assert [row[0] for row in ours] == list(LEARNED)
    assert [row[-1] for row in ours] == ["1.0", "2.0", "3.0"]
    theirs = [row for row in learned["rows"] if row[1] == "paper"]
    assert ["deepfaith", "paper", "0.788", "0.844", "0.031", "0.770", "0.844", "1.3"] in theirs
    assert len(theirs) == 3
    assert any("faulty run" in line for line in found["why"])
    for form in ("table", "md", "csv", "latex"):
        assert board(tmp_path, "--compare", "paper", "--format", form) == 0
        assert "0.788" in capsys.readouterr().out


def test_a_variant_stands_in_where_the_default_was_not_run(tmp_path, capsys):
    paper_like(tmp_path, tasks=("nap_mlp",))
    rng = np.random.default_rng(1)
    for task in ("nap_mlp", "wcd_mlp"):
        for at, (name, params) in enumerate((("deepfaith", {"rows": 60}), ("lime", {}), ("vert", {}))):
            if task == "wcd_mlp" or params:
                record = made(SIGNS * (rng.normal(size=(10, 30)) - 2 * at), name, task)
                label = "deepfaith[rows=60]" if params else name
                store(tmp_path, [replace(record, label=label, cell=replace(record.cell, params=params))])
    assert board(tmp_path, "--compare", "paper", "--format", "json") == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert [row[0] for row in tables[0]["rows"]] == list(PAPER), "the default is there: no variant"
    assert [row[0] for row in tables[1]["rows"]] == ["deepfaith[rows=60]", "lime"]
    assert [row[0] for row in tables[3]["rows"]] == ["deepfaith[rows=60]", "vert"]


def test_nothing_of_the_paper(results, capsys):
    assert board(results, "--compare", "paper") == 2
    assert "the paper has no numbers for these tasks and methods" in capsys.readouterr().err


# A published board


def test_a_board_that_can_be_made_again(results, tmp_path, capsys):
    board(results, "--format", "csv")
    path = tmp_path / "board.csv"
    path.write_text("# made by a command\n# with versions\n" + capsys.readouterr().out)
    assert board(results, "--check", str(path)) == 0
    assert "the records give the same board" in capsys.readouterr().out
    lines = path.read_text().splitlines()
    cells = lines[3].split(",")
    cells[2] = str(float(cells[2]) + 0.25)
    path.write_text("\n".join([*lines[:3], ",".join(cells), *lines[5:]]) + "\n")
    assert board(results, "--check", str(path)) == 1
    said = capsys.readouterr()
    assert f"mean_rank was {cells[2]}, is" in said.out
    assert "was not there" in said.out
    assert "can no longer be made from these records: 2 differences" in said.err
    capsys.readouterr()
    (tmp_path / "board.png").write_bytes(b"\x89PNG")
    for wrong, why in (("none.csv", "no such file"), ("board.png", "it holds no text"), (".", "it is a folder")):
        assert board(results, "--check", str(tmp_path / wrong)) == 2
        assert why in capsys.readouterr().err


def test_only_boards_that_were_published_are_checked(tmp_path, capsys):
    paper_like(tmp_path)
    board(tmp_path, "--task", "nap_mlp", "--format", "csv")
    path = tmp_path / "board.csv"
    path.write_text(capsys.readouterr().out)
    assert board(tmp_path, "--check", str(path)) == 0, "that of wcd_mlp is nobody's concern"


def test_boards_of_one_name_do_not_overwrite_each_other(tmp_path, capsys):
    records = several(1, 3, 1, 10)[0]
    records = [replace(r, cell=replace(r.cell, task="nap_mlp", limit=limit)) for r in records for limit in (None, 10)]
    store(tmp_path / "results", records)
    assert board(tmp_path / "results", "--publish", str(tmp_path / "boards")) == 2
    assert "several boards would be called nap_mlp" in capsys.readouterr().err
    assert not (tmp_path / "boards").exists()


def test_a_published_board_says_what_made_it(results, tmp_path, capsys):
    folder = tmp_path / "published"
    assert board(results, "--publish", str(folder)) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["nap_mlp.csv", "nap_mlp.md", "nap_mlp.png"]
    for name in ("nap_mlp.csv", "nap_mlp.md"):
        text = (folder / name).read_text()
        assert "python -m benchmark run --task nap_mlp --methods 'm00,m01,m02,m03' --seed S" in text
        assert "S in 0, 1" in text
        assert "leaderboard --task nap_mlp --source real --limit all --device cpu --publish FOLDER" in text
        assert "rows: sha256 d" in text
        assert "model: sha256 m" in text
        assert "versions of metrics: DEL 1" in text
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    assert board(results, "--check", str(folder / "nap_mlp.csv")) == 0
    assert board(results, "--publish", str(folder)) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert board(results, "--publish", "/proc/nothing") == 2


# What moved


def test_what_moved(tmp_path, capsys):
    rng = np.random.default_rng(0)
    before = [made(rng.normal(size=(10, 40)), name, "nap_mlp") for name in ("same", "moved", "noisy", "gone")]
    scores = [record.scores["score"].to_numpy().reshape(10, 40).copy() for record in before]
    scores[1][4] -= 0.5  # DEL falls, which is better
    scores[2] += 0.001 * rng.normal(size=(10, 40))
    after = [made(scores[i], name, "nap_mlp") for i, name in enumerate(("same", "moved", "noisy"))]
    after.append(made(rng.normal(size=(10, 40)), "new", "nap_mlp"))
    one, other = store(tmp_path / "one", before), store(tmp_path / "other", after)
    assert main(["compare", str(one), str(other), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    moved = [m for m in found["moves"] if (m["low"] > 0 or m["high"] < 0) and "noisy" not in m["cell"]]
    assert [(m["metric"], m["better"]) for m in moved] == [("DEL", True)]
    assert moved[0]["after"] - moved[0]["before"] == pytest.approx(-0.5)
    assert all(m["low"] <= m["after"] - m["before"] <= m["high"] for m in found["moves"])
    assert "gone" in found["only_before"][0]
    assert "new" in found["only_after"][0]
    assert main(["compare", str(one), str(other), "--gate"]) == 1
    out = capsys.readouterr().out
    assert "nap_mlp (real) moved, seed 0" in out
    assert "only in the first: nap_mlp (real) gone, seed 0" in out
    assert main(["compare", str(one), str(one), "--gate"]) == 0
    assert "40 are the same but for rounding" in capsys.readouterr().out
    single = [RecordStore(tmp_path / side).folder(before[1].cell) for side in ("one", "other")]
    assert main(["compare", *map(str, single), "--format", "csv"]) == 0
    assert "-0.5000" in capsys.readouterr().out


def test_records_that_cannot_be_compared(tmp_path, capsys):
    plain = made(np.random.default_rng(0).normal(size=(10, 9)), "m", "nap_mlp")
    newer = {name: facts | {"version": facts["version"] + 1} for name, facts in plain.metrics.items()}
    others = {
        "the data changed": replace(plain, identity=plain.identity | {"data": "other"}),
        "different versions of DEL": replace(plain, metrics=newer),
        "the model has other weights": replace(plain, identity=plain.identity | {"model": "other"}),
        "no cell in common": replace(plain, label="n", cell=replace(plain.cell, method="n")),
    }
    one = store(tmp_path / "one", [plain])
    for at, (reason, record) in enumerate(others.items()):
        assert main(["compare", str(one), str(store(tmp_path / str(at), [record]))]) == 1
        assert reason in capsys.readouterr().err
    assert main(["compare", str(one), str(tmp_path / "nothing")]) == 2
    assert "expects a folder of records" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(one), str(tmp_path / "empty")]) == 2


@pytest.fixture
def gate(tmp_path, capsys):
    """Return what the gate says of records before and after."""

    def run(before, after):
        for name, records in (("before", before), ("after", after)):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            store(tmp_path / name, records)
        code = main(["compare", str(tmp_path / "before"), str(tmp_path / "after"), "--gate"])
        return code, capsys.readouterr().err

    return run


def test_the_gate_sees_what_breaks_and_not_what_rounds(gate, tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(10, 40))
    plain, other = made(scores, "m", "nap_mlp"), made(rng.normal(size=(10, 40)), "n", "nap_mlp")
    assert gate([plain, other], [plain, other]) == (0, "")
    assert gate([plain], [made(scores * (1 + 2e-16), "m", "nap_mlp")])[0] == 0
    code, said = gate([plain], [made(scores + 1e-7, "m", "nap_mlp")])
    assert (code, "nap_mlp (real) m, seed 0 FC: 40 scores differ" in said) == (1, True)
    failed = replace(plain, status="failed", reason="boom", metrics={}, costs={}, scores=plain.scores[:0])
    code, said = gate([plain, other], [failed, other])
    assert (code, "m, seed 0: failed in the second (boom)" in said) == (1, True)
    assert gate([failed, other], [failed, other])[0] == 0
    code, said = gate([plain, other], [other])
    assert (code, "m, seed 0: is not in the second" in said) == (1, True)
    holes = scores.copy()
    holes[3, :35] = np.nan
    code, said = gate([plain], [made(holes, "m", "nap_mlp")])
    assert (code, "INF: 35 scores are no longer valid" in said) == (1, True)
    code, said = gate([plain], [made(scores[:, :30], "m", "nap_mlp")])
    assert (code, "FC: 10 samples are missing" in said) == (1, True)
    code, said = gate([plain], [made(scores[:9], "m", "nap_mlp")])
    assert (code, "IROF is gone" in said) == (1, True)
    folder = store(tmp_path / "after", [plain, other])
    (next(folder.rglob("n-*")) / "run.json").write_text("{}")
    assert main(["compare", str(tmp_path / "before"), str(folder), "--gate"]) == 1


def test_of_many_scores_that_did_not_move_hardly_any_is_said_to():
    from leaderboards.compare import compare

    rng = np.random.default_rng(0)
    before = [made(rng.normal(size=(10, 50)), f"m{i}", "t") for i in range(20)]
    after = [made(rng.normal(size=(10, 50)), f"m{i}", "t") for i in range(20)]
    assert sum(move.moved for move in compare(before, after).moves) <= 1
    shifts = 0.02 + 0.01 * rng.normal(size=(10, 50))
    shifted = [made(r.scores["score"].to_numpy().reshape(10, 50) + shifts, r.label, "t") for r in before]
    assert all(move.moved for move in compare(before, shifted).moves)


def test_a_large_comparison_is_quick():
    from leaderboards.compare import compare

    rng = np.random.default_rng(0)
    records = [made(rng.normal(size=(10, 1000)), f"m{i}", "t") for i in range(100)]
    start = time.process_time()
    compare(records, records)
    assert time.process_time() - start < 2.0, "975 cells are to take 20 s at most"


@pytest.mark.parametrize("text", ["", "task,method\n", "garbage", "source,task,method,mean_rank\n",
                                  "source,task,method,mean_rank\nreal,nap_mlp\n", "\xff"])  # fmt: skip
def test_a_board_that_is_none_does_not_pass_the_check(results, tmp_path, capsys, text):
    path = tmp_path / "board.csv"
    path.write_bytes(text.encode("latin-1"))
    assert board(results, "--check", str(path)) == 2
    assert "--check" in capsys.readouterr().err


def test_boards_of_a_folder_are_chosen(tmp_path, capsys):
    rng = np.random.default_rng(0)
    records = [made(rng.normal(size=(10, 9)), name, "nap_mlp") for name in ("m", "n")]
    short = [replace(r, cell=replace(r.cell, limit=9)) for r in records]
    seeds = [replace(r, cell=replace(r.cell, seed=1)) for r in records]
    folder = store(tmp_path / "out", [*records, *short, *seeds])
    figure = str(tmp_path / "figure.png")
    assert main(["plot", "cost", "--task", "nap_mlp", "--out", str(folder), "--figure", figure]) == 2
    assert "choose one with --source, --limit, --preset, --precision, --device or --metrics" in capsys.readouterr().err
    assert main(["plot", "cost", "--task", "nap_mlp", "--out", str(folder), "--figure", figure, "--limit", "9"]) == 0
    for words, boards, seen in (
        (["--limit", "all"], 1, 2),
        (["--limit", "9"], 1, 1),
        (["--seed", "1"], 1, 1),
        ([], 2, 2),
    ):
        capsys.readouterr()
        assert board(folder, "--format", "json", *words) == 0
        found = json.loads(capsys.readouterr().out)["boards"]
        assert (len(found), max(len(b["seeds"]) for b in found)) == (boards, seen)
    assert main(["plot", "critical", "--task", "all", "--out", str(folder), "--figure", figure]) == 2
    assert "plot critical compares methods over two tasks at least, got nap_mlp" in capsys.readouterr().err
    assert board(folder, "--preset", "quick") == 2
    assert board(folder, "--one", "nosuch") == 2
    assert board(folder, "--methods", "nosuch") == 2
    assert board(folder, "--task", "wcd_mlp") == 2
    assert "no records of wcd_mlp" in capsys.readouterr().err


def test_one_tasks_board_reads_one_task(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    folder = store(tmp_path, [made(rng.normal(size=(10, 9)), "m", task) for task in ("mine", "other")])
    read, seen = RecordStore.read, []
    monkeypatch.setattr(RecordStore, "read", lambda self, path: seen.append(path.parent.name) or read(self, path))
    assert board(folder, "--task", "mine") == 0
    assert seen == ["mine"]


def test_a_page(results, tmp_path, capsys):
    path = tmp_path / "page.html"
    assert main(["report", "--out", str(results), "--page", str(path)]) == 0
    first = path.read_bytes()
    assert b"nap_mlp" in first
    assert main(["report", "--out", str(results), "--page", str(path)]) == 0
    assert path.read_bytes() == first
    capsys.readouterr()
    assert main(["report", "--out", str(results), "--page", "x.pdf"]) == 2
    assert "ends in .html, got 'x.pdf'" in capsys.readouterr().err
    assert main(["report", "--out", str(results), "--page", "/proc/nothing/x.html"]) == 2
    assert "cannot write --page" in capsys.readouterr().err
    assert main(["report", "--out", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["leaderboard", "--pairs"],
        ["leaderboard", "--format", "json"],
        ["leaderboard", "--publish", "FOLDER"],
        ["report", "--page", "PAGE"],
        ["plot", "critical", "--task", "all", "--figure", "FIGURE"],
    ],
)
def test_each_board_is_made_once_a_command(tmp_path, monkeypatch, words):
    """Its scores are gathered, ranked on samples and resampled once, whatever shows them."""
    import leaderboards.rank
    import leaderboards.score_array

    paper_like(tmp_path / "results", tasks=("nap_mlp", "wcd_mlp"))
    counts = Counter()

    def counted(module, name):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: counts.update([name]) or function(*given))

    for name in ("score_array", "resampled", "rank_uncertainty"):
        counted(leaderboards.rank, name)
    sample_ranks = leaderboards.score_array.ScoreArray.sample_ranks
    function = sample_ranks.func
    monkeypatch.setattr(sample_ranks, "func", lambda array: counts.update(["sample_ranks"]) or function(array))
    files = {"PAGE": "page.html", "FOLDER": "boards", "FIGURE": "figure.png"}
    given = [str(tmp_path / files[word]) if word in files else word for word in words]
    assert main([*given, "--out", str(tmp_path / "results")]) == 0
    assert counts == dict.fromkeys(("score_array", "resampled", "rank_uncertainty", "sample_ranks"), 2)


def test_a_small_task_stands_with_those_that_are_limited(tmp_path, capsys):
    """Of a task with fewer rows than the limit all were taken: it is on the overall board of that limit."""
    paper_like(tmp_path)
    records = [replace(r, cell=replace(r.cell, limit=limit, task=task))
               for task, limit in (("nap_mlp", None), ("imdb_lstm", 40), ("agnews_lstm", 40), ("oct_cnn", 20))
               for r in several(1, 3, 1, limit or 30)[0]]  # fmt: skip
    folder = store(tmp_path / "limited", records)
    assert board(folder, "--format", "json") == 0
    together = json.loads(capsys.readouterr().out)["overall"]
    assert [found["tasks"] for found in together] == [["agnews_lstm", "imdb_lstm", "nap_mlp"]]
    figure = str(tmp_path / "figure.png")
    words = ["plot", "critical", "--task", "all", "--out", str(folder), "--figure", figure]
    assert main(words) == 1, "limits of 20 and 40 do not mix"
    assert main([*words, "--limit", "40"]) == 0


@pytest.mark.parametrize("words", [["leaderboard"], ["report", "--page", "PAGE"], ["compare", "OUT", "OUT"]])
def test_no_torch_is_needed(results, tmp_path, words):
    own = [{"PAGE": str(tmp_path / "p.html"), "OUT": str(results)}.get(word, word) for word in words]
    own += [] if words[0] == "compare" else ["--out", str(results)]
    program = (
        "import sys; from benchmark.cli.parser import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules, 'torch was imported'; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *own], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
