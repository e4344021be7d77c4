"""Which configurations of a method are tried: a number of its search space, the same for every method."""

from __future__ import annotations

import random
from typing import Any

from benchmark.core.parameters import parameters
from benchmark.core.seeding import seed_for
from benchmark.core.types import METHODS, TaskSpec
from benchmark.learning.budget import TrainingBudget
from benchmark.running.plan import MethodChoice, method_for, suited


def configurations(
    name: str, spec: TaskSpec, rows: int | None, count: int, seed: int, budget: TrainingBudget | None = None
) -> dict[MethodChoice, dict[str, Any]]:
    """Return configurations of a method in a class of costs: its defaults, then others, drawn, all different.

    Those of two classes are the same where the method's space is, since more tries would favour it.

    Args:
        name: of the method.
        spec: of the task.
        rows: the most rows an explanation, see `benchmark.tuned.classes`.
        count: how many, at most; all where the space has no more.
        seed: they are drawn from.
        budget: what each learned method is trained for, in place of the iterations of its space.

    Returns:
        All parameters of the method on the task by how a user would ask for them; none where the method does not enter
        the class, or does not explain the task.

    Raises:
        UsageError: the method is learned and cannot be trained within the budget.
    """
    combinations = METHODS.get(name).space.combinations(spec.modality, rows)
    first, others = combinations[:1], combinations[1:]
    random.Random(seed_for(seed, "configurations", name, spec.modality)).shuffle(others)
    found: dict[MethodChoice, dict[str, Any]] = {}
    for drawn in first + others:
        given = drawn if budget is None else budget.over(name, drawn)
        choice = MethodChoice(name, tuple(sorted((key, str(value)) for key, value in given.items())))
        method, reason = suited(method_for(choice), spec, name, choice.label)
        if reason is None and (params := parameters(method)) not in found.values():
            found[choice] = params
        if len(found) == count:
            break
    return found
