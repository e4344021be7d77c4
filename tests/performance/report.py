"""Measures speed beside Quantus, overhead, engines, scaling and memory, and writes docs/performance.md.

`python -m tests.performance.report --write` makes every section, one thread, in about an hour; `--only engines --write`
makes one alone and leaves the others as they are. `--tiny` shows what a section looks like, with numbers that mean
nothing.
"""

from __future__ import annotations

import argparse
import platform
import warnings
from pathlib import Path

import torch

from benchmark.engines.choosing import version_of
from benchmark.processes.allocation import keep_freed_memory
from benchmark.records.provenance import versions
from tests.performance import (
    beside_quantus,
    engines,
    full_size,
    imagenet_plan,
    memory,
    overhead,
    scaling,
    surrogates,
    two_workers,
)

TARGET = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
MEASURED = {
    "quantus": ("Beside Quantus", beside_quantus),
    "overhead": ("Overhead", overhead),
    "engines": ("Engines", engines),
    "surrogates": ("LIME and KernelSHAP", surrogates),
    "scaling": ("Scaling", scaling),
    "workers": ("Two workers", two_workers),
    "memory": ("Memory", memory),
    "plan": ("ImageNet on 64 GPUs", imagenet_plan),
}
"""Headings of sections, and their modules: each has a function `section` and its smallest arguments, `TINY`."""
FULL_SIZE, GOALS, NOT_MEASURED = "Full-size images", "Goals", "Not measured here"
ORDER = [heading for heading, _ in MEASURED.values()]
ORDER = [*ORDER[:-1], FULL_SIZE, ORDER[-1], GOALS, NOT_MEASURED]
WRITTEN = {
    GOALS: """\
One thread, one run. Beside Quantus: each metric of one method on the MLP at least 80 times as fast, nine methods 400
times, nine methods on the CNN 10 times with engine auto. The evaluator with engine eager: at most 2 times the bare
model's time on the MLP (with its value table, as it runs there) and 1.15 times on the CNN. The MLP without its table is
for comparison: half of that time goes to drawing subsets, softmax of logits and arithmetic on (512, 10) predictions.
With engine auto, less than the bare eager model's time: 0.6 times on the CNN; at 224 pixels 0.6 on ResNet-50, 0.4 on
EfficientNet-B0, 0.35 on MobileNetV2 and 0.95 on DeiT-small. LIME and KernelSHAP: 50 times as fast as Captum's on
tables, 3 times on texts, and at most 2 times the bare forwards that they ask for. Two workers: 1.8 times as fast as one
where there are two cores.

The tables say which are met. Why others may not be:

- Single metrics of one method on the MLP: half of our time is for what no method changes: checks of task and model,
  copies of the model's state that methods are held to, whole and empty inputs. They stay: the next method does without.
- Nine methods on the CNN: ours asks for little more than the bare forwards (see the overhead of the CNN), so that more
  is for engines. ONNX Runtime brings it below the bare model's time, at seconds of exporting in each process, which a
  run of that length does not earn back; auto leaves such models to themselves.
- Engines at 224 pixels: the forwards of the fastest engine alone take about what the goal leaves for all, so that a
  goal is met in one measurement and missed in the next (ResNet-50), or missed (EfficientNet-B0, MobileNetV2). ONNX
  Runtime, OpenVINO, torch.compile and channels_last were tried.
- LIME and KernelSHAP on texts: the bare forwards alone take nearly all of our time, and a third or half of Captum's.
  "At most 2 times the bare forwards" cannot hold on the MLP, whose hundred forwards take less than drawing subsets.
- Two workers: the last column of that table is what two independent runs reach on the same two cores.""",
    NOT_MEASURED: """\
No figure of this page was made on a GPU; the code for it (one device for masks and model, `--precision bf16`,
`--engine`, halved forwards when memory runs out) is tested on a CPU only.""",
}
"""Sections that are text alone."""


def processor():
    """Return the processor's name."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return names[0] if names else platform.processor()


HEAD = """# Performance

Made by `tox -e perf -- --write` (`python -m tests.performance.report --write`; `--only SECTION` renews one), one torch
thread. Times are the least of several runs. Machines are noisy: ratios carry over to others better than seconds. Each
section says what it was measured with."""


def measured_with():
    """Return a line for the end of a section: the processor, and versions of packages."""
    found = versions() | {"quantus": version_of("quantus")}
    said = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    return f"Measured on {processor()} with {said}."


def read(text):
    """Return the head and the sections of a document by their headings."""
    first, *parts = text.split("\n## ")
    return first.strip(), {heading: body.strip() for heading, _, body in (part.partition("\n") for part in parts)}


def page(first, sections):
    """Return a document of a head and sections, in their order."""
    found = [f"## {heading}\n\n{sections[heading].strip()}" for heading in ORDER if heading in sections]
    return "\n\n".join([first, *found]) + "\n"


def arguments():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.name}")
    parser.add_argument("--only", nargs="+", choices=MEASURED, metavar="SECTION", help=f"only {', '.join(MEASURED)}")
    parser.add_argument("--tiny", action="store_true", help="sizes of a test; never written")
    parser.add_argument("--rows-a-second", nargs="+", type=float, metavar="N", help="of one GPU, for the plan")
    parser.add_argument("--full-size", type=Path, metavar="DIR", help="renew only the section on 224-pixel images")
    given = parser.parse_args()
    if given.tiny and given.write:
        parser.error("numbers of --tiny mean nothing: leave out --write")
    return given


def main():
    """Print what was made, and write the document where that is asked."""
    given = arguments()
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore")
    made = {}
    for name in [] if given.full_size else given.only or MEASURED:
        heading, module = MEASURED[name]
        sizes = dict(module.TINY) if given.tiny else {}
        if name == "plan" and given.rows_a_second:
            sizes["rows_a_second"] = tuple(given.rows_a_second)
        made[heading] = module.section(**sizes)
        if module is not imagenet_plan:
            made[heading] += f"\n\n{measured_with()}"
        print(f"## {heading}\n\n{made[heading]}\n", flush=True)
    if given.full_size:
        made[FULL_SIZE] = full_size.section(given.full_size)
        print(made[FULL_SIZE])
    if given.write:
        kept = read(TARGET.read_text(encoding="utf-8"))[1]
        TARGET.write_text(page(HEAD, kept | made | WRITTEN), encoding="utf-8")


if __name__ == "__main__":
    main()
