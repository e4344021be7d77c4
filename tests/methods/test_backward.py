"""Image methods against independent implementations and closed forms."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.core.errors import BenchmarkError
from benchmark.core.seeding import seeded
from benchmark.core.sources import Sources
from benchmark.core.types import METHODS, TASKS, Budget
from benchmark.modalities.continuous import gradient
from benchmark.modalities.removal import PixelRemoval
from benchmark.models.image import image_model, spatial_layer
from benchmark.models.training import freeze
from methods import cam
from tests import toys

SIDE = 12


def task_of(model, channels=2, samples=5, seed=0, spatial=None):
    with seeded(seed):
        x = torch.randn(samples, channels, SIDE, SIDE).double()
    removal = PixelRemoval(torch.zeros(channels).double(), SIDE, SIDE, sigma=1.0)
    task = toys.make(model, x, removal, Budget(6, subsets=9, subset_fraction=1 / 6, subset_minimum=1), "image")
    return replace(task, spatial=spatial), model(x).argmax(-1)


def plain(activation=nn.ReLU, bias=True, normalised=False, seed=1):
    with seeded(seed):
        middle = [nn.BatchNorm2d(6)] if normalised else []
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1, bias=bias), *middle, activation(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=bias), activation(),
            nn.Flatten(), nn.Linear(8 * 36, 3, bias=bias),
        ).double()  # fmt: skip
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                nn.init.normal_(module.weight)  # scales of either sign
                nn.init.normal_(module.bias)
    return freeze(model)


def explained(name, task, target, **parameters):
    return METHODS.get(name)(**parameters).prepare(task, 0)(task.test.x, target)


# Layer-wise relevance propagation


@pytest.mark.parametrize("gamma", [0.0, 0.25, 2.0])
@pytest.mark.parametrize("bias", [False, True])
def test_lrp_equals_zennit(gamma, bias):
    zennit = pytest.importorskip("zennit", reason="zennit is installed with the extra dev")
    assert zennit
    from zennit.attribution import Gradient
    from zennit.composites import LayerMapComposite
    from zennit.rules import Epsilon, Gamma, Pass

    model = plain(bias=bias)
    task, target = task_of(model)
    stabiliser = 1e-12
    rules = [
        (nn.Conv2d, Gamma(gamma, stabilizer=stabiliser)),
        (nn.Linear, Epsilon(epsilon=stabiliser)),
        (nn.ReLU, Pass()),
    ]
    with Gradient(model=model, composite=LayerMapComposite(rules)) as attributor:
        _, relevance = attributor(task.test.x.clone(), lambda logits: F.one_hot(target, 3) * logits)
    torch.testing.assert_close(
        explained("lrp", task, target, gamma=gamma), task.removal.pool(relevance), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 50.0])
def test_lrp_equals_loops_over_neurons(gamma):
    """The gamma rule written out contribution by contribution, for signed inputs, on one convolution and one layer."""
    with seeded(4):
        model = freeze(nn.Sequential(nn.Conv2d(2, 3, 2, bias=False), nn.Flatten(), nn.Linear(12, 2)).double())
        x = torch.randn(1, 2, 3, 3).double()
    task = toys.make(model, x, PixelRemoval(torch.zeros(2).double(), 3, 3, None), Budget(9), "image")
    kernel, weights = model[0].weight, model[2].weight
    outputs = model[0](x)[0]  # (3, 2, 2)
    relevance = weights[1].view(3, 2, 2) * outputs  # of a linear layer: contributions to the logit, its bias aside
    expected = torch.zeros(2, 3, 3).double()
    for channel, row, column in product(range(3), range(2), range(2)):
        part = x[0, :, row : row + 2, column : column + 2] * kernel[channel]  # the eight contributions to one output
        favoured = part.clamp(min=0) if outputs[channel, row, column] > 0 else part.clamp(max=0)
        share = part + gamma * favoured
        share = share / share.sum() * relevance[channel, row, column]
        expected[:, row : row + 2, column : column + 2] += share
    found = explained("lrp", task, torch.tensor([1]), gamma=gamma)[0]
    torch.testing.assert_close(found, expected.sum(0).flatten(), rtol=0, atol=1e-10)
    plain_map = explained("input_x_gradient", task, torch.tensor([1]))[0]
    assert torch.allclose(found, plain_map) == (gamma == 0), "without gamma this is gradient times input"


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.GELU])
def test_relevance_is_conserved_without_biases(activation):
    task, target = task_of(plain(activation, bias=False))
    found = explained("lrp", task, target)
    logit = task.model(task.test.x).gather(1, target.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(found.sum(1), logit, rtol=1e-6, atol=1e-8)


def test_normalisation_is_one_layer_with_its_convolution():
    model = plain(normalised=True)
    fused = freeze(nn.Sequential(nn.utils.fuse_conv_bn_eval(model[0], model[1]), *model[2:]))
    task, target = task_of(model)
    torch.testing.assert_close(
        explained("lrp", task, target), explained("lrp", task_of(fused)[0], target), rtol=0, atol=1e-9
    )
    unlike = explained("lrp", task, target) - explained("input_x_gradient", task, target)
    assert unlike.abs().max() > 1e-3, "LRP must not be silently gradient times input"


def test_attention_weights_and_scales_are_constants():
    """With biases at zero, relevance is conserved through attention, layer normalisation, GELU and sums."""
    with seeded(5):
        model = image_model("deit", 3, 3, 32, reduced=True).double()
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or name in ("pos_embed", "cls_token"):
                nn.init.zeros_(parameter)
        x = torch.randn(2, 3, 32, 32).double()
    task = toys.make(model, x, PixelRemoval(torch.zeros(3).double(), 32, 32, 1.0), Budget(4), "image")
    target = torch.tensor([0, 2])
    logit = model(x).gather(1, target.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(explained("lrp", task, target).sum(1), logit, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("family", ["resnet", "efficientnet", "mobilenet", "deit"])
def test_lrp_leaves_logits_and_differs_from_gradient_times_input(family):
    with seeded(6):
        model = freeze(image_model(family, 3, 3, 32, reduced=True).double())
        x = torch.randn(2, 3, 32, 32).double()
    task = toys.make(model, x, PixelRemoval(torch.zeros(3).double(), 32, 32, 1.0), Budget(4), "image")
    before, target = model(x), torch.tensor([0, 1])
    lrp, plain_map = explained("lrp", task, target), explained("input_x_gradient", task, target)
    assert torch.equal(model(x), before)
    cosine = F.cosine_similarity(lrp, plain_map)
    assert (cosine.abs() < 0.95).all()


# Guided backpropagation


def test_guided_backprop_equals_captum_on_relu():
    from captum.attr import GuidedBackprop

    task, target = task_of(plain())
    other = GuidedBackprop(plain()).attribute(task.test.x.clone().requires_grad_(), target=target)
    torch.testing.assert_close(explained("guided_backprop", task, target), task.removal.pool(other), rtol=0, atol=1e-10)


@pytest.mark.parametrize("activation", [nn.SiLU, nn.GELU])
def test_guided_backprop_guides_smooth_activations(activation):
    task, target = task_of(plain(activation))
    found = explained("guided_backprop", task, target)
    assert not torch.allclose(found, task.removal.pool(gradient(task, task.test.x, target)), atol=1e-3)
    model, x = task.model, task.test.x
    before1 = model[0](x)
    before2 = model[2](model[1](before1))
    slope = model[-1].weight[target].view(5, 8, 6, 6)
    for convolution, before in ((model[2], before2), (model[0], before1)):
        at = before.detach().requires_grad_()
        with torch.enable_grad():
            rise = torch.autograd.grad(activation()(at).sum(), at)[0]
        slope = slope.clamp(min=0) * (before > 0) * rise
        padding = 1 if convolution.stride == (2, 2) else 0
        slope = F.conv_transpose2d(slope, convolution.weight, None, convolution.stride, 1, padding)
    torch.testing.assert_close(found, task.removal.pool(slope), rtol=0, atol=1e-10)


def test_guided_backprop_refuses_a_model_without_activations():
    task, target = task_of(freeze(nn.Sequential(nn.Flatten(), nn.Linear(2 * SIDE * SIDE, 3)).double()))
    with pytest.raises(ValueError, match="no activation module"):
        explained("guided_backprop", task, target)


# DeepLIFT


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.GELU])
def test_deeplift_is_complete_for_every_activation(activation):
    task, target = task_of(plain(activation))
    x = task.test.x
    gap = (task.model(x) - task.model(torch.zeros_like(x))).gather(1, target.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(explained("deeplift", task, target).sum(1), gap, rtol=0, atol=1e-6)
    base = task.train.x
    mean = (task.model(x) - task.model(base).mean(0)).gather(1, target.unsqueeze(1)).squeeze(1)
    found = explained("deeplift_shap", task, target, background=5)
    torch.testing.assert_close(found.sum(1), mean, rtol=0, atol=1e-6)


def test_expected_gradients_approach_completeness():
    task, target = task_of(plain(nn.SiLU))
    x = task.test.x
    mean = (task.model(x) - task.model(task.train.x).mean(0)).gather(1, target.unsqueeze(1)).squeeze(1)
    found = explained("expected_gradients", task, target, samples=4000, background=5)
    torch.testing.assert_close(found.sum(1), mean, rtol=0.1, atol=0.05)


# Class activation maps


def cnn_task():
    return task_of(plain(), spatial="3")


def test_grad_cam_equals_captum():
    from captum.attr import LayerGradCam

    task, target = cnn_task()
    other = LayerGradCam(task.model, task.model[3]).attribute(
        task.test.x.clone().requires_grad_(), target=target, relu_attributions=True
    )
    channels = task.model[:4](task.test.x).shape[1]
    expected = cam.stretched(other.squeeze(1), task.test.x)
    found = explained("grad_cam", task, target)
    ratio = found.sum() / expected.sum()  # Captum sums over channels or means: a constant factor
    assert ratio.item() == pytest.approx(1, rel=1e-9) or ratio.item() == pytest.approx(channels, rel=1e-9)
    torch.testing.assert_close(found, expected * ratio, rtol=0, atol=1e-10)


def test_grad_cam_plus_plus_equals_loops():
    task, target = cnn_task()
    layer = task.model[:4](task.test.x)
    found = explained("grad_cam_plus_plus", task, target)
    for row in range(len(layer)):
        slope = task.model[-1].weight[target[row]].view(layer.shape[1:])
        total = torch.zeros(6, 6).double()
        for channel in range(len(slope)):
            weight = 0.0
            for i in range(6):
                for j in range(6):
                    g = slope[channel, i, j]
                    below = 2 * g**2 + layer[row, channel].sum() * g**3
                    weight = weight + (g**2 / below if below != 0 else 0.0) * max(g, torch.tensor(0.0))
            total += weight * layer[row, channel]
        expected = cam.stretched(total.relu().unsqueeze(0), task.test.x[:1])[0]
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-9)


def test_score_cam_equals_loops():
    task, target = cnn_task()
    found = explained("score_cam", task, target)
    for row, (image, layer) in enumerate(zip(task.test.x, task.model[:4](task.test.x), strict=True)):
        scores = []
        for channel in layer:
            mask = F.interpolate(channel.view(1, 1, 6, 6), (SIDE, SIDE), mode="bilinear", align_corners=False)[0]
            span = mask.max() - mask.min()
            mask = (mask - mask.min()) / (span if span > 0 else 1.0)
            scores.append(task.model((image * mask).unsqueeze(0)).softmax(-1)[0, target[row]])
        weights = torch.stack(scores).softmax(0)
        total = sum(weight * channel for weight, channel in zip(weights, layer, strict=True)).relu()
        torch.testing.assert_close(found[row], cam.stretched(total.unsqueeze(0), task.test.x[:1])[0], rtol=0, atol=1e-9)
    few = explained("score_cam", task, target, channels=3)
    assert few.shape == found.shape
    assert not torch.allclose(few, found)


def test_tokens_become_a_grid_without_the_class_token():
    tokens = torch.arange(2 * 10 * 3.0).view(2, 10, 3)
    grid = cam.as_map(tokens)
    assert grid.shape == (2, 3, 3, 3)
    assert torch.equal(grid[1, 2].flatten(), tokens[1, 1:, 2])


def test_cams_need_a_spatial_layer():
    task, target = task_of(plain())
    for name in ("grad_cam", "score_cam", "grad_cam_plus_plus"):
        with pytest.raises(BenchmarkError, match="names no spatial layer"):
            explained(name, task, target)


@pytest.mark.slow
def test_grad_cam_on_a_transformer_looks_at_places_that_matter():
    spec = TASKS.get("oct_deit")()
    task = spec.build(spec.locate(Sources("synthetic")), "oct_deit", "cpu")
    layer, slope = cam.activations(task, task.test.x[:2], task.test.y[:2])
    assert layer.shape == slope.shape == (2, 48, 8, 8)
    assert (slope.abs().amax(1) > 0).all(), "the last norm before attention: every place has a say"
    assert spatial_layer("deit", task.model) == task.spatial
