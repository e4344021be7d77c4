"""The section "ImageNet on 64 GPUs": rows and hours of the whole validation part, on paper."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.scheduling.shards import EXPLAINING, SECONDS
from tests.performance.measuring import table

TINY = {"rows_a_second": (1000.0,)}


@dataclass(frozen=True)
class Plan:
    """An evaluation of many methods on many images, in rows of the model.

    Attributes:
        images: that are explained.
        methods: that explain them.
        devices: that share the work.
        steps: K of a curve.
        subsets: R of FC and INF each.
        explaining: rows that an explanation costs, on average; a backward pass counts as two.
    """

    images: int = 50_000
    methods: int = 26
    devices: int = 64
    steps: int = 48
    subsets: int = 100
    explaining: int = EXPLAINING

    @property
    def shared(self) -> int:
        """Return the rows that no method changes: the whole input, the empty one and two kinds of subsets."""
        return self.images * (2 + 2 * self.subsets)

    @property
    def probing(self) -> int:
        """Return the rows of all methods' removal sets: single groups, two curves, and one from a blurred image."""
        return self.images * self.methods * (self.steps + 2 * (self.steps - 2) + self.steps - 1)

    @property
    def explanations(self) -> int:
        """Return the rows of all explanations."""
        return self.images * self.methods * self.explaining

    def hours(self, rows: int, rows_a_second: float) -> float:
        """Return how long rows take where all devices are busy all the time.

        Args:
            rows: of the model, altogether.
            rows_a_second: of one device.
        """
        return rows / rows_a_second / self.devices / 3600


def section(rows_a_second=(1000.0, 2000.0, 4000.0), plan=None):
    """Return the section.

    Args:
        rows_a_second: what a device may give, as measured.
        plan: what is computed, by default 50,000 images and 26 methods.

    Returns:
        Markdown without a heading.
    """
    plan = plan or Plan()
    parts = {"shared by all methods": plan.shared, "probing": plan.probing, "explaining": plan.explanations}
    parts["altogether"] = sum(parts.values())
    header = ["", "rows", *(f"hours at {speed:g} rows a second" for speed in rows_a_second)]
    lines = [
        [name, f"{rows:,}", *(f"{plan.hours(rows, speed):.1f}" for speed in rows_a_second)]
        for name, rows in parts.items()
    ]
    return f"""\
A plan, not a measurement: ImageNet-1k's validation part, {plan.images:,} images of 224 x 224 pixels, {plan.methods}
methods, one seed, K = {plan.steps}, R = {plan.subsets}, on {plan.devices} GPUs that are busy all the time. Rows a
second are those of one GPU. An explanation is taken to cost {plan.explaining} rows, what LIME and KernelSHAP ask by
default: gradient methods cost less, occlusion more, and methods that repeat or train are not counted as such.

{table(header, lines)}

{LIMITS}"""


LIMITS = f"""What would break first, in this order:

- A task travels whole to each worker of a cluster (`--cluster`), its images decoded, 32 bits a channel: 50,000 of them
  are 30 GB, pickled once by the driver and held by each worker and its GPU. Shards would have to travel with the images
  of their own samples, and the driver to read images when they are asked for.
- Learned methods are trained by one worker each while their other shards wait: 7 of 64 GPUs are busy with that, if all
  begin with it.
- The driver alone writes. A shard takes about {SECONDS:g} s, so 64 workers send one every two seconds, of some
  kilobytes: that is little. Each cell is then joined from its hundreds of parts in memory: 50,000 samples times ten
  metrics.
- Boards resample 50,000 samples of 26 methods and ten metrics: minutes and gigabytes on one core.
- Other processors give other last digits, so that workers of several kinds of GPU make records that no single one
  repeats to the bit. The engine is the driver's choice, on the driver's GPU.
"""
