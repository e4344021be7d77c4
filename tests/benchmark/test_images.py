"""Images: data folders, stand-ins, pretrained weights, fine-tuning."""

from __future__ import annotations

import csv
import hashlib
import os
import pickle
import struct
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmark.core.errors import Absent, DataError
from benchmark.core.seeding import seeded
from benchmark.core.sources import Sources
from benchmark.data import stand_ins
from benchmark.data.image_files import read_image
from benchmark.modalities.image import ImageTask, Training
from benchmark.models.image import augmented, image_model, scaled, spatial_layer
from benchmark.models.pretrained import Pretrained, load_state
from benchmark.tasks.imagenet import IMAGENET, MEAN, STD
from benchmark.tasks.oct import OCT

FAMILIES = ("resnet", "efficientnet", "mobilenet", "deit", "cnn")


def picture(path, size=(20, 30), colour=(200, 10, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def oct_folder(tmp_path, classes=("CNV", "NORMAL"), each=4):
    for part in ("train", "test"):
        for at, name in enumerate(classes):
            for number in range(each):
                picture(tmp_path / "oct" / part / name / f"{number}.png", colour=(40 * at, 5 * number, 0))
    return Sources("real", tmp_path, offline=True)


def test_classes_are_read_from_the_folders(tmp_path):
    sources = oct_folder(tmp_path)
    located = OCT.locate(sources)
    assert OCT.classes(located) == ("CNV", "NORMAL")
    images = OCT.load(located)["test"]
    assert images.pixels.shape == (8, 3, 224, 224)
    assert sorted(images.labels) == [0] * 4 + [1] * 4
    assert {int(pixels[0].mean()) for pixels in images.pixels[images.labels == 1]} == {40}
    picture(tmp_path / "oct" / "test" / "CNV" / "more.png")
    assert OCT.locate(sources).digest != located.digest


def test_fewer_rows_are_drawn_class_by_class(tmp_path):
    sources = oct_folder(tmp_path, each=9)
    few = replace(OCT, train_rows=6, test_rows=4)
    images = few.load(few.locate(sources))
    assert np.bincount(images["train"].labels).tolist() == [3, 3]
    assert np.bincount(images["test"].labels).tolist() == [2, 2]
    again = few.load(few.locate(sources))
    assert (images["train"].pixels == again["train"].pixels).all()


def test_folders_that_disagree_are_refused(tmp_path):
    sources = oct_folder(tmp_path)
    picture(tmp_path / "oct" / "test" / "DRUSEN" / "0.png")
    with pytest.raises(DataError, match=r"same two or more classes .* got CNV, NORMAL and CNV, DRUSEN, NORMAL"):
        OCT.locate(sources)


def test_missing_images_are_named(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(
        DataError, match=r"no folder oct there\. download OCT2017 .* so that oct/train/<class>/ is there"
    ):
        OCT.locate(Sources("real", tmp_path))
    assert OCT.locate(Sources("auto", tmp_path)).source == "synthetic"


def test_a_file_that_is_no_image_is_refused(tmp_path):
    sources = oct_folder(tmp_path)
    (tmp_path / "oct" / "test" / "CNV" / "0.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="is not a readable image"):
        OCT.load(OCT.locate(sources))


def imagenet_folder(tmp_path, rows):
    for folder in ("imagenet_samples", "imagenet_val10"):
        home = tmp_path / folder
        home.mkdir(parents=True)
        with (home / "labels.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "class_index", "wnid", "name"])
            for name, index in rows:
                writer.writerow([name, index, "n0", f"thing {index}"])
        for name, _ in rows:
            picture(home / name, (300, 260))
    return Sources("real", tmp_path, offline=True)


def test_lists_say_the_classes(tmp_path):
    located = IMAGENET.locate(imagenet_folder(tmp_path, [("images/a.jpg", 7), ("images/b.jpg", 999)]))
    names = IMAGENET.classes(located)
    assert (names[7], names[999], names[0], len(names)) == ("thing 7", "thing 999", "class 0", 1000)
    assert sorted(IMAGENET.load(located)["test"].labels) == [7, 999]


@pytest.mark.parametrize("index", ["1000", "x", "-1", ""])
def test_lists_with_wrong_classes_are_refused(tmp_path, index):
    with pytest.raises(DataError, match=r"labels.csv, line 2: expected a file and a class_index of 0 to 999"):
        IMAGENET.locate(imagenet_folder(tmp_path, [("images/a.jpg", index)]))


def test_listed_but_missing(tmp_path):
    sources = imagenet_folder(tmp_path, [("images/a.jpg", 1)])
    (tmp_path / "imagenet_val10" / "images" / "a.jpg").unlink()
    with pytest.raises(DataError, match="is listed but missing"):
        IMAGENET.locate(sources)


def test_the_middle_is_cut_out(tmp_path):
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 64:] = 255
    Image.fromarray(image).save(tmp_path / "half.png")
    cut = read_image(tmp_path / "half.png", 32, 1, crop=True)
    assert cut.shape == (1, 32, 32)
    assert cut[0, :, :14].max() < 60
    assert cut[0, :, 18:].min() > 200
    squeezed = read_image(tmp_path / "half.png", 64, 3, crop=False)
    assert squeezed.shape == (3, 64, 64)
    Image.fromarray(image[:, 40:72]).resize((32, 32)).save(tmp_path / "exact.png")
    assert (read_image(tmp_path / "exact.png", 32, 1, crop=True)[0, 0] == np.asarray(
        Image.open(tmp_path / "exact.png").convert("L"))[0]).all()  # fmt: skip


@pytest.mark.parametrize(("size", "ordinary"), [((20, 320), True), ((320, 20), True), ((20, 330), False)])
def test_long_images_are_cut_to_the_same_within_rounding(tmp_path, monkeypatch, size, ordinary):
    """Smooth pictures: on noise Pillow's two orders of scaling round differently."""
    down, across = np.mgrid[: size[1], : size[0]]
    Image.fromarray((128 + 100 * np.sin(down / 9 + across / 7)).astype(np.uint8)).save(tmp_path / "long.png")
    as_is = read_image(tmp_path / "long.png", 32, 1, crop=True).astype(int)
    monkeypatch.setattr("benchmark.data.image_files.ORDINARY", 0 if ordinary else 1000)
    assert np.abs(read_image(tmp_path / "long.png", 32, 1, crop=True) - as_is).max() <= 2


def chunks(*parts):
    """Return the bytes of a PNG file made of (type, content)."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def header(width, height, depth=8, colour=0):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def test_a_line_of_pixels_costs_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    Image.new("L", (1, 30_000), 77).save(tmp_path / "line.png")
    assert (tmp_path / "line.png").stat().st_size < 1000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cut = read_image(tmp_path / "line.png", 224, 3, crop=True)
    assert cut.shape == (3, 224, 224)
    assert (cut == 77).all()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 100e6


@pytest.mark.parametrize("side", [8193, 10_000, 40_000])
def test_files_of_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, side):
    """The three sizes are over our limit, over that of Pillow's warning, and over that of its error."""
    (tmp_path / "bomb.png").write_bytes(chunks(header(side, side), (b"IDAT", b""), (b"IEND", b"")))
    with pytest.raises(DataError, match=r"bomb.png has more than 67,108,864 pixels: make it smaller"):
        read_image(tmp_path / "bomb.png", 8, 1, crop=False)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("kind", ["EPS", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_only_png_and_jpeg_are_opened(tmp_path, monkeypatch, kind):
    def run(*_args, **_words):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", run)
    path = tmp_path / "it.png"
    if kind == "EPS":
        path.write_bytes(EPS)
    else:
        Image.new("RGB", (9, 9)).save(path, kind)
    with pytest.raises(DataError, match=r"it.png is not a readable image \(PNG or JPEG\)"):
        read_image(path, 8, 3, crop=False)


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("empty.png", lambda path: path.write_bytes(b"")),
        ("cut.png", cut_off),
        ("cut.jpg", cut_off),
        ("header.png", lambda path: path.write_bytes(chunks((b"IHDR", b"123")))),
        ("chunk.png", lambda path: path.write_bytes(chunks(header(9, 9), (b"IDAT", b""), (b"\xb1ABC", b"")))),
        (
            "text.png",
            lambda path: path.write_bytes(
                chunks(header(1, 1), (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))), (b"IDAT", b""), (b"IEND", b""))
            ),
        ),
    ],
)
def test_damaged_images_are_named(tmp_path, name, spoil):
    noise = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    spoil(tmp_path / name)
    with pytest.raises(DataError, match=f"{name} is not a readable image"):
        read_image(tmp_path / name, 8, 3, crop=False)


def test_an_animated_picture_is_refused(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / "moves.png", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"moves.png is animated: expected one picture; keep one of its 3"):
        read_image(tmp_path / "moves.png", 8, 3, crop=False)


def grey16(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint16)).save(path)


@pytest.mark.parametrize("bits", [16, 14, 12, 10, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, bits, channels):
    most = 2**bits - 1
    ramp = np.linspace(0, most, 64 * 64).round().reshape(64, 64)
    grey16(tmp_path / "ramp.png", ramp)
    found = read_image(tmp_path / "ramp.png", 64, channels, crop=False, bits=bits)
    assert (found == (ramp * 255 / most).round()).all()
    assert np.bincount(found[0].ravel()).max() <= 64 * 64 // 180, "each grey about as often as the next"


def test_sixteen_bits_of_all_kinds_agree(tmp_path):
    """Grey, colour and alpha of 16 bits give the same greys, but for rounding."""
    values = np.linspace(0, 65535, 256).round().astype(">u2")
    found = []
    for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        pixels = np.repeat(values[:, None], channels, 1)
        if colour in (4, 6):
            pixels[:, -1] = 65535
        lines = b"".join(b"\0" + line.tobytes() for line in pixels.reshape(16, -1))
        path = tmp_path / f"{colour}.png"
        path.write_bytes(chunks(header(16, 16, 16, colour), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")))
        found.append(read_image(path, 16, 3, crop=False).astype(int))
    assert max(np.abs(other - found[0]).max() for other in found) <= 1


def test_scans_of_one_set_are_scaled_alike_and_dark_ones_are_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    for part in ("train", "test"):
        for name, top in (("A", 4000), ("B", 1000)):
            grey16(tmp_path / "oct" / part / name / "0.png", np.full((9, 9), top))
    plain = replace(OCT, side=8)
    located = plain.locate(Sources("real", tmp_path, offline=True))
    with caplog.at_level("WARNING", "benchmark"):
        dark = plain.load(located)["test"]
    assert sorted(dark.pixels.max((1, 2, 3))) == [4, 16]
    assert "is over 4000: they are scaled by 65,535 and come out dark; if they hold 12 bits, give" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", "benchmark"):
        bright = replace(plain, bits=12).load(located)["test"]
    assert sorted(bright.pixels.max((1, 2, 3))) == [62, 249]
    assert not caplog.messages
    with pytest.raises(DataError, match=r"0.png holds 4,000: expected at most 1,023, as the image set has bits=10"):
        replace(plain, bits=10).load(located)


def test_what_is_transparent_is_white(tmp_path):
    """Whatever colour hides there; what is half seen is mixed, and what is opaque stays as it is."""
    pixels = np.array([[[9, 9, 9, 0], [200, 0, 0, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], np.uint8).repeat(4, 0)
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    found = read_image(tmp_path / "rgba.png", 4, 3, crop=False)[:, 0].T
    assert found.tolist() == [[255] * 3, [255] * 3, [10, 20, 30], [127] * 3]
    Image.fromarray(pixels[..., [0, 3]]).save(tmp_path / "la.png")
    assert read_image(tmp_path / "la.png", 4, 1, crop=False)[0, 0].tolist() == [255, 255, 10, 127]
    palette = Image.fromarray(np.array([[0, 1, 2, 1]] * 4, np.uint8), "P")
    palette.putpalette([1, 2, 3, 50, 60, 70, 200, 100, 0])
    palette.save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png", 4, 3, crop=False)[:, 0].T.tolist() == [
        [1, 2, 3], [50, 60, 70], [200, 100, 0], [50, 60, 70]]  # fmt: skip
    palette.save(tmp_path / "clear.png", transparency=b"\xff\x00\xff")
    assert read_image(tmp_path / "clear.png", 4, 3, crop=False)[1, 0].tolist() == [2, 255, 100, 255]
    grey16(tmp_path / "deep.png", [[0, 257, 514, 257]] * 4)
    Image.open(tmp_path / "deep.png").save(tmp_path / "key.png", transparency=257)
    assert read_image(tmp_path / "key.png", 4, 1, crop=False)[0, 0].tolist() == [0, 255, 2, 255]


def test_opaque_pictures_keep_their_pixels_in_every_kind_of_file(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    whole = Image.fromarray(noise)
    whole.convert("RGBA").save(tmp_path / "rgba.png")
    assert (read_image(tmp_path / "rgba.png", 32, 3, crop=False) == noise.transpose(2, 0, 1)).all()
    for mode in ("CMYK", "RGB"):
        Image.new("RGB", (32, 32), (200, 90, 30)).convert(mode).save(tmp_path / "plain.jpg", quality=95)
        error = read_image(tmp_path / "plain.jpg", 32, 3, crop=False) - np.array([200, 90, 30])[:, None, None]
        assert np.abs(error).max() <= 2, mode
    bits = Image.fromarray(noise[..., 0] > 127)
    bits.save(tmp_path / "bits.png")
    assert (read_image(tmp_path / "bits.png", 32, 1, crop=False)[0] == 255 * (noise[..., 0] > 127)).all()


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret.jpg", "images/../../secret.jpg"])
def test_lists_lead_to_nothing_outside_their_folder(tmp_path, name):
    sources = imagenet_folder(tmp_path / "data", [("images/a.jpg", 1)])
    picture(tmp_path / "data" / "secret.jpg")
    with (tmp_path / "data" / "imagenet_val10" / "labels.csv").open("a") as file:
        file.write(f"{name},2,n0,thing\n")
    with pytest.raises(DataError, match=r"labels.csv, line 3: expected a file below .*imagenet_val10, got .*"):
        IMAGENET.locate(sources)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,class_index\n", "got none at all for the test part"),
        (b"", "got none at all for the test part"),
        (b"file,class_index\n\xff\xfe,1\n", "is not a readable CSV file"),
        (b"file,class_index\n" + b"x" * 200_000 + b",1\n", "is not a readable CSV file: field larger"),
        (b"file,class_index\nimages/a.jpg," + b"9" * 5000 + b"\n", r"line 2: expected .* \(5,0\d\d characters\)$"),
    ],
)
def test_damaged_lists_are_refused_in_a_short_sentence(tmp_path, content, message):
    sources = imagenet_folder(tmp_path, [("images/a.jpg", 1)])
    (tmp_path / "imagenet_val10" / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        IMAGENET.locate(sources)
    assert len(str(caught.value)) < 700


def test_lists_as_excel_writes_them(tmp_path):
    sources = imagenet_folder(tmp_path, [("images/a.jpg", 1)])
    path = tmp_path / "imagenet_val10" / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert IMAGENET.load(IMAGENET.locate(sources))["test"].labels.tolist() == [1]


def test_a_class_without_images_is_named(tmp_path):
    sources = oct_folder(tmp_path)
    for path in (tmp_path / "oct" / "test" / "NORMAL").iterdir():
        path.rename(path.with_suffix(".tif"))
    with pytest.raises(DataError, match=r"expected .jpg or .png files, got none of class NORMAL for the test part"):
        OCT.locate(sources)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "oct").write_text("")
    with pytest.raises(DataError, match="oct is a file: expected a folder"):
        OCT.locate(Sources("real", tmp_path, offline=True))


def test_verify_says_that_no_images_are_pinned(tmp_path):
    sources = oct_folder(tmp_path)
    assert OCT.locate(sources).notes == ()
    assert "no version of oct is pinned: --verify checks nothing" in OCT.locate(replace(sources, verify=True)).notes[0]


def test_image_stand_ins_hold_what_they_promise():
    pixels, labels, planted = stand_ins.images(np.random.default_rng(2), 4, 60, 32, 3)
    assert pixels.shape == (60, 3, 32, 32)
    assert (planted.sum(1) == 64).all(), "an eighth of the side, squared"
    assert set(labels) == {0, 1, 2, 3}
    planted = planted.reshape(60, 32, 32)
    for image, region, label in zip(pixels.mean(1), planted, labels, strict=True):
        rows, columns = np.nonzero(region)
        patch = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert patch.shape == (8, 8)
        assert patch.std() > 2 * image[~region].std() * 0.6
        down, across = np.abs(np.diff(patch, axis=0)).mean(), np.abs(np.diff(patch, axis=1)).mean()
        assert (across > 3 * down) == (label == 0), "stripes of class 0 stand upright"
        assert (down > 3 * across) == (label == 2), "stripes of class 2 lie flat"


@pytest.mark.parametrize("family", FAMILIES)
def test_models_have_the_right_shapes(family):
    model = image_model(family, 4, 3, 32, reduced=True).eval()
    seen = []
    model.get_submodule(spatial_layer(family, model)).register_forward_hook(lambda *call: seen.append(call[2].shape))
    with torch.inference_mode():
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    assert len(seen[0]) == (3 if family == "deit" else 4)


@pytest.mark.parametrize(("family", "name"), [("efficientnet", "efficientnet_b0"), ("mobilenet", "mobilenetv2_100")])
def test_a_scaled_model_of_the_whole_size_is_timm_s_own(family, name):
    """Equal weights from one seed, and equal outputs: only the numbers of blocks and channels are ours to choose."""
    with seeded(0):
        own = scaled(family, 7, 3, width=1.0, depth=1.0).eval()
    with seeded(0):
        theirs = timm.create_model(name, num_classes=7, in_chans=3).eval()
    state, expected = own.state_dict(), theirs.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert str(own) == str(theirs), "layer by layer"
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(own(x), theirs(x))


@pytest.mark.parametrize(("family", "blocks", "parameters"), [("efficientnet", 7, 124_896), ("mobilenet", 8, 420_676)])
def test_reduced_models_have_fewer_and_narrower_blocks(family, blocks, parameters):
    model = image_model(family, 4, 3, 32, reduced=True)
    assert sum(len(stage) for stage in model.blocks) == blocks
    assert sum(value.numel() for value in model.parameters()) == parameters


@pytest.mark.parametrize("family", ["resnet", "efficientnet", "deit", "mobilenet"])
def test_full_models_are_those_of_the_paper(family):
    with torch.device("meta"):
        model = image_model(family, 1000, 3, 224, reduced=False)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions == pytest.approx(
        {"resnet": 25.56, "efficientnet": 5.29, "deit": 22.05, "mobilenet": 3.5}[family], abs=0.02
    )


def test_augmentation_changes_images_and_draws_from_the_seed():
    x = torch.rand(4, 3, 20, 20)
    with seeded(1):
        first = augmented(x, 10, flip=True)
    with seeded(1):
        assert torch.equal(first, augmented(x, 10, flip=True))
    assert first.shape == (4, 3, 10, 10)
    assert not torch.equal(first[0], first[1])


def test_parts_keep_the_size_of_details():
    """A pattern of one-pixel columns stays one in a part, where a smaller whole image would blur it away."""
    x = (torch.arange(64) % 8 < 4).float().expand(1, 1, 64, 64)
    with seeded(2):
        parts = torch.cat([augmented(x, 32, flip=False) for _ in range(20)])
    assert parts.shape == (20, 1, 32, 32)
    changes = ((parts[:, 0, 16, 1:] > 0.5) != (parts[:, 0, 16, :-1] > 0.5)).sum(1)
    assert ((changes >= 6) & (changes <= 10)).double().mean() > 0.7


# Pretrained weights

SMALL = Training(1, 8, 1e-3, smoothing=0.0)


def tiny_task(weights, training, classes=2):
    """A real task on tiny pictures with the plain CNN, whose weights come from a file."""
    data = replace(OCT, side=16, name="tiny")
    return ImageTask(data, "cnn", 0.0, MEAN, STD, weights, training)


def weights_in(tmp_path, classes, spoil=lambda state: state):
    state = spoil(image_model("cnn", classes, 3, 16, reduced=False).state_dict())
    (tmp_path / "weights").mkdir(exist_ok=True)
    save_file(state, tmp_path / "weights" / "tiny.safetensors")
    return Pretrained("tiny", "tiny.safetensors"), state


def test_weights_are_used_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    sources = oct_folder(tmp_path)
    weights, state = weights_in(tmp_path, 2)
    spec = tiny_task(weights, None)
    located = spec.locate(sources)
    task = spec.build(located, "tiny", "cpu")
    assert task.provenance.model.pretrained
    for key, value in task.model.state_dict().items():
        assert torch.equal(value, state[key]), key
    weights_in(tmp_path, 2)
    assert spec.locate(sources).digest != located.digest, "other weights make another task"


def edited(path):
    """Change some bytes of a file without a change of its size."""
    before = path.stat()
    pixels = np.asarray(Image.open(path))
    Image.fromarray(255 - pixels).save(path, compress_level=0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert path.stat().st_size == before.st_size


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_picture_edited_without_a_change_of_size_is_decoded_again_and_trains_another_model(
    tmp_path, monkeypatch, caplog, part
):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    sources = oct_folder(tmp_path)
    paths = sorted((tmp_path / "oct" / part).rglob("*.png"))
    for path in paths:
        Image.open(path).save(path, compress_level=0)
    spec = tiny_task(None, SMALL)
    located = spec.locate(sources)
    before = spec.build(located, "tiny", "cpu")
    edited(paths[0])
    assert spec.locate(sources).digest == located.digest, "the listing does not show it"
    caplog.clear()
    after = spec.build(located, "tiny", "cpu")
    split, other = (getattr(task, part).x for task in (before, after))
    assert not torch.equal(split, other)
    assert "was trained on other rows than the data hold now: set aside" in caplog.text
    same = before.provenance.model.digest == after.provenance.model.digest
    assert same == (part == "test")
    caplog.clear()
    again = spec.build(located, "tiny", "cpu")
    assert again.provenance == after.provenance
    assert "rows" not in after.provenance.model.measures
    assert "training" not in caplog.text, "nothing is made again"


def test_a_copy_of_the_data_keeps_the_model(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    spec = tiny_task(None, SMALL)
    sources = oct_folder(tmp_path)
    located = spec.locate(sources)
    before = spec.build(located, "tiny", "cpu")
    stamp = spec.data.stamp(located)
    for path in (tmp_path / "oct").rglob("*.png"):
        os.utime(path, (1, 1))
    assert spec.data.stamp(located) != stamp
    assert replace(spec.data, bits=12).stamp(located) != spec.data.stamp(located)
    caplog.clear()
    assert spec.build(spec.locate(sources), "tiny", "cpu").provenance == before.provenance
    assert "training" not in caplog.text


def test_test_images_play_no_part_in_what_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    spec = tiny_task(None, replace(SMALL, crop=12))
    built = []
    for colour in ((0, 0, 0), (255, 255, 255)):
        sources = oct_folder(tmp_path / str(colour[0]))
        for path in (sources.data_dir / "oct" / "test").rglob("*.png"):
            picture(path, (30 + colour[0], 30), colour)
        built.append(spec.build(spec.locate(sources), "tiny", "cpu"))
    first, second = built
    assert not torch.equal(first.test.x, second.test.x)
    assert first.provenance.model.digest == second.provenance.model.digest
    assert torch.equal(first.removal.means, second.removal.means)


def test_fine_tuning_begins_with_the_weights_but_for_the_last_layer(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    sources = oct_folder(tmp_path)
    weights, state = weights_in(tmp_path, 1000)
    spec = tiny_task(weights, replace(SMALL, rate=1e-7))
    task = spec.build(spec.locate(sources), "tiny", "cpu")
    tuned = task.model.state_dict()
    assert tuned["head.weight"].shape == (2, 64)
    torch.testing.assert_close(tuned["features.0.weight"], state["features.0.weight"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("how", ["missing", "extra"])
def test_weights_load_strictly(tmp_path, monkeypatch, how):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    sources = oct_folder(tmp_path)

    def spoil(state):
        if how == "missing":
            return {key: value for key, value in state.items() if key != "head.bias"}
        return dict(state) | {"head.more": torch.zeros(3)}

    weights, _ = weights_in(tmp_path, 2, spoil)
    spec = tiny_task(weights, None)
    with pytest.raises(DataError, match=r"does not fit the model: .*head\.(bias|more)"):
        spec.build(spec.locate(sources), "tiny", "cpu")


def test_only_the_last_layer_begins_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    sources = oct_folder(tmp_path)
    weights, _ = weights_in(tmp_path, 1000, lambda state: state | {"features.0.weight": torch.zeros(5, 3, 3, 3)})
    spec = tiny_task(weights, SMALL)
    with pytest.raises(DataError, match=r"tiny.safetensors does not fit the model: .*features.0.weight"):
        spec.build(spec.locate(sources), "tiny", "cpu")


def test_a_message_about_a_thousand_names_is_short(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    sources = oct_folder(tmp_path)
    weights, _ = weights_in(tmp_path, 2, lambda state: {f"name {i}": torch.zeros(1) for i in range(1000)})
    spec = tiny_task(weights, None)
    with pytest.raises(DataError, match="does not fit the model") as caught:
        spec.build(spec.locate(sources), "tiny", "cpu")
    assert len(str(caught.value)) < 1000


def test_a_folder_in_the_place_of_weights_is_refused(tmp_path):
    sources = oct_folder(tmp_path)
    (tmp_path / "weights" / "tiny.safetensors").mkdir(parents=True)
    with pytest.raises(DataError, match=r"tiny.safetensors is a folder: expected a file"):
        tiny_task(Pretrained("tiny", "tiny.safetensors"), None).locate(sources)


def test_damaged_downloaded_weights_are_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.data.download._read", lambda _u, begin, take, *_: take(b"weights"[begin:], False))
    weights = Pretrained("tiny", "tiny.safetensors", "http://nowhere/tiny.pth", "9ca5")
    digest = hashlib.sha256(b"weights").hexdigest()
    weights = replace(weights, digest=digest[:8])
    path = weights.locate(Sources("real", cache=tmp_path))
    path.write_bytes(b"weightS")
    assert weights.locate(Sources("real", cache=tmp_path)).read_bytes() == b"weights"
    path.write_bytes(b"weightS")
    with pytest.raises(Absent, match=rf"tiny.pth is damaged \(SHA-256 \w+, expected {digest[:8]}\), and --offline"):
        weights.locate(Sources("real", cache=tmp_path, offline=True))


def test_without_weights_a_task_trains_or_is_refused(tmp_path):
    sources = oct_folder(tmp_path)
    weights = Pretrained("tiny", "tiny.safetensors")
    trained = tiny_task(weights, SMALL).locate(sources)
    assert trained.source == "real"
    assert "trained from nothing" in trained.notes[0]
    with pytest.raises(DataError, match=r"no weights/tiny.safetensors there\. Put the weights of timm's tiny into"):
        tiny_task(weights, None).locate(sources)
    assert tiny_task(weights, None).locate(replace(sources, kind="auto")).source == "synthetic"


class Trap:
    def __reduce__(self):
        return print, ("the trap was sprung",)


def test_pickles_with_code_are_refused(tmp_path, capsys):
    torch.save({"weight": Trap()}, tmp_path / "bad.pth")
    with pytest.raises(DataError, match="cannot be read"):
        load_state(tmp_path / "bad.pth")
    assert "sprung" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(DataError, match="holds no state dict"):
        load_state(tmp_path / "list.pth")
    torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "good.pth")
    assert load_state(tmp_path / "good.pth")["w"].tolist() == [1, 1]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("how", ["empty", "cut", "pickle", "folder", "missing", "text", "utf8", "numbers"])
def test_weights_that_are_none_are_named_and_never_run(tmp_path, capsys, suffix, how):
    path = tmp_path / f"bad{suffix}"
    whole = tmp_path / f"whole{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)({"weight": torch.ones(40)}, whole)
    if how == "folder":
        path.mkdir()
    elif how == "numbers":
        torch.save({1: torch.ones(2)}, path)
    elif how != "missing":
        path.write_bytes({
            "empty": b"", "cut": whole.read_bytes()[:-30], "pickle": pickle.dumps(Trap(), 2), "text": b"<html>" * 99,
            "utf8": b"\x80\x02X\x02\0\0\0\xff\xff.",
        }[how])  # fmt: skip
    with pytest.raises(
        DataError, match=rf"weights file .*bad{suffix} (cannot be read|is no file|holds no state|No such)"
    ):
        load_state(path)
    assert "sprung" not in capsys.readouterr().out


@pytest.mark.slow
def test_real_mobilenet_classifies_photographs(real_data):
    from benchmark.core.types import TASKS

    spec = TASKS.get("imagenet_mobilenet")()
    task = spec.build(spec.locate(Sources("real", real_data, offline=True)), "imagenet_mobilenet", "cpu")
    assert 0.63 <= task.provenance.model.accuracy <= 0.70
    assert len(task.test.x) == 400
