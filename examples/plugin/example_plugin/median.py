"""A removal: a column that is removed takes its median."""

from dataclasses import dataclass

from benchmark.modalities.removals import REMOVALS, RemovalSpec


@REMOVALS.register("median", modalities=("table",))
@dataclass(frozen=True)
class Median(RemovalSpec):
    """The median of each column over the background, which outliers do not move."""

    def make(self, inputs):
        """Return the removal; `inputs.background` holds rows (M, G)."""
        return inputs.replaced_by(inputs.background.median(0).values)
