"""Breast cancer Wisconsin, diagnostic (UCI 17): is a tumour benign? Real data that scikit-learn ships."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmark.core.types import TASKS
from benchmark.data.tables import BundledTable
from benchmark.modalities.table import TableTask

MEASURES = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
    "fractal dimension",
)  # fmt: skip
FEATURES = tuple(
    [f"mean {name}" for name in MEASURES]
    + [f"{name} error" for name in MEASURES]
    + [f"worst {name}" for name in MEASURES]
)


def synthesise(rng: np.random.Generator, rows: int = 600) -> pd.DataFrame:
    """Return a stand-in: malignant tumours are larger and more concave, the other measures are noise.

    The known mechanism: the class alone shifts radius (and with it perimeter and area), texture and concave points,
    in mean and worst value; smoothness, symmetry, fractal dimension and all errors play no part.
    """
    malignant = rng.random(rows) < 0.37
    size = rng.normal(12 + 5 * malignant, 2.0, rows)
    shift = {"radius": size, "perimeter": 6.5 * size, "area": 3.1 * size**2,
             "texture": 18 + 3.5 * malignant, "concave points": 0.03 + 0.05 * malignant}  # fmt: skip
    spread = dict(zip(MEASURES, (1, 4, 6, 60, 0.01, 0.05, 0.08, 0.02, 0.03, 0.007), strict=True))
    centre = dict(zip(MEASURES, (14, 19, 92, 650, 0.1, 0.1, 0.09, 0.05, 0.18, 0.06), strict=True))
    columns = {}
    for part, factor in (("mean {}", 1.0), ("{} error", 0.1), ("worst {}", 1.2)):
        for name in MEASURES:
            at = centre[name] if part == "{} error" else shift.get(name, centre[name])
            columns[part.format(name)] = factor * (at + rng.normal(0, spread[name], rows))
    return pd.DataFrame(columns).assign(diagnosis=np.where(malignant, "0", "1"))


BREAST_CANCER = BundledTable(
    name="breast_cancer",
    loader="load_breast_cancer",
    features=FEATURES,
    label="diagnosis",
    classes={"0": "malignant", "1": "benign"},
    rows=569,
    digest="785a9190557f2de8e457b4298dd6f0f5437d0bfaa352f6914e735925e041b30b",
    licence="CC BY 4.0",
    synthesise=synthesise,
)


@TASKS.register("breast_cancer_mlp", modality="table", group="builtin")
def breast_cancer_mlp() -> TableTask:
    """Benign or malignant from thirty measures of cell nuclei (shipped with scikit-learn, UCI 17); MLP 64x2."""
    return TableTask(
        BREAST_CANCER, width=64, depth=2, dropout=0.2,
        epochs=60, batch=32, rate=3e-3, decay=1e-2, weighted=False, floor=0.9,
    )  # fmt: skip
