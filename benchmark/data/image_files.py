"""Reads image files: decodes, crops and scales to eight bits, and refuses files that are not what they claim."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.core.errors import DataError, short

if TYPE_CHECKING:
    from PIL import Image as Pillow


SUFFIXES = {".jpg", ".jpeg", ".png"}
MOST_PIXELS = 2**26
"""No file of more pixels is decoded: 8192 x 8192."""
ORDINARY = 16
"""Up to this ratio of its sides an image is scaled whole before its middle is cut out."""

Files = list[tuple[Path, int]]
"""Image files, each with its class."""


def read_image(path: Path, side: int, channels: int, crop: bool, bits: int = 16) -> np.ndarray:
    """Return an image as (channels, side, side) uint8, squeezed into the square or, with `crop`, its middle cut out.

    Only PNG and JPEG files are opened. What is transparent is white. Grey values of 16 bits are scaled so that
    2^bits - 1 becomes 255.

    Raises:
        DataError: it is no readable image, is too large, moves, or holds values of more bits.
    """
    return decoded(path, side, channels, crop, bits)[0]


def decoded(path: Path, side: int, channels: int, crop: bool, bits: int) -> tuple[np.ndarray, int]:
    """Return what `read_image` does, and the largest value of a file of 16 bits, or 0 for another."""
    from PIL import Image

    too_large = f"has more than {MOST_PIXELS:,} pixels: make it smaller or remove it"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise DataError(f"{path} {too_large}")
                if file.format == "PNG" and getattr(file, "n_frames", 1) > 1:
                    raise DataError(f"{path} is animated: expected one picture; keep one of its {file.n_frames}")  # type: ignore[attr-defined]
                image, largest = _eight_bits(file, path, bits)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} {too_large}") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for damaged files
        raise DataError(f"{path} is not a readable image (PNG or JPEG): {short(error)}; mend or remove it") from error
    image = _squared(image.convert("L" if channels == 1 else "RGB"), side, crop)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1), largest


def _eight_bits(file: Pillow.Image, path: Path, bits: int) -> tuple[Pillow.Image, int]:
    """Return an image of 8 bits without transparency, and the largest value if the file has 16."""
    from PIL import Image

    if file.mode.startswith("I"):
        values = np.asarray(file).astype(np.int64)
        largest, most = int(values.max()), 2**bits - 1
        if largest > most:
            raise DataError(f"{path} holds {largest:,}: expected at most {most:,}, as the image set has bits={bits}")
        grey = ((values * 255 + most // 2) // most).astype(np.uint8)
        if isinstance(key := file.info.get("transparency"), int):
            grey[values == key] = 255
        return Image.fromarray(grey), largest
    if file.mode in ("LA", "PA", "RGBA") or "transparency" in file.info:
        return Image.alpha_composite(Image.new("RGBA", file.size, "white"), file.convert("RGBA")).convert("RGB"), 0
    file.load()
    return file.copy(), 0


def _squared(image: Pillow.Image, side: int, crop: bool) -> Pillow.Image:
    """Return an image of `side` x `side` pixels; with `crop`, the middle of one whose short side is 8 / 7 of that."""
    from PIL import Image

    bicubic = Image.Resampling.BICUBIC
    if image.size == (side, side):
        return image
    if not crop:
        return image.resize((side, side), bicubic)
    scale = side * 8 / 7 / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    left, top = (width - side) // 2, (height - side) // 2
    if max(image.size) <= ORDINARY * min(image.size):
        return image.resize((width, height), bicubic).crop((left, top, left + side, top + side))
    across, down = image.width / width, image.height / height  # scaled whole, a line of pixels would fill the memory
    box = (left * across, top * down, (left + side) * across, (top + side) * down)
    return image.resize((side, side), bicubic, box)
