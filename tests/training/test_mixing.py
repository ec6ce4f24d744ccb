"""Mixup and AugMix: seeded by sample alone, and the mixtures that the papers describe."""

import numpy as np
import pytest

from imaging_ft.augment.recipe import load_recipe
from imaging_ft.data import Images
from imaging_ft.training.mixing import Mixer, augmix
from imaging_ft.types import Levels

COUNT, CLASSES = 12, 3


@pytest.fixture
def images() -> Images:
    """Image i is gray 20·i throughout, so that a mixture tells what it's made of."""
    levels = np.repeat(np.arange(COUNT, dtype=np.uint8) * 20, 8 * 8 * 1).reshape(COUNT, 8, 8, 1)
    return Images(levels, np.eye(CLASSES, dtype=np.float32)[np.arange(COUNT) % CLASSES])


def as_it_is(levels: Levels, seed: int) -> Levels:
    return levels


def by_seed(levels: Levels, seed: int) -> Levels:
    return np.random.default_rng(seed).integers(0, 256, levels.shape, np.uint8)


def test_without_mixing_a_sample_is_the_augmented_image(images: Images) -> None:
    levels, target = Mixer(images, by_seed)(4, 77)
    assert (levels == by_seed(images.levels[4], 77)).all()
    assert target.tolist() == images.targets[4].tolist()


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_depends_on_its_index_and_seed_alone(augmented: bool, channels: int) -> None:
    """Whatever was made before it, and by whichever process: that's what resuming and several machines rest on."""
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (COUNT, 32, 32, channels), np.uint8), np.eye(COUNT, dtype=np.float32))
    first, second = (Mixer(images, load_recipe("camera").build(), mixup=0.4, augmix=augmented) for _ in range(2))
    keys = [(index, 1000 + index) for index in range(COUNT)]
    forward = {key: first(*key) for key in keys}
    for key in reversed(keys):
        levels, target = second(*key)
        assert (levels == forward[key][0]).all()
        assert (target == forward[key][1]).all()
    assert not (first(0, 1)[0] == first(0, 2)[0]).all()


def test_mixup_blends_levels_and_targets_by_the_same_share(images: Images) -> None:
    mixer = Mixer(images, as_it_is, mixup=1.0)
    for seed in range(200):
        levels, target = mixer(0, seed)  # image 0 is black: what isn't black is the partner's
        assert levels.dtype == np.uint8
        assert target.dtype == np.float32
        assert target.sum() == pytest.approx(1)
        (level,) = np.unique(levels)
        own = target[0]
        if 0 < own < 1 and own >= 0.5:
            partners = [20 * partner for partner in range(COUNT) if target[partner % CLASSES] > 0 and partner % CLASSES]
            assert min(abs(level - (1 - own) * partner) for partner in partners) <= 0.51


def test_the_partner_is_augmented_in_its_own_way(images: Images) -> None:
    """With noise for images, two that were augmented by one seed would be one image, and so would their mixture."""
    mixer = Mixer(images, by_seed, mixup=1.0)
    same = [(mixer(0, seed)[0] == by_seed(images.levels[0], seed)).all() for seed in range(50)]
    assert np.mean(same) < 0.1, "but where the share is as good as 1"


def test_mixups_share_has_the_beta_distribution_and_the_image_leads(images: Images) -> None:
    targets = np.eye(COUNT, dtype=np.float32)
    mixer = Mixer(Images(images.levels, targets), as_it_is, mixup=0.4)
    found = np.array([mixer(3, seed)[1] for seed in range(3000)])
    mixed = found[found[:, 3] < 1, 3]
    assert (mixed >= 0.5).all()
    expected = np.random.default_rng(9).beta(0.4, 0.4, 20000)
    expected = np.maximum(expected, 1 - expected)
    assert np.quantile(mixed, [0.25, 0.5, 0.75]) == pytest.approx(np.quantile(expected, [0.25, 0.5, 0.75]), abs=0.02)
    partners = (np.delete(found, 3, axis=1) > 0).sum(axis=0)
    assert (partners > 150).all(), "every other image is a partner, about 3000 / 12 times"


def test_mixup_of_several_labels_stays_within_zero_and_one(images: Images) -> None:
    targets = np.ones((COUNT, CLASSES), np.float32)
    targets[::2, 0] = 0
    for seed in range(50):
        _, target = Mixer(Images(images.levels, targets), as_it_is, mixup=1.0)(0, seed)
        assert target[1:] == pytest.approx(1)
        assert 0 <= target[0] <= 0.5


def test_mixing_leaves_the_images_as_they_were(images: Images) -> None:
    before = images.levels.copy(), images.targets.copy()
    _, target = Mixer(images, as_it_is)(0, 0)
    target += 1
    Mixer(images, as_it_is, mixup=1.0, augmix=True)(0, 0)
    assert (images.levels == before[0]).all()
    assert (images.targets == before[1]).all()


def test_augmix_of_what_changes_nothing_is_the_image() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    for seed in range(20):
        assert (augmix(as_it_is, levels, seed, depth=3) == levels).all()


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (3, 1), (2, 3)])
def test_augmix_applies_the_recipe_width_times_one_to_depth(width: int, depth: int) -> None:
    calls: list[int] = []

    def counted(levels: Levels, seed: int) -> Levels:
        calls.append(seed)
        return levels

    levels = np.zeros((4, 4, 1), np.uint8)
    counts: set[int] = set()
    for seed in range(60):
        calls.clear()
        augmix(counted, levels, seed, width=width, depth=depth)
        counts.add(len(calls))
        assert len(set(calls)) == len(calls), "each application has its own seed"
    assert counts == set(range(width, width * depth + 1))


def test_augmix_lies_between_the_image_and_its_versions_in_every_share() -> None:
    """The image is black and its versions white: the level is Beta(1, 1)'s share, uniform over the range."""
    black = np.zeros((2, 2, 1), np.uint8)
    found = [int(augmix(lambda levels, _: np.full_like(levels, 255), black, seed)[0, 0, 0]) for seed in range(1000)]
    assert np.quantile(found, [0.1, 0.5, 0.9]) == pytest.approx([25.5, 127.5, 229.5], abs=15)


def test_augmix_weighs_its_versions_unequally() -> None:
    """Dirichlet(1, 1, 1): the largest of three weights is 11/18 in the mean; equal weights would be 1/3."""
    levels = np.zeros((1, 3, 1), np.uint8)
    largest: list[float] = []
    for seed in range(1500):
        column = iter(range(3))

        def one(levels: Levels, _: int, column: "object" = column) -> Levels:
            found = levels.copy()
            found[0, next(column)] = 255  # pyright: ignore[reportArgumentType, reportCallIssue]
            return found

        mixed = augmix(one, levels, seed).astype(float).ravel()
        if mixed.sum() > 60:
            largest.append(float(mixed.max() / mixed.sum()))
    assert np.mean(largest) == pytest.approx(11 / 18, abs=0.02)
