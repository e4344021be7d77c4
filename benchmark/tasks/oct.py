"""Optical coherence tomography of the retina (Kermany et al. 2018): which disease does a scan show?"""

from __future__ import annotations

from benchmark.core.types import TASKS
from benchmark.data.image_folders import FolderImages
from benchmark.modalities.image import ImageTask, Training
from benchmark.models.pretrained import Pretrained
from benchmark.tasks.imagenet import DEIT, EFFICIENTNET, MEAN, RESNET, STD

OCT = FolderImages(
    name="oct",
    folder="oct",
    get="download OCT2017 of doi:10.17632/rscbjbr9sj and unpack it as oct",
    channels=3,
    side=224,
    train_rows=4000,
    test_rows=1000,
    licence="CC BY 4.0 (OCT2017)",
    stand_in_classes=4,
)


def _oct(family: str, weights: Pretrained, rate: float, epochs: int = 40) -> ImageTask:
    training = Training(epochs, batch=18, rate=rate, crop=160)
    return ImageTask(OCT, family, 0.6, MEAN, STD, weights, training)  # type: ignore[arg-type]


@TASKS.register("oct_deit", modality="image")
def oct_deit() -> ImageTask:
    """Disease in a retinal scan (OCT2017, Kermany et al. 2018, or other classes found); DeiT-small."""
    return _oct("deit", DEIT, 5e-4)


@TASKS.register("oct_efficientnet", modality="image")
def oct_efficientnet() -> ImageTask:
    """Disease in a retinal scan (OCT2017, Kermany et al. 2018, or other classes found); EfficientNet-B0."""
    return _oct("efficientnet", EFFICIENTNET, 1e-3)


@TASKS.register("oct_resnet", modality="image")
def oct_resnet() -> ImageTask:
    """Disease in a retinal scan (OCT2017, Kermany et al. 2018, or other classes found); ResNet-50."""
    return _oct("resnet", RESNET, 1e-3)
