"""Wrong inputs and methods that fail, on the command line: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import errno
import json

import pytest
from safetensors.torch import save_file

from benchmark.cli.parser import main
from benchmark.running.built import forget_tasks
from tests.benchmark.test_cli import BAD, command, files, run

POISONS = BAD.with_name("poisons.py")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "nap_mpl"], "unknown task 'nap_mpl'; did you mean 'nap_mlp'"),
        (["--methods", "salency"], "did you mean 'saliency'"),
        (["--metrics", "DLE"], "did you mean 'DEL'"),
        (["--methods", "lime[samples=3]"], "did you mean 'n_samples'"),
        (["--methods", "lime[n_samples=many]"], "expects a whole number or none, got 'many'"),
        (["--methods", "lime[n_samples=-2]"], "expects at least 1, got -2"),
        (["--methods", "lime[n_samples=0]"], "lime[n_samples] expects at least 1, got 0"),
        (["--task", "nap_mlp,!nap*"], "'nap_mlp,!nap*' leaves no task"),
        (["--task", ","], "expected names separated by commas"),
        (["--metrics", "FC,!F*"], "'FC,!F*' leaves no metric"),
        (["--methods", "lime[output=class]"], "expects one of logit, probability"),
        (["--include", "nowhere.py"], "no such file"),
    ],
)
def test_usage_errors_say_what_to_do(tmp_path, capsys, words, message):
    assert run(tmp_path, *words) == (3 if "no such file" in message else 2)
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert files(tmp_path, "*") == {}


@pytest.mark.parametrize(
    "words",
    [["--limit", "0"], ["--limit", "x"], ["--jobs", "0"], ["--seed", "-1"], ["--device", "tpu"], ["--tsk", "x"]],
)
def test_argparse_errors(tmp_path, capsys, words):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *words)
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_cuda_asked_for_and_absent(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(tmp_path, "--device", "cuda") == 2
    assert "no CUDA device here; use --device cpu" in capsys.readouterr().err


def test_unwritable_out(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "x") == 2
    assert "cannot write to --out" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_named_data_folder_that_is_none(tmp_path, capsys, kind):
    folder = tmp_path / "data"
    if kind == "empty":
        folder.mkdir()
    assert run(tmp_path / "out", "--source", "auto", "--data-dir", str(folder)) == 3
    assert ("does not exist" if kind == "missing" else "is empty") in capsys.readouterr().err


def test_real_data_asked_for_and_absent(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    assert run(tmp_path / "out", "--source", "real", "--offline") == 3
    assert "no real data for nap" in capsys.readouterr().err


def test_a_task_without_data_leaves_the_others(tmp_path, capsys):
    data = tmp_path / "data"
    (data / "wcd").mkdir(parents=True)
    (data / "wcd" / "wholesale_customers.csv").write_text("Channel,Region\n1,2\n")
    words = ["run", "--task", "*_mlp,!builtin", "--methods", "saliency", "--limit", "9", "--jobs", "1", "--offline",
             "--data-dir", str(data), "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(words) == 3
    captured = capsys.readouterr()
    assert "wcd_mlp: " in captured.err
    assert "has no column Fresh" in captured.err
    assert "nap_mlp · SYNTHETIC" in captured.out
    assert main([*words, "--dry-run"]) == 3
    assert "0 of 1 cells to compute" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("raises", "RuntimeError: no luck today"),
        ("wrong_shape", "expected an attribution of shape (12, 7) (samples, features), got (12, 6)"),
        ("no_tensor", "got ndarray: return a tensor"),
        ("integers", "expected a floating-point attribution"),
        ("all_nan", "the attribution of every sample is not finite"),
        ("all_inf", "the attribution of every sample is not finite"),
    ],
)
def test_a_bad_method_fails_alone(tmp_path, capsys, method, message):
    assert run(tmp_path, "--include", str(BAD), methods=f"{method},saliency") == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert "1 computed, 0 kept, 0 skipped, 1 failed" in captured.out
    assert run(tmp_path, "--include", str(BAD), methods=f"{method},saliency") == 1  # a failure is tried again
    assert "0 computed, 1 kept, 0 skipped, 1 failed" in capsys.readouterr().out
    assert run(tmp_path, "--include", str(BAD), "--overwrite", "never", methods=method) == 1
    assert main(["leaderboard", "--out", str(tmp_path)]) == 1
    assert "has gaps" in capsys.readouterr().err
    assert main(["leaderboard", "--out", str(tmp_path), "--partial"]) == 0
    out = capsys.readouterr().out
    assert f"{method}*: failed (" in out
    assert message in out


@pytest.mark.slow
def test_a_bad_method_fails_in_a_worker_too(tmp_path, capsys):
    assert run(tmp_path, "--include", str(BAD), methods="raises,saliency", jobs="2") == 1
    assert "no luck today" in capsys.readouterr().err


def test_samples_that_fail_are_counted_and_leave_a_gap(tmp_path, capsys):
    assert run(tmp_path, "--include", str(BAD), methods="some_nan,saliency") == 1
    captured = capsys.readouterr()
    assert "the attribution of 2 of 12 samples is not finite" in captured.err
    assert "100/120" in captured.out
    assert main(["leaderboard", "--out", str(tmp_path)]) == 1


def test_a_constant_method_is_valid_and_flagged(tmp_path):
    import pandas as pd

    assert run(tmp_path, "--include", str(BAD), methods="still") == 0
    table = pd.read_parquet(next(tmp_path.rglob("scores.parquet")))
    flagged = table[table["metric"].isin(["FC", "FE", "MC", "INF"])]
    assert (flagged["score"] == 0).all()
    assert flagged["valid"].all()
    assert flagged["reason"].str.startswith("constant attribution").all()
    assert table[table["metric"] == "DEL"]["reason"].isna().all()


def test_a_method_for_another_modality_is_skipped_with_its_reason(tmp_path, capsys):
    assert run(tmp_path, "--include", str(BAD), methods="for_images,saliency") == 0
    assert "skipped: nap_mlp for_images: explains image, not table" in capsys.readouterr().out


@pytest.mark.slow
def test_weights_that_do_not_fit(tmp_path, capsys, monkeypatch):
    import torch

    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    forget_tasks()
    assert run(tmp_path / "a") == 0
    (weights,) = (tmp_path / "cache" / "models").glob("*.safetensors")
    save_file({"foreign": torch.zeros(1)}, weights)
    forget_tasks()
    assert run(tmp_path / "b") == 0
    assert f"{weights} holds no digest of its content: set aside as {weights.name}.damaged-" in capsys.readouterr().err
    assert files(tmp_path / "b") == files(tmp_path / "a")


def test_a_truncated_parquet_is_set_aside_and_made_again(tmp_path, capsys):
    assert run(tmp_path, methods="saliency,deeplift") == 0
    before = files(tmp_path)
    victim = next(path for path in tmp_path.rglob("scores.parquet") if "saliency" in str(path))
    victim.write_bytes(victim.read_bytes()[:200])
    capsys.readouterr()
    assert main(["leaderboard", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "left out:" in captured.err
    assert "deeplift" in captured.out
    assert run(tmp_path, methods="saliency,deeplift") == 0
    captured = capsys.readouterr()
    assert "set aside as" in captured.err
    assert "1 computed, 1 kept" in captured.out
    kept = {name: content for name, content in files(tmp_path).items() if not name.startswith("_set_aside")}
    assert kept == before


def test_foreign_files_among_the_records_do_no_harm(tmp_path, capsys):
    assert run(tmp_path) == 0
    (tmp_path / "notes.txt").write_text("mine")
    foreign = tmp_path / "synthetic" / "nap_mlp" / "foreign"
    foreign.mkdir()
    (foreign / "run.json").write_text('{"something": "else"}')
    capsys.readouterr()
    assert main(["leaderboard", "--out", str(tmp_path)]) == 0
    assert "foreign: run.json holds no record" in capsys.readouterr().err


def test_a_full_disk_stops_with_one_sentence_and_keeps_the_rest(tmp_path, capsys, monkeypatch):
    assert run(tmp_path) == 0
    kept = files(tmp_path)

    def full(path, _content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("benchmark.records.store.write_atomically", full)
    assert run(tmp_path, methods="saliency,deeplift") == 1
    assert "the disk is full; free some space and run again" in capsys.readouterr().err
    monkeypatch.undo()
    assert files(tmp_path) == kept
    assert run(tmp_path, methods="saliency,deeplift") == 0


def test_leaderboard_without_records(tmp_path, capsys):
    assert main(["leaderboard", "--out", str(tmp_path / "none")]) == 2
    assert main(["leaderboard", "--out", str(tmp_path)]) == 2
    assert "run some first" in capsys.readouterr().err


@pytest.mark.slow
def test_exit_codes_reach_the_shell(tmp_path):
    assert command("run", "--task", "x", "--methods", "all", "--out", tmp_path).returncode == 2
    assert command("run", "--task", "nap_mlp", "--methods", "lime", "--data-dir", tmp_path / "no").returncode == 3
    assert command("list", "metrics").returncode == 0


# Methods that fail beside others


STUDIES = {
    "audit": ["--limit", "8", "--seeds", "2", "--out", "OUT"],
    "explain": ["--out", "OUT/x.png"],
    "optimality": ["--limit", "8"],
}


def study(verb, out, *words, task="nap_mlp", methods="saliency,deeplift"):
    given = [word.replace("OUT", str(out)) for word in STUDIES[verb]]
    return main([verb, "--task", task, "--methods", methods, "--source", "synthetic", *given, *words])


@pytest.mark.parametrize("verb", STUDIES)
def test_a_study_leaves_out_what_fails_and_goes_on(tmp_path, capsys, verb):
    bad = "raises,quits,wrong_shape,all_nan,changes_means"
    words = ["--include", str(BAD), "--include", str(POISONS)]
    assert study(verb, tmp_path, *words, methods=f"{bad},saliency,deeplift") == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    lines = [line.strip() for line in BAD.read_text().splitlines()]
    for label, said, line in (
        ("raises", "RuntimeError: no luck today", 'raise RuntimeError("no luck today")'),
        ("quits", "SystemExit: 0", "raise SystemExit(0)"),
    ):
        assert f"failed: {label}: {said} (bad_methods.py, line {1 + lines.index(line)})" in captured.err
    assert "failed: wrong_shape: expected an attribution of shape" in captured.err
    assert "failed: all_nan: the attribution of every sample is not finite" in captured.err
    assert "failed: changes_means: it changed the removal's means of the task" in captured.err
    assert captured.err.count("failed: ") == 5, "those that follow a method that spoils the task are none the worse"
    assert study(verb, tmp_path) == 0
    plain = capsys.readouterr().out
    assert captured.out == plain, "what failed changes nothing for the others"
    assert study(verb, tmp_path, *words, methods="raises,quits") == 1
    assert "error: no method is left: raises, quits failed" in capsys.readouterr().err


def test_more_words_show_the_traceback(tmp_path, capsys):
    assert study("explain", tmp_path, "--include", str(BAD), "-v", methods="raises,saliency") == 1
    assert "in raises\n    raise RuntimeError" in capsys.readouterr().err
    assert run(tmp_path, "--include", str(BAD), "-v", methods="raises,saliency") == 1
    assert "in raises\n    raise RuntimeError" in capsys.readouterr().err
    assert run(tmp_path, "--include", str(BAD), methods="raises,saliency") == 1
    assert "Traceback" not in capsys.readouterr().err


def test_an_audit_tells_two_settings_of_one_method_apart(tmp_path, capsys):
    methods = "integrated_gradients,integrated_gradients[steps=2]"
    assert study("audit", tmp_path, "--json", methods=methods) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["ties"]) == set(methods.split(","))
    assert max(gap["gap"] for gap in found["noise"].values()) > 0


@pytest.mark.parametrize("words", [["--methods", "saliency,random"], ["--seeds", "1"], ["--limit", "1"],
                                   ["--methods", "random,constant"]])  # fmt: skip
def test_an_audit_of_little_has_empty_cells(tmp_path, capsys, recwarn, words):
    assert study("audit", tmp_path, *words) == 0
    assert "NaN" not in capsys.readouterr().out
    assert study("audit", tmp_path, "--json", *words) == 0
    assert "NaN" not in capsys.readouterr().out
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


# Nothing to do


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_run_of_nothing_says_why(tmp_path, capsys, more):
    assert run(tmp_path, *more, methods="grad_cam,lrp") == 2
    assert "nothing to do: none of --methods 'grad_cam,lrp' explains a task: grad_cam explains image, not table "\
           "(nap_mlp); lrp explains image, not table" in capsys.readouterr().err  # fmt: skip
    assert files(tmp_path, "*") == {}


@pytest.mark.parametrize("verb", STUDIES)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": "grad_cam"}, "none of --methods 'grad_cam' explains nap_mlp: grad_cam: explains image, not table"),
        ({"task": "all"}, "expected one task, got 'all'"),
        ({"task": "nap_mlp,wcd_mlp"}, "expected one task, got 'nap_mlp,wcd_mlp'"),
        ({"task": "nap"}, "did you mean 'nap_mlp'"),
    ],
)
def test_a_study_of_nothing_says_why(tmp_path, capsys, verb, given, message):
    assert study(verb, tmp_path, **given) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_studies_refuse_what_they_cannot_do_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmark.modalities.table.TableTask.build", lambda *_: pytest.fail("a task was built"))
    assert study("audit", tmp_path, methods="saliency") == 2
    assert "audit compares metrics over two methods at least, got saliency" in capsys.readouterr().err
    assert study("optimality", tmp_path, task="breast_cancer_mlp") == 2
    assert "for up to 12 features; breast_cancer_mlp has 30" in capsys.readouterr().err
    for words in (["optimality", "--task", "nap_mlp", "--figure"], ["explain", "--task", "nap_mlp", "--out"],
                  ["plot", "cost", "--task", "nap_mlp", "--figure"]):  # fmt: skip
        assert main([*words, str(tmp_path / "none" / "x.png")]) == 2
        assert "there is no such folder; make it, or name another" in capsys.readouterr().err
    assert main(["ablate", "--task", "*_mlp", "--out", str(tmp_path / "out")]) == 2
    assert "expected one task" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_jobs_beside_a_cluster_that_has_its_own_workers_are_said(tmp_path, capsys):
    assert run(tmp_path, "--dry-run", "--cluster", "tcp://x:1", methods="saliency", jobs="3") == 0
    assert "--jobs 3 plays no part: --cluster tcp://x:1 has workers of its own" in capsys.readouterr().err


def test_an_installed_package_keeps_its_golden_values(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmark.records.provenance.ROOT", tmp_path)
    monkeypatch.setattr("benchmark.inspection.crosscheck.regress.measure", lambda *_: pytest.fail("it went on"))
    assert main(["regress", "--update"]) == 2
    assert "this is an installed package: name a file of yours with --golden FILE" in capsys.readouterr().err
