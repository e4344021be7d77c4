"""Dynamic joint optimisation (Algorithm 1): copies first, and turns to correlation once copying has settled."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

DECAYS = 20.0
"""The decay constant of Algorithm 1 is C = iterations / 20, so that alpha is near 0 after half of the training."""
DYNAMIC = -1.0
"""The value of `Schedule.fixed` under which Algorithm 1 moves alpha."""


@dataclass(frozen=True)
class Schedule:
    """Settings of Algorithm 1, counted in iterations. The paper has one constant C for `decay` and `reset`.

    Args:
        window: e, iterations over which Var(L_PC) is watched.
        settled: eps; copying has converged where the variance is below it.
        decay: C, how slowly alpha falls then.
        reset: copying starts anew where the variance exceeds this many eps.
        fixed: holds alpha there, in [0, 1], in place of Algorithm 1.
    """

    window: int = 50
    settled: float = 2e-4
    decay: float = 200.0
    reset: float = 10.0
    fixed: float = DYNAMIC

    @property
    def dynamic(self) -> bool:
        """Tell whether alpha follows L_PC."""
        return self.fixed == DYNAMIC

    @property
    def copies(self) -> bool:
        """Tell whether explanations are ever copied."""
        return self.fixed != 0

    def start(self) -> State:
        """Return the state before the first iteration."""
        return State(alpha=1.0 if self.dynamic else self.fixed)

    def step(self, state: State, copying: float) -> State:
        """Return the state after an iteration whose L_PC was `copying`; its alpha weighs the next one."""
        recent = (*state.recent, copying)[-self.window :]
        state = replace(state, iteration=state.iteration + 1, recent=recent)
        if not self.dynamic:
            return state
        if len(recent) == self.window:
            mean = sum(recent) / self.window
            variance = sum((value - mean) ** 2 for value in recent) / self.window
            if variance > self.reset * self.settled:
                state = replace(state, converged_at=None)
            elif variance < self.settled and state.converged_at is None:
                state = replace(state, converged_at=state.iteration)
        if state.converged_at is None:
            return replace(state, alpha=1.0)
        waited = (state.iteration - state.converged_at) / self.decay
        return replace(state, alpha=1 - 1 / (1 + math.exp(-waited)))


@dataclass(frozen=True)
class State:
    """alpha weighs L_PC, 1 - alpha weighs L_LC; `converged_at` is t0; `recent` the last values of L_PC."""

    alpha: float
    iteration: int = 0
    converged_at: int | None = None
    recent: tuple[float, ...] = ()
