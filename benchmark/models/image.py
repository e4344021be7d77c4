"""The paper's image models from timm, full-sized or reduced for small stand-ins, and a small plain CNN."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, Literal

import timm
import torch
from timm.layers import get_act_layer, make_divisible
from timm.models import EfficientNet
from torch import Tensor, nn
from torch.nn import functional as F

Family = Literal["resnet", "efficientnet", "deit", "mobilenet", "cnn"]


def image_model(family: Family, classes: int, channels: int, side: int, reduced: bool) -> nn.Module:
    """Return an untrained model of `family`: images (B, channels, side, side) to logits (B, classes).

    Reduced models have the same blocks, fewer and narrower, and keep a map of places a sixteenth of the image in area.
    """
    match family, reduced:
        case "resnet", False:
            model = timm.create_model("resnet50", num_classes=classes, in_chans=channels)
        case "resnet", True:
            model = timm.create_model(
                "resnet50", num_classes=classes, in_chans=channels, layers=(1, 1, 1, 1), channels=(8, 16, 24, 32),
                output_stride=8,
            )  # fmt: skip
        case "efficientnet", False:
            model = timm.create_model("efficientnet_b0", num_classes=classes, in_chans=channels, drop_rate=0.2)
        case "efficientnet", True:
            model = scaled("efficientnet", classes, channels, width=0.25, depth=0.25, output_stride=8)
        case "mobilenet", False:  # padding and epsilon as in TensorFlow, where the weights come from
            model = timm.create_model(
                "mobilenetv2_100", num_classes=classes, in_chans=channels, pad_type="same", bn_eps=1e-3
            )
        case "mobilenet", True:
            model = scaled("mobilenet", classes, channels, width=0.5, depth=0.3, output_stride=8)
        case "deit", False:
            model = timm.create_model(
                "deit_small_patch16_224", num_classes=classes, in_chans=channels, dynamic_img_size=True
            )
        case "deit", True:
            model = timm.create_model(
                "deit_small_patch16_224", num_classes=classes, in_chans=channels, img_size=side, patch_size=side // 8,
                embed_dim=48, depth=3, num_heads=3, dynamic_img_size=True,
            )  # fmt: skip
        case _:
            model = cnn(classes, channels)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment, unused-ignore] # what is changed in place can be neither hooked nor differentiated twice
    return model


STAGES = {
    "efficientnet": (
        ("ds", 1, 3, 1, 16), ("ir", 2, 3, 2, 24), ("ir", 2, 5, 2, 40), ("ir", 3, 3, 2, 80), ("ir", 3, 5, 1, 112),
        ("ir", 4, 5, 2, 192), ("ir", 1, 3, 1, 320),
    ),
    "mobilenet": (
        ("ds", 1, 3, 1, 16), ("ir", 2, 3, 2, 24), ("ir", 3, 3, 2, 32), ("ir", 4, 3, 2, 64), ("ir", 3, 3, 1, 96),
        ("ir", 3, 3, 2, 160), ("ir", 1, 3, 1, 320),
    ),
}  # fmt: skip
"""Stages of EfficientNet-B0 (Tan and Le 2019, table 1) and MobileNetV2 (Sandler et al. 2018, table 2).

Of each: timm's kind of block (depthwise separable, inverted residual), repeats, kernel, stride and channels.
"""


def scaled(
    family: Literal["efficientnet", "mobilenet"], classes: int, channels: int, width: float, depth: float,
    output_stride: int = 32,
) -> EfficientNet:  # fmt: skip
    """Return an untrained EfficientNet-B0 or MobileNetV2 with `width` times the channels and `depth` times the blocks.

    timm's own functions for these two take neither number.
    """

    def scaled_channels(count: float) -> int:
        return make_divisible(count * width, 8)

    blocks = []
    for kind, repeats, kernel, stride, out in STAGES[family]:
        block: dict[str, Any] = {"block_type": kind, "out_chs": out, "dw_kernel_size": kernel, "act_layer": None}
        if kind == "ir":
            block |= {"exp_kernel_size": 1, "exp_ratio": 6.0}
        if family == "efficientnet":
            block["se_ratio"] = 0.25
        blocks.append([block | {"stride": 1 if i else stride} for i in range(math.ceil(repeats * depth))])
    features = scaled_channels(1280) if family == "efficientnet" else max(1280, scaled_channels(1280))
    return EfficientNet(
        blocks, num_classes=classes, in_chans=channels, num_features=features, output_stride=output_stride,
        act_layer=get_act_layer("swish" if family == "efficientnet" else "relu6"), round_chs_fn=scaled_channels,
    )  # fmt: skip


def cnn(classes: int, channels: int) -> nn.Sequential:
    """Return three convolutions with batch normalisation, the mean over places, and a linear layer."""
    layers: list[nn.Module] = []
    for width in (32, 64, 64):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    parts = OrderedDict(features=nn.Sequential(*layers), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten())
    return nn.Sequential(parts | {"head": nn.Linear(channels, classes)})


def spatial_layer(family: Family, model: nn.Module) -> str:
    """Return the name of the submodule whose output is the last map of places (B, C, h, w), or of tokens (B, 1 + n, C).

    For DeiT it is the input of the last block's attention: behind it only the class token matters.
    """
    if family == "deit":
        return f"blocks.{len(model.blocks) - 1}.norm1"  # type: ignore[arg-type]
    return {"resnet": "layer4", "cnn": "features"}.get(family, "bn2")


def augmented(x: Tensor, crop: int, flip: bool) -> Tensor:
    """Return random square parts of `crop` pixels, enlarged or reduced by up to 15 %, brighter or darker.

    Where `crop` is the whole side, parts are 70 to 100 % of it. With `flip` they are also mirrored and turned by up to
    9 degrees.
    """
    batch, side = len(x), x.shape[-1]
    low, high = (0.7, 1.0) if crop == side else (0.85 * crop / side, min(1.0, 1.15 * crop / side))
    scale = torch.empty(batch, device=x.device).uniform_(low, high)
    turn = torch.where(torch.rand(batch, device=x.device) < 0.5 * flip, -1.0, 1.0)
    angle = flip * torch.empty(batch, device=x.device).uniform_(-0.15, 0.15)
    place = torch.zeros(batch, 2, 3, device=x.device)
    place[:, 0, 0], place[:, 0, 1] = scale * turn * angle.cos(), -scale * angle.sin()
    place[:, 1, 0], place[:, 1, 1] = scale * turn * angle.sin(), scale * angle.cos()
    place[:, :, 2] = (torch.rand(batch, 2, device=x.device) * 2 - 1) * (1 - scale).unsqueeze(1)
    grid = F.affine_grid(place, [batch, x.shape[1], crop, crop], align_corners=False)
    x = F.grid_sample(x, grid, align_corners=False, padding_mode="reflection")
    contrast = torch.empty(batch, 1, 1, 1, device=x.device).uniform_(0.8, 1.2)
    return x * contrast + torch.empty(batch, 1, 1, 1, device=x.device).uniform_(-0.2, 0.2)
