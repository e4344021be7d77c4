"""What is timed: our evaluator and Quantus on the same models, samples, subsets and steps."""

from __future__ import annotations

from unittest import mock

import numpy as np
import torch
from torch import nn

from benchmark.core.seeding import seeded
from benchmark.core.sources import Sources
from benchmark.core.types import TASKS, Budget, Split, Task
from benchmark.data.words import MASK, PAD, SPECIAL
from benchmark.engines.choosing import Engine, Trial
from benchmark.engines.installed import install
from benchmark.engines.names import EAGER
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval, TokenRemoval
from benchmark.modalities.text import MODELS
from benchmark.models.text import text_model
from benchmark.models.training import freeze
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import TEN

SPREAD = 1.0
"""Standard deviation of the logits of `photograph`. With more, the last bits of a deep network of random weights, which
it magnifies more than a trained one does, would be differences that no engine is allowed."""


def _task(name, modality, model, x, removal, budget, classes=3, explained=None):
    train, test = (Split(part, torch.zeros(len(part), dtype=torch.long)) for part in (x, x[:explained]))
    names = tuple(f"f{i}" for i in range(removal.n_features))
    called = tuple(f"class {i}" for i in range(classes))
    return Task(name, modality, "synthetic", freeze(model), train, test, removal, budget, names, called)


def table(samples=512, features=10, subsets=100):
    """Return an MLP 10-32-32-3 on 512 random rows; FC subsets of 3 columns, K = 10."""
    with seeded(0):
        model = nn.Sequential(nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
        x = torch.randn(samples, features)
    return _task("mlp", "table", model, x, ColumnRemoval(torch.zeros(features)), Budget(features, subsets))


def image(samples=64, steps=48, subsets=100):
    """Return a CNN (16, 32 and 32 channels) on 64 random images of 1 x 28 x 28; K = 48, FC of 16 pixels."""
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 49, 3),
        )  # fmt: skip
        x = torch.randn(samples, 1, 28, 28)
    removal = PixelRemoval(torch.zeros(1), 28, 28, sigma=None)  # Quantus inserts into the same baseline
    return _task("cnn", "image", model, x, removal, Budget(steps, subsets, 1 / 49, 1))


def photograph(name, side=224, steps=48, subsets=100):
    """Return a model of timm with random weights on one random image of 3 x side x side, as image tasks are.

    The statistics of its normalisation are those of 16 random images and its logits are scaled, because numbers that
    vanish on their way take other times than those of a trained model, and even probabilities hardly differ.
    """
    import timm

    with seeded(0):
        sizes = {"img_size": side} if "patch" in name else {}
        options = {"zero_init_last": False} if name.startswith("resnet") else {}  # 0 could be left out by a compiler
        model = timm.create_model(name, pretrained=False, **sizes, **options)
        x = torch.randn(16, 3, side, side)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1.0
        with torch.no_grad():
            model.train()(x)
            head = model.eval().get_classifier()
            head.weight.mul_(SPREAD / model(x).std())
    removal = PixelRemoval(x.mean((0, 2, 3)), side, side, sigma=side / 20)
    return _task(name, "image", model, x, removal, Budget(steps, subsets, 1 / steps, 1), 1000, explained=1)


def text(kind, source, samples=32, words=(20, 40)):
    """Return a text model of a task's sizes with random weights, `kind` lstm or transformer, on random words.

    `source` real or synthetic says of which sizes; texts have from `words[0]` to `words[1]` words.
    """
    vocabulary, length = {"real": 20_000, "synthetic": 500}[source], words[1]
    with seeded(0):
        model = text_model(kind, MODELS[kind][source] | {"length": length}, vocabulary, 4)
        x = torch.randint(len(SPECIAL), vocabulary, (samples, length))
        lengths = torch.randint(words[0], length + 1, (samples, 1))
    x = x.masked_fill(torch.arange(length) >= lengths, PAD)
    return _task(kind, "text", model, x, TokenRemoval(length, MASK, PAD), Budget(20, 100, 1 / 20, 1), 4)


def tried(task):
    """Return a trial of engines for a task's model, and the one that `auto` takes: chosen now, not remembered."""
    trial = Trial(task, "fp32")
    return trial, Engine(**trial.choose()[1])


def equip(trial, chosen):
    """Let the engine that was chosen in a trial answer for the model."""
    if chosen.name != EAGER:
        install(trial.task.model, trial.built[chosen.name][0], trial.rows)


def registered(name):
    """Return a registered task on its synthetic stand-in."""
    TASKS.discover("benchmark.tasks")
    spec = TASKS.get(name)()
    return spec.build(spec.locate(Sources("synthetic")), name, "cpu")


def attributions(task, methods=1):
    """Return random attributions (N, G) of as many methods."""
    with seeded(1):
        return [torch.randn(len(task.test.x), task.n_features) for _ in range(methods)]


def ours(task, methods, metrics=TEN, **options):
    """Score all methods with our evaluator, as sampled as Quantus does it: no value table."""
    evaluator = Evaluator(task, metrics=metrics, value_table=False, **options)
    return evaluator.score_all(methods)


def quantus(task, attribution, metric):
    """Score one method by Quantus with the settings nearest to ours: as many subsets, steps and removals."""
    import quantus as q

    features, steps = task.n_features, task.budget.steps
    side = {"table": (1, features), "image": tuple(task.test.x.shape[-2:])}[task.modality]
    common = {"normalise": False, "abs": False, "return_aggregate": False, "disable_warnings": True,
              "perturb_baseline": 0.0}  # fmt: skip
    sizes = [size for size in range(1, features + 1) if features % size == 0]  # Quantus wants steps of one size
    step = min(sizes, key=lambda size: abs(features // size - steps))
    flipping = q.PixelFlipping(features_in_step=step, **common)
    made = {
        "FC": lambda: q.FaithfulnessCorrelation(
            nr_runs=task.budget.subsets, subset_size=max(1, round(features * task.budget.subset_fraction)),
            similarity_func=q.similarity_func.correlation_pearson, **common),
        "FE": lambda: q.FaithfulnessEstimate(
            features_in_step=step, similarity_func=q.similarity_func.correlation_pearson, **common),
        "MC": lambda: q.MonotonicityCorrelation(nr_samples=1, features_in_step=step, **common),
        "INF": lambda: q.Infidelity(**_hundred_removals(task), **common),
        "DEL": lambda: flipping, "INS": lambda: flipping, "NEG": lambda: flipping, "POS": lambda: flipping,
        "RP": lambda: q.RegionPerturbation(
            patch_size=1 if task.modality == "table" else 4, regions_evaluation=min(steps, 100), **common),
        "IROF": lambda: q.IROF(**common),
    }[metric]()  # fmt: skip
    flat = metric not in ("INF", "IROF") and task.modality == "table"
    shape = (len(task.test.x), 1, features) if flat else (len(task.test.x), 1, *side)
    segments = (np.arange(features) * steps // features).reshape(side)
    with torch.no_grad():
        target = task.model(task.test.x).argmax(-1).numpy()
    with mock.patch("quantus.helpers.utils.get_superpixel_segments", lambda **_: segments):
        return made(
            model=_Shaped(task).eval(), x_batch=task.test.x.numpy().reshape(shape), y_batch=target,
            a_batch=attribution.numpy().reshape(shape), softmax=True, channel_first=True,
            batch_size=len(task.test.x), device="cpu",
        )  # fmt: skip


def _hundred_removals(task):
    """Return settings of Infidelity that remove as often as our INF does: 100 times a sample."""
    if task.modality == "table":
        return {"perturb_patch_sizes": [1], "n_perturb_samples": task.budget.subsets // task.n_features}
    return {"perturb_patch_sizes": [4], "n_perturb_samples": 2}  # 49 blocks, twice


class _Shaped(nn.Module):
    def __init__(self, task):
        super().__init__()
        self.model, self.shape = task.model, task.test.x.shape[1:]

    def forward(self, x):
        return self.model(x.reshape(-1, *self.shape))
