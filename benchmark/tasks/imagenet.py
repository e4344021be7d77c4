"""ImageNet-1k (Russakovsky et al. 2015): which of a thousand objects does a photograph show?"""

from __future__ import annotations

from benchmark.core.types import TASKS
from benchmark.data.image_folders import ListedImages
from benchmark.modalities.image import ImageTask
from benchmark.models.pretrained import Pretrained

IMAGENET = ListedImages(
    name="imagenet",
    train="imagenet_samples",
    test="imagenet_val10",
    channels=3,
    side=224,
    train_rows=500,
    test_rows=1000,
    n_classes=1000,
    licence="non-commercial research",
    stand_in_classes=5,
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RELEASES = "https://github.com/huggingface/pytorch-image-models/releases/download"

# timm pins the content of its releases by the first digits of their SHA-256, which stand in the file names.
RESNET = Pretrained(
    "resnet50.a1_in1k", "resnet50.a1_in1k.safetensors",
    f"{RELEASES}/v0.1-rsb-weights/resnet50_a1_0-14fe96d1.pth", "14fe96d1",
)  # fmt: skip
EFFICIENTNET = Pretrained(
    "efficientnet_b0.ra_in1k", "efficientnet_b0.ra_in1k.safetensors",
    f"{RELEASES}/v0.1-weights/efficientnet_b0_ra-3dd342df.pth", "3dd342df",
)  # fmt: skip
DEIT = Pretrained(
    "deit_small_patch16_224.fb_in1k", "deit_small_patch16_224.fb_in1k.safetensors",
    "https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth", "cd65a155",
)  # fmt: skip
MOBILENET = Pretrained("mobilenetv2_100 from TensorFlow", "mobilenetv2_100_224_tfquant_dequantized.safetensors")


@TASKS.register("imagenet_deit", modality="image")
def imagenet_deit() -> ImageTask:
    """Object in a photograph (ImageNet-1k, Russakovsky et al. 2015); DeiT-small."""
    return ImageTask(IMAGENET, "deit", 0.6, MEAN, STD, DEIT)


@TASKS.register("imagenet_efficientnet", modality="image")
def imagenet_efficientnet() -> ImageTask:
    """Object in a photograph (ImageNet-1k, Russakovsky et al. 2015); EfficientNet-B0."""
    return ImageTask(IMAGENET, "efficientnet", 0.6, MEAN, STD, EFFICIENTNET)


@TASKS.register("imagenet_resnet", modality="image")
def imagenet_resnet() -> ImageTask:
    """Object in a photograph (ImageNet-1k, Russakovsky et al. 2015); ResNet-50."""
    return ImageTask(IMAGENET, "resnet", 0.6, MEAN, STD, RESNET)


@TASKS.register("imagenet_mobilenet", modality="image", group="extra")
def imagenet_mobilenet() -> ImageTask:
    """Object in a photograph (ImageNet-1k, Russakovsky et al. 2015); MobileNetV2, beside the paper's models."""
    return ImageTask(IMAGENET, "mobilenet", 0.5, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), MOBILENET)
