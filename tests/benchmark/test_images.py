"""Images: data folders, stand-ins, pretrained weights, fine-tuning."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmark.data import stand_ins
from benchmark.data.images import read_image
from benchmark.data.source import Sources
from benchmark.errors import DataError
from benchmark.models.image import augmented, image_model, spatial_layer
from benchmark.models.pretrained import Pretrained, load_state
from benchmark.seeding import seeded
from benchmark.tasks.image import ImageTask, Training
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
        home.mkdir()
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
    assert task.provenance["model"]["pretrained"]
    for key, value in task.model.state_dict().items():
        assert torch.equal(value, state[key]), key
    weights_in(tmp_path, 2)
    assert spec.locate(sources).digest != located.digest, "other weights make another task"


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


def test_real_mobilenet_classifies_photographs(real_data):
    from benchmark.types import TASKS

    spec = TASKS.get("imagenet_mobilenet")()
    task = spec.build(spec.locate(Sources("real", real_data, offline=True)), "imagenet_mobilenet", "cpu")
    assert 0.63 <= task.provenance["model"]["accuracy"] <= 0.70
    assert len(task.test.x) == 400
