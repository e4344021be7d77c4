"""AG News (Zhang et al. 2015): which of four topics is a news item about?"""

from __future__ import annotations

from benchmark.core.types import TASKS
from benchmark.data.texts import TextFiles
from benchmark.modalities.text import TextTask

AGNEWS = TextFiles(
    name="agnews",
    folder="ag_news",
    repo="fancyzhx/ag_news",
    revision="eb185aade064a813bc0b7f42de02595523103ca4",
    remote={"train": "data/train-00000-of-00001.parquet", "test": "data/test-00000-of-00001.parquet"},
    pinned={
        "train": "252d7ccedd29055f2e180adb12c30b65a218f3e58ccf3a0b5853bbd5d62e6b09",
        "test": "d6e771221f91b688d4b6a64c33fa093e13dd4acb45a80f94a0f82a6294b093da",
    },
    classes=("World", "Sports", "Business", "Sci/Tech"),
    licence="research use",
    stand_in={
        "World": "minister troops election treaty president border embassy peace".split(),
        "Sports": "match coach goal season team league tournament player".split(),
        "Business": "shares profit market bank investors oil prices merger".split(),
        "Sci/Tech": "software internet computer satellite research network users science".split(),
    },
)


@TASKS.register("agnews_lstm", modality="text")
def agnews_lstm() -> TextTask:
    """Topic of a news item: world, sports, business, science (AG News, Zhang et al. 2015); bidirectional LSTM."""
    return TextTask(AGNEWS, "lstm", epochs=6, floor=0.8)


@TASKS.register("agnews_transformer", modality="text")
def agnews_transformer() -> TextTask:
    """Topic of a news item: world, sports, business, science (AG News, Zhang et al. 2015); Transformer encoder."""
    return TextTask(AGNEWS, "transformer", epochs=8, floor=0.8)
