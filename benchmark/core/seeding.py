"""Seeds as hashes of what they are for, so that none depends on order, batch or worker."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def seed_for(base: int, *identity: str | int) -> int:
    """Return the seed in [0, 2**63) that belongs to `identity` under the user's `base` seed."""
    text = json.dumps([base, *identity])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with Python's, NumPy's and torch's global generators seeded, then put them back.

    Only for libraries that draw from global generators (Captum) and for weight initialisation: our own code
    passes seeds explicitly.
    """
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def content_seeds(base: int, x: Tensor) -> list[int]:
    """Return one seed for each row of x, from its content: the same sample draws alike in whatever company."""
    rows = x.detach().cpu().contiguous().flatten(1)
    return [seed_for(base, hashlib.blake2b(row.numpy().tobytes(), digest_size=8).hexdigest()) for row in rows]
