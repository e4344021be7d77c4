"""NHANES 2013-14 age prediction (UCI 887): is a respondent 65 or older?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmark.core.types import TASKS
from benchmark.data.tables import TableFile
from benchmark.modalities.table import TableTask


def synthesise(rng: np.random.Generator, rows: int = 1500) -> pd.DataFrame:
    """Return a stand-in: people with a hidden age drive; age raises glucose, tolerance and inactivity.

    The known mechanism: the log-odds of Senior rise with glucose tolerance (LBXGLT), fasting glucose (LBXGLU) and
    inactivity (PAQ605), fall with insulin (LBXIN); sex (RIAGENDR) plays no part.
    """
    sex, inactive = rng.integers(1, 3, rows), rng.random(rows) < 0.8
    bmi = rng.normal(28, 6, rows).clip(15, 60)
    glucose = (rng.normal(98, 12, rows) + 0.4 * (bmi - 28)).clip(60, 350)
    tolerance = (rng.normal(113, 40, rows) + 0.9 * (glucose - 98)).clip(40, 500)
    insulin = np.exp(rng.normal(2.2, 0.6, rows) + 0.03 * (bmi - 28)).clip(0.5, 100)
    diabetes = np.where(rng.random(rows) < 0.05 + 0.3 * (glucose > 125), 1, 2)
    odds = -3.9 + 0.04 * (tolerance - 113) + 0.05 * (glucose - 98) + 1.2 * inactive - 0.05 * (insulin - 10)
    senior = rng.random(rows) < 1 / (1 + np.exp(-odds))
    return pd.DataFrame(
        {
            "RIAGENDR": sex, "PAQ605": np.where(inactive, 2, 1), "BMXBMI": bmi, "LBXGLU": glucose,
            "DIQ010": diabetes, "LBXGLT": tolerance, "LBXIN": insulin,
            "age_group": np.where(senior, "Senior", "Adult"),
        }
    )  # fmt: skip


NAP = TableFile(
    name="nap",
    file="nap/nhanes_age_prediction.csv",
    url="https://archive.ics.uci.edu/static/public/887/data.csv",
    features=("RIAGENDR", "PAQ605", "BMXBMI", "LBXGLU", "DIQ010", "LBXGLT", "LBXIN"),  # SEQN, RIDAGEYR leak the label
    label="age_group",
    classes={"Adult": "Adult", "Senior": "Senior"},
    rows=2278,
    digest="9d373b32745e57234062600dfee52249a5d6917c1d2c6071f193e58f2d6fe584",
    licence="CC BY 4.0",
    synthesise=synthesise,
)


@TASKS.register("nap_mlp", modality="table")
def nap_mlp() -> TableTask:
    """Senior or adult from seven health measurements (NHANES 2013-14, UCI 887); MLP 64x2."""
    return TableTask(
        NAP, width=64, depth=2, dropout=0.2,
        epochs=60, batch=64, rate=3e-3, decay=1e-2, weighted=True, floor=0.62,
    )  # fmt: skip
