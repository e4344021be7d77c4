"""prepare, doctor, presets, weak models, working offline."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmark.cli.parser import main
from benchmark.core.sources import Sources
from benchmark.core.types import METHODS, TASKS
from benchmark.running.presets import PRESETS

# prepare


def test_prepare_that_finds_no_real_data_is_no_success(capsys, monkeypatch):
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    words = ["prepare", "--task", "nap_mlp,breast_cancer_mlp", "--offline", "--device", "cpu"]
    assert main(words) == 3
    captured = capsys.readouterr()
    assert "error: nap_mlp: real data not found (" in captured.err
    assert "which is all that is ready; if that is what you want, say --source synthetic" in captured.err
    assert "nap_mlp                synthetic data" in captured.out
    assert "breast_cancer_mlp      real data" in captured.out
    assert main([*words, "--source", "synthetic", "--task", "nap_mlp"]) == 0


@pytest.mark.slow
def test_offline_opens_no_socket(tmp_path, monkeypatch, capsys):
    """In a process of its own, where any use of a socket to reach a host ends it."""
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
        "from benchmark.cli.parser import main\n"
        "words = ['--methods', 'saliency', '--preset', 'quick', '--limit', '2', '--jobs', '1', '--offline']\n"
        "codes = [main(['run', '--task', task, *words, '--device', 'cpu', '--out', sys.argv[1]])"
        " for task in ('imdb_lstm', 'imagenet_resnet', 'nap_mlp')]\n"
        "codes.append(main(['prepare', '--task', 'oct_resnet', '--offline', '--source', 'real', '--device', 'cpu']))\n"
        "print(codes)"
    )
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[0, 0, 0, 3]\n")
    assert "--offline forbids the network" in done.stderr


# doctor


def test_doctor_says_what_is_ready_and_how_to_get_the_rest(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "socket", None)
    assert main(["doctor"]) == 0, "nothing was asked for"
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert set(TASKS.names()) <= set(lines)
    assert "ready" in lines["digits_cnn"]
    assert "python -m benchmark prepare --task digits_cnn" in lines["digits_cnn"]
    assert "missing" in lines["oct_deit"]
    assert "download OCT2017" in lines["oct_deit"]
    assert "imagenet_val10" in lines["imagenet_mobilenet"]
    assert "torch" in lines
    assert main(["doctor", "--task", "oct_deit,digits_cnn", "--json"]) == 3
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert [task["ready"] for task in tasks] == [False, True]
    assert main(["doctor", "--task", "oct_deit", "--source", "synthetic"]) == 0


def test_doctor_says_what_it_was_asked_and_no_more(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    monkeypatch.setattr("joblib.cpu_count", lambda: 12)
    assert main(["doctor", "--task", "nap_mlp"]) == 3
    out = capsys.readouterr().out
    assert "--offline" not in out
    assert "not downloaded yet" in out
    assert "cores         12\n" in out
    assert main(["doctor", "--task", "nap_mlp", "--offline"]) == 3
    assert "--offline forbids the network" in capsys.readouterr().out
    file = tmp_path / "file"
    file.write_text("")
    for path, what in ((file, "is a file"), (tmp_path / "none", "does not exist")):
        assert main(["doctor", "--data-dir", str(path)]) == 2
        assert f"data folder {str(path)!r} {what}: expected a folder" in capsys.readouterr().err


def test_doctor_names_missing_weights(real_data, capsys):
    assert main(["doctor", "--task", "imagenet_resnet,imagenet_mobilenet", "--data-dir", str(real_data)]) == 3
    out = capsys.readouterr().out
    assert "as weights/resnet50.a1_in1k.safetensors" in out
    assert out.count("missing") == 1


# presets


def quick(out, *words, task="nap_mlp", methods="lime,saliency", code=0):
    assert main(
        ["run", "--task", task, "--methods", methods, "--source", "synthetic", "--jobs", "1", "--device", "cpu",
         "--out", str(out), *words]
    ) == code  # fmt: skip


def test_quick_is_cheaper_and_never_on_a_board_with_others(tmp_path, capsys):
    quick(tmp_path, "--preset", "quick", "--limit", "12")
    quick(tmp_path, "--limit", "12")
    capsys.readouterr()
    metas = [json.loads(path.read_text()) for path in tmp_path.rglob("run.json")]
    params = {(meta["cell"]["method"], meta["cell"]["preset"]): meta["cell"]["params"] for meta in metas}
    assert params["lime", "quick"]["n_samples"] == 50
    assert params["lime", "standard"]["n_samples"] == 100, "the default of the modality is in the record"
    assert {meta["comparable"] for meta in metas if meta["cell"]["preset"] == "quick"} == {False}
    assert {meta["comparable"] for meta in metas if meta["cell"]["preset"] == "standard"} == {True}
    assert main(["leaderboard", "--out", str(tmp_path), "--format", "json"]) == 0
    boards = json.loads(capsys.readouterr().out)["boards"]
    assert [(board["preset"], board["comparable"], len(board["rows"])) for board in boards] == [
        ("quick", False, 2),
        ("standard", True, 2),
    ]
    assert main(["leaderboard", "--out", str(tmp_path)]) == 0
    assert "preset quick, NOT COMPARABLE" in capsys.readouterr().out


def test_presets_bound_samples_budgets_and_methods():
    quick, standard, paper = PRESETS["quick"], PRESETS["standard"], PRESETS["paper"]
    budget = TASKS.get("imdb_lstm")().budget
    assert (quick.budget(budget).steps, quick.budget(budget).subsets) == (8, 20)
    assert standard.budget(budget) == paper.budget(budget) == budget
    lime = METHODS.get("lime")
    assert quick.given(lime, {"n_samples": "7", "penalty": "0.1"}) == {"n_samples": "7", "penalty": "0.1"}
    assert paper.given(lime, {}) == {"n_samples": "20", "estimator": "captum"}
    assert quick.given(METHODS.get("saliency"), {}) == {}
    for method in METHODS.names():
        for preset in PRESETS.values():
            from benchmark.core.parameters import configure

            configure(METHODS.get(method), method, preset.given(METHODS.get(method), {}))


def test_a_weak_model_is_refused_on_the_command_line(tmp_path, capsys, replace_task):
    from benchmark.tasks import nap

    replace_task("nap_mlp", lambda: replace(nap.nap_mlp(), floor=0.99))
    quick(tmp_path, "--preset", "quick", methods="saliency", code=3)
    captured = capsys.readouterr()
    assert "the model of nap_mlp is too weak" in captured.err
    assert "use --allow-weak-model" in captured.err
    quick(tmp_path, "--preset", "quick", "--allow-weak-model", methods="saliency")
    assert "WEAK: under the task's floor" in capsys.readouterr().out


@pytest.mark.slow
def test_boards_say_how_much_lies_on_planted_evidence(tmp_path, capsys):
    quick(tmp_path, "--preset", "quick", task="agnews_lstm", methods="integrated_gradients,constant")
    out = capsys.readouterr().out
    assert "planted: share of the positive attribution" in out
    assert main(["leaderboard", "--out", str(tmp_path), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["boards"][0]["rows"]
    share = {row["method"]: row["evidence"] for row in rows}
    assert share["integrated_gradients"] > 0.4 > 0.2 > share["constant"] > 0
    quick(tmp_path / "table", "--preset", "quick", methods="saliency")
    assert "planted" not in capsys.readouterr().out


def test_sources_are_offline_in_doctor(monkeypatch):
    from benchmark.inspection.readiness import readiness

    def refuse(*_args, **_words):
        raise AssertionError("doctor must not download")

    monkeypatch.setattr("benchmark.data.hub.HubFile.fetch", refuse)
    assert not readiness("imdb_lstm", Sources("real", offline=True)).ready
