"""Where randomness comes from: a seed is a hash of what it belongs to, never of order, batch or worker."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UsageError, shown

if TYPE_CHECKING:
    from torch import Tensor


def checked_seed(given: Any) -> int:
    """Return the seed that a person gave in Python.

    Raises:
        UsageError: it is none.
    """
    if type(given) is not int or given < 0:
        raise UsageError(f"seed expects a whole number of at least 0, got {shown(given)}")
    return given


def seed_for(base: int, *identity: str | int) -> int:
    """Return the seed that belongs to something, under the user's seed.

    Args:
        base: the user's seed.
        identity: what the seed is for: names and numbers, in order.

    Returns:
        A seed in [0, 2^63).

    Example:
        >>> seed_for(0, "nap_mlp", "saliency") == seed_for(0, "nap_mlp", "saliency")
        True
        >>> seed_for(0, "nap_mlp", "saliency") == seed_for(1, "nap_mlp", "saliency")
        False
    """
    text = json.dumps([base, *identity])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def method_seed(base: int, task: str, method: str, repeat: int = 0) -> int:
    """Return the seed that a method is prepared with; never one of `probe_seed`, whatever the names.

    Args:
        base: the user's seed.
        task: its name.
        method: its name or label.
        repeat: which of several runs, from 0.

    Example:
        >>> method_seed(0, "nap_mlp", "fixed") == probe_seed(0, "nap_mlp", "fixed")
        False
    """
    return seed_for(base, task, method, repeat)


def probe_seed(base: int, task: str, purpose: str) -> int:
    """Return the seed of what judges methods on a task; never one of `method_seed`, whatever the names.

    What is hashed is a list of three here and of four there. So no method draws the removal sets, or the order of ties,
    that it is judged by.

    Args:
        base: the user's seed.
        task: its name.
        purpose: what is drawn: a kind of random sets, ties, what a metric beyond the ten says.
    """
    return seed_for(base, task, purpose)


def content_seeds(base: int, x: Tensor) -> list[int]:
    """Return one seed for each row of x (B, ...), from its content: a sample draws alike in any batch."""
    import torch

    rows = x.detach().cpu().contiguous().flatten(1).view(torch.uint8)  # NumPy has no bfloat16
    return [seed_for(base, hashlib.blake2b(row.numpy().tobytes(), digest_size=8).hexdigest()) for row in rows]


_GOLDEN, _MIX1, _MIX2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def random_bits(seed: Tensor, counter: Tensor) -> Tensor:
    """Return 64 random bits for each pair of seed and counter: splitmix64 (Steele et al. 2014).

    The same pair gives the same bits on every device, whatever was drawn before.

    Args:
        seed: int64.
        counter: int64, of a shape that broadcasts against `seed`.

    Returns:
        Bits as int64, in the broadcast shape.
    """
    z = seed + (counter + 1) * _GOLDEN
    for by, factor in ((30, _MIX1), (27, _MIX2), (31, 1)):
        high = (z >> by).bitwise_and_((1 << (64 - by)) - 1)  # a shift that brings in zeros, not the sign
        z = z.bitwise_xor_(high)
        z = z.mul_(factor) if factor != 1 else z
    return z


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with the global generators of Python, NumPy and torch seeded, and restore them afterwards.

    Only for libraries that draw from global generators (Captum) and for weight initialisation: our own code passes
    seeds explicitly.
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
