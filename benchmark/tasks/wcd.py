"""Wholesale customers (UCI 292): does a client run a hotel, restaurant or café, or a shop?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmark.core.types import TASKS
from benchmark.data.tables import TableFile
from benchmark.modalities.table import TableTask


def synthesise(rng: np.random.Generator, rows: int = 600) -> pd.DataFrame:
    """Return a stand-in: shops spend more on groceries, detergents and milk, the others on fresh and frozen food.

    The known mechanism: the channel alone sets the mean of log spending on Grocery and Detergents_Paper (strongly),
    Milk (less), Fresh and Frozen (the other way); Region and Delicassen play no part.
    """
    shop = rng.random(rows) < 0.33
    means = {"Fresh": (9.1, -0.5), "Milk": (8.0, 0.9), "Grocery": (8.2, 1.3), "Frozen": (7.4, -0.6),
             "Detergents_Paper": (6.4, 2.2), "Delicassen": (6.8, 0.0)}  # fmt: skip
    spending = {name: np.exp(rng.normal(at + by * shop, 0.8)).round() for name, (at, by) in means.items()}
    region = rng.choice([1, 2, 3], rows, p=[0.18, 0.1, 0.72])
    return pd.DataFrame({"Channel": np.where(shop, 2, 1), "Region": region, **spending})


WCD = TableFile(
    name="wcd",
    file="wcd/wholesale_customers.csv",
    url="https://archive.ics.uci.edu/static/public/292/data.csv",
    features=("Region", "Fresh", "Milk", "Grocery", "Frozen", "Detergents_Paper", "Delicassen"),
    label="Channel",
    classes={"1": "Horeca", "2": "Retail"},
    rows=440,
    digest="2da2e76044580fdd8f4b37a7959a98fcf8ee7c5d5a57723da7f470d503303031",
    licence="CC BY 4.0",
    synthesise=synthesise,
)


@TASKS.register("wcd_mlp", modality="table")
def wcd_mlp() -> TableTask:
    """Horeca or retail client from region and yearly spending (Wholesale customers, UCI 292); MLP 256x4."""
    return TableTask(
        WCD, width=256, depth=4, dropout=0.5,
        epochs=100, batch=32, rate=2e-3, decay=1e-2, weighted=False, floor=0.8,
    )  # fmt: skip
