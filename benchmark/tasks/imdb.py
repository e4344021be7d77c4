"""IMDb (Maas et al. 2011): is a film review favourable?"""

from __future__ import annotations

from benchmark.core.types import TASKS
from benchmark.data.texts import TextFiles
from benchmark.modalities.text import TextTask

IMDB = TextFiles(
    name="imdb",
    folder="imdb",
    repo="stanfordnlp/imdb",
    revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    remote={"train": "plain_text/train-00000-of-00001.parquet", "test": "plain_text/test-00000-of-00001.parquet"},
    pinned={
        "train": "a81b70e18e2d1b159275f027f57b66d41f548c415d87baa5ef097d7dcf92c5a7",
        "test": "7b033729425e8e46f4fa9086d8ce9585d5dcd237b30245defd84113e5ec4e5f9",
    },
    classes=("negative", "positive"),
    licence="research use",
    stand_in={
        "negative": "awful boring terrible dull waste worst poor weak".split(),
        "positive": "wonderful brilliant superb moving charming best delightful great".split(),
    },
)


@TASKS.register("imdb_lstm", modality="text")
def imdb_lstm() -> TextTask:
    """Favourable or unfavourable film review (IMDb, Maas et al. 2011); bidirectional LSTM."""
    return TextTask(IMDB, "lstm", epochs=3, floor=0.8)


@TASKS.register("imdb_transformer", modality="text")
def imdb_transformer() -> TextTask:
    """Favourable or unfavourable film review (IMDb, Maas et al. 2011); Transformer encoder."""
    return TextTask(IMDB, "transformer", epochs=4, floor=0.8)
