"""The audit: of the metrics, not of methods."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from benchmark.cli.parser import main
from benchmark.scoring.metrics import TEN


@pytest.fixture
def words(tmp_path):
    return ["audit", "--task", "nap_mlp", "--source", "synthetic", "--limit", "20", "--seeds", "3", "--out",
            str(tmp_path), "--methods", "saliency,deeplift,feature_ablation,exact_banzhaf,random,constant"]  # fmt: skip


def test_audit(words, tmp_path, capsys):
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["noise"]) == set(TEN)
    for metric in TEN:  # with the value table nothing is drawn, and these methods have no ties
        assert found["noise"][metric]["noise"] < 1e-12
        assert found["controls"][metric]["beat random"] == "3 of 3"
    assert found["controls"]["INF"]["best oracle's rank"] == 1
    agreement = pd.DataFrame(found["agreement"])
    assert (agreement.round(9) == agreement.T.round(9)).all().all()
    assert agreement.loc["DEL", "RP"] == pytest.approx(1)
    assert agreement.loc["DEL", "IROF"] == pytest.approx(1)
    assert agreement.loc["DEL", "MC"] < 0.99
    assert found["ties"]["constant"] == 1
    assert found["ties"]["deeplift"] == 0
    image = tmp_path / "audit" / "synthetic-nap_mlp-agreement.png"
    assert image.read_bytes().startswith(b"\x89PNG")
    assert image.stat().st_size > 10_000


def test_drawn_subsets_are_noisy(words, capsys):
    assert main([*words, "--sampled", "--json"]) == 0
    noise = json.loads(capsys.readouterr().out)["noise"]
    assert noise["FC"]["noise"] > 1e-4
    assert noise["INF"]["noise"] > 1e-4
    assert noise["DEL"]["noise"] < 1e-12


def test_audit_of_nothing(words, capsys):
    words[2] = "nap_mpl"
    assert main(words) == 2
    assert "did you mean 'nap_mlp'" in capsys.readouterr().err
