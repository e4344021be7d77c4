"""The encoder of learned explainers: shapes, padding, places."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmark.core.seeding import seeded
from benchmark.learning.encoder import Backbone, Shape, shape_of
from methods.amortised import Players
from tests import toys

TASKS = {"table": toys.table, "text": toys.text, "image": toys.image}


def backbone(task, outputs=1, masked=False):
    with seeded(0):
        return Backbone(replace(shape_of(task, outputs, 16, 2, 4), masked=masked)).eval().requires_grad_(False)


@pytest.mark.parametrize("modality", TASKS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_every_feature_gets_its_outputs(modality, outputs):
    task = TASKS[modality]()
    x = task.test.x.float() if modality != "text" else task.test.x
    found = backbone(task, outputs)(x)
    assert found.shape == (len(x), task.n_features, outputs)
    torch.testing.assert_close(backbone(task, outputs)(x[2:4]), found[2:4], atol=1e-5, rtol=1e-4)


def test_padding_says_nothing_and_gets_nothing():
    task = toys.text()
    net = backbone(task)
    x, extra = task.test.x, torch.randn(len(task.test.x), 1, 16)
    real = task.removal.valid(x)
    for more in (None, extra):
        found = net(x, more).squeeze(-1)
        assert (found[~real] == 0).all()
        for row in range(len(x)):
            alone = net(x[row : row + 1, :], None if more is None else more[row : row + 1]).squeeze(-1)
            torch.testing.assert_close(alone[0], found[row], atol=1e-5, rtol=1e-4)
    empty = torch.zeros_like(x[:2])
    assert (net(empty) == 0).all()


@pytest.mark.parametrize("modality", ["table", "image"])
def test_a_masked_encoder_tells_what_is_missing_from_a_zero(modality):
    task = TASKS[modality]()
    net = backbone(task, masked=True)
    x = torch.zeros_like(task.test.x[:1].float())
    removed = torch.zeros(1, task.n_features, dtype=torch.bool)
    here = net(x, removed=removed)
    removed[0, 0] = True
    assert not torch.allclose(net(x, removed=removed), here)
    if modality == "table":
        other = x.clone()
        other[0, 0] = 5.0
        assert torch.equal(net(other, removed=removed), net(x, removed=removed)), "what is removed says nothing"
    with pytest.raises(AssertionError, match="what is removed"):
        net(x)


@pytest.mark.parametrize("modality", TASKS)
def test_what_is_shown_in_part_lies_between_there_and_removed(modality):
    task = TASKS[modality]()
    net = backbone(task, masked=True)
    players = Players(task)
    x = task.test.x[5:7] if modality == "text" else task.test.x[5:7].float()
    valid = players.valid(x)
    empty = players.remove(x, valid)
    removed = valid & (torch.rand(valid.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    without = net(players.remove(x, removed), removed=players.features(removed))
    torch.testing.assert_close(net(x, shown=((~removed).float(), empty)), without)
    halfway = net(x, shown=(1 - 0.5 * removed.float(), empty))
    assert not torch.allclose(halfway, without)
    assert not torch.allclose(halfway, net(x, removed=players.features(torch.zeros_like(removed))))


def test_patches_are_laid_out_in_raster_order():
    task = toys.image()
    net = backbone(task, 2)
    side, patch = net.shape.side, net.shape.patch
    assert patch > 1, "else this shows nothing"
    n = side // patch
    found = torch.randn(1, n * n, patch * patch * 2)
    laid = net._unpatchify(found).view(side, side, 2)
    for row in range(side):
        for column in range(side):
            token = (row // patch) * n + column // patch
            within = (row % patch) * patch + column % patch
            assert torch.equal(laid[row, column], found[0, token, 2 * within : 2 * within + 2])


def test_what_a_patch_shows_reaches_its_token():
    task = toys.image()
    net = backbone(task)
    net.head.weight.data.normal_()
    x = task.test.x[:1].float()
    tokens = net._tokens(x)
    changed = x.clone()
    patch = net.shape.patch
    changed[0, :, -patch:, -patch:] += 1
    moved = (net._tokens(changed) != tokens).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == [tokens.shape[1] - 1], "the last patch is bottom right"


def test_places_matter():
    task = toys.table()
    net = backbone(task)
    x = torch.zeros(1, task.n_features)
    found = net(x)[0, :, 0]
    assert found.unique().numel() == task.n_features, "columns with equal values are told apart"


def test_word_vectors_come_from_the_model():
    task = toys.text()
    net = backbone(task)
    assert net.shape.words == len(task.model.embed.weight)
    net.start_from(task)
    torch.testing.assert_close(net.embed.weight, task.model.embed.weight.float())


@pytest.mark.parametrize(("side", "patch"), [(224, 16), (32, 4), (28, 2), (8, 2), (30, 15), (9, 1)])
def test_patch_sizes(side, patch):
    from dataclasses import replace

    from benchmark.modalities.removal import PixelRemoval

    task = toys.image()
    removal = PixelRemoval(torch.zeros(1), side, side, None)
    assert shape_of(replace(task, removal=removal), 1, 16, 1, 2).patch == patch


def test_a_shape_is_plain_data():
    shape = shape_of(toys.image(), 3, 16, 2, 4)
    assert Shape(**shape.plain()) == shape
