"""The digits world draws what a label says: geometry, colour and data splits, measured on the pictures."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

from stg_lab.digits import world
from stg_lab.digits.captions import COLOURS, MOTIONS, Label

FIELDS = [field.name for field in dataclasses.fields(world.Clips)]


def clips_of(motion, count=16, colour="white", seed=0, **changes):
    """Clips of one motion; digits and everything else as drawn, unless changed."""
    clips = world.draw(count, seed=seed, labels=[Label(i % 10, colour, motion) for i in range(count)])
    return dataclasses.replace(clips, **changes)


def ink(clips, **rest):
    """How much of each pixel is digit, `(batch, frame, height, width)`: what differs from the same clips without any."""
    dark = dataclasses.replace(clips, background=torch.zeros(len(clips), 2, 3))
    return world.render(dark, **rest).mean(-1).double()


def moments(mass):
    """Centroid (x right, y down) and root mean square radius, in pixels, each `(batch, frame)`."""
    axis = torch.arange(mass.shape[-1]) - (mass.shape[-1] - 1) / 2
    total = mass.sum((2, 3))
    x, y = (mass * axis).sum((2, 3)) / total, (mass * axis[:, None]).sum((2, 3)) / total
    square = (mass * (axis**2 + axis[:, None] ** 2)).sum((2, 3)) / total
    return x, y, (square - x**2 - y**2).sqrt()


# ---- motion ----


@pytest.mark.parametrize(("motion", "dx", "dy"), [("left", -1, 0), ("right", 1, 0), ("up", 0, -1), ("down", 0, 1)])
def test_what_moves_moves_the_way_it_says(motion, dx, dy):
    clips = clips_of(motion, start=torch.zeros(16, 2), size=torch.full((16,), 18.0))  # all of it stays in the picture
    x, y, _ = moments(ink(clips))
    way = 10 * clips.speed[:, None] * torch.linspace(0, 1, 9)  # pixels
    assert torch.allclose(x - x[:, :1], dx * way.double(), atol=0.15)
    assert torch.allclose(y - y[:, :1], dy * way.double(), atol=0.15)


def test_what_stands_still_does_not_change():
    mass = ink(clips_of("still"))
    assert torch.equal(mass, mass[:, :1].expand_as(mass))


def test_what_grows_grows_by_its_factor_and_stays_in_place():
    clips = clips_of("growing", start=torch.zeros(16, 2))
    x, y, radius = moments(ink(clips))
    along = (torch.linspace(0, 1, 9) - 0.5) * clips.speed[:, None]
    scale = (0.92 + 0.55 * along).double()
    assert (radius[:, -1] > 1.35 * radius[:, 0]).all()
    assert torch.allclose(radius / radius[:, 4:5], scale / scale[:, 4:5], rtol=0.02)
    # The scan's own centroid is off the centre, and that offset grows with it.
    assert torch.allclose(x / scale, x[:, :1] / scale[:, :1], atol=0.15)
    assert torch.allclose(y / scale, y[:, :1] / scale[:, :1], atol=0.15)


def test_what_turns_turns_about_its_own_middle():
    clips = clips_of("turning", start=torch.zeros(16, 2), slant=torch.zeros(16))
    mass = ink(clips)
    x, y, radius = moments(mass)
    distance = (x**2 + y**2).sqrt()  # of the ink's centroid from the pivot: small, and the same all along
    assert distance.max() < 3
    assert torch.allclose(distance, distance[:, :1].expand_as(distance), atol=0.15)
    assert torch.allclose(radius, radius[:, :1].expand_as(radius), rtol=0.02)
    for i in range(4):  # the last frame is the first one turned; scipy turns counter-clockwise for positive angles
        angle = 0.45 * 180 * clips.speed[i].item() * clips.sense[i].item()
        turned = rotate(mass[i, 0].numpy(), -angle, reshape=False, order=1)
        other = rotate(mass[i, 0].numpy(), angle, reshape=False, order=1)
        last = mass[i, -1].numpy()
        assert abs(turned - last).mean() < 0.2 * abs(other - last).mean()


def test_both_senses_of_turning_occur():
    assert set(clips_of("turning", 64).sense.tolist()) == {-1.0, 1.0}


def test_what_bounces_goes_up_and_down_on_parabolas():
    clips = clips_of("bouncing", speed=torch.ones(16))
    times = torch.linspace(0, 1, 41).expand(16, 41)
    x, y, _ = moments(ink(clips, times=times))
    assert torch.allclose(x, x[:, :1].expand_as(x), atol=0.15)
    height = (y - y.mean(1, keepdim=True)).double()
    assert ((y.max(1).values - y.min(1).values) > 7).all()  # 8 pixels
    assert ((y.max(1).values - y.min(1).values) < 8.5).all()
    assert torch.allclose(height[:, 32:], height[:, : 41 - 32], atol=0.3)  # a period is 0.8 of a clip at speed 1
    turns = (torch.diff(torch.sign(torch.diff(y, dim=1)), dim=1) != 0).sum(1)
    assert (turns >= 2).all()


@pytest.mark.parametrize("motion", MOTIONS)
def test_pictures_follow_the_pose(motion):
    """Another pose of the same clip is the same digit elsewhere: the ink moves as far as the pose says."""
    clips = clips_of(motion, 8)
    times = torch.tensor([[0.2, 0.7]]).expand(8, 2)
    pose = world.pose(clips, times)
    x, y, _ = moments(ink(clips, times=times))
    if motion not in ("turning", "growing"):
        assert torch.allclose((x - pose.x)[:, 0], (x - pose.x)[:, 1], atol=0.15)
        assert torch.allclose((y - pose.y)[:, 0], (y - pose.y)[:, 1], atol=0.15)
    assert (pose.scale != 1).any() == (motion == "growing")
    assert (pose.angle != 0).any() == (motion == "turning")


def test_every_digit_stays_in_the_picture():
    mass = ink(world.draw(256, seed=3))
    rim = torch.cat([mass[:, :, 0], mass[:, :, -1], mass[..., 0], mass[..., -1]], dim=-1)
    assert rim.sum() < 0.005 * mass.sum()


# ---- pictures ----


@pytest.mark.parametrize("colour", COLOURS)
def test_the_brightest_pixels_have_the_colour(colour):
    video = world.render(clips_of("still", 20, colour))[:, 0]
    palette = world.PALETTE[COLOURS.index(colour)]
    best = (video - palette).abs().amax(-1).flatten(1).amin(1)
    assert (best < 0.02).all()
    for other in COLOURS:
        if other != colour:
            nearest = (video - world.PALETTE[COLOURS.index(other)]).abs().amax(-1).flatten(1).amin(1)
            assert (nearest > 0.05).all()


def test_values_are_pictures():
    video = world.render(world.draw(32, seed=1))
    assert (video.dtype, video.shape) == (torch.float32, (32, 9, 32, 32, 3))
    assert video.min() >= 0
    assert video.max() <= 1


def test_edges_are_anti_aliased():
    """Between ink and none there are shades; and half a pixel of motion shows."""
    mass = ink(clips_of("still")) / 0.96
    shades = ((mass > 0.1) & (mass < 0.9)).sum() / (mass > 0.1).sum()
    assert shades > 0.2
    clips = clips_of("right", speed=torch.ones(16))
    a, b = ink(clips, times=torch.tensor([[0.5, 0.525]]).expand(16, 2)).unbind(1)  # a quarter of a pixel
    assert (a - b).abs().amax((1, 2)).min() > 0.02


def test_a_larger_picture_is_the_same_picture():
    clips = world.draw(4, seed=2)
    large = world.render(clips, size=64).unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
    assert (large - world.render(clips)).abs().mean() < 0.01


def test_the_digit_drawn_is_the_scan_that_was_picked():
    digits = load_digits()
    clips = world.draw(50, seed=0, split="test")
    rows = world.split_indices("test")[clips.scan.numpy()]
    assert np.array_equal(digits.target[rows], clips.digit.numpy())
    straight = dataclasses.replace(
        clips, motion=torch.full((50,), MOTIONS.index("still")), slant=torch.zeros(50), start=torch.zeros(50, 2),
        size=torch.full((50,), 16.0), colour=torch.full((50,), COLOURS.index("white")),
    )  # fmt: skip
    shrunk = ink(straight)[:, 0, 8:24, 8:24].unflatten(1, (8, 2)).unflatten(3, (8, 2)).mean((2, 4)).flatten(1).numpy()
    match = np.corrcoef(shrunk, digits.images[rows].reshape(50, -1))[:50, 50:]
    assert (np.diag(match) > 0.8).all()
    assert (rows[match.argmax(1)] == rows).mean() > 0.9


# ---- data ----


def test_splits_are_disjoint_complete_and_stratified():
    parts = {name: world.split_indices(name) for name in world.SPLITS}
    assert {name: len(part) for name, part in parts.items()} == {"train": 1197, "judge": 400, "test": 200}
    together = np.concatenate(list(parts.values()))
    assert len(set(together.tolist())) == len(together) == 1797
    target = load_digits().target
    whole = np.bincount(target) / 1797
    for part in parts.values():
        assert abs(np.bincount(target[part], minlength=10) - len(part) * whole).max() < 1  # as even as can be


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match=r"split 'trian' is unknown. Choose one of: train, judge, test"):
        world.draw(1, seed=0, split="trian")


def test_drawing_is_decided_by_the_seed():
    one, same, other = world.draw(8, seed=5), world.draw(8, seed=5), world.draw(8, seed=6)
    assert all(torch.equal(getattr(one, name), getattr(same, name)) for name in FIELDS[1:])
    assert not torch.equal(one.speed, other.speed)
    assert torch.equal(world.render(one), world.render(same))


def test_labels_that_are_given_change_nothing_else():
    free = world.draw(8, seed=5)
    given = world.draw(8, seed=5, labels=[Label(3, "blue", "growing")] * 8)
    assert given.labels == [Label(3, "blue", "growing")] * 8
    assert given.captions == ["a blue three growing"] * 8
    for name in set(FIELDS) - {"split", "scan", "digit", "colour", "motion"}:
        assert torch.equal(getattr(free, name), getattr(given, name)), name
    same = world.draw(8, seed=5, labels=free.labels)
    assert torch.equal(same.scan, free.scan)


def test_as_many_labels_as_clips_are_needed():
    with pytest.raises(ValueError, match=r"draw\(3\) needs 3 labels, got 1"):
        world.draw(3, seed=0, labels=[Label(3, "blue", "growing")])


def test_a_slice_of_clips_is_those_clips():
    clips = world.draw(6, seed=5)
    assert torch.equal(world.render(clips)[2:4], world.render(clips[2:4]))
    assert clips[2:4].labels == clips.labels[2:4]
    assert len(clips[2:4]) == 2


def test_all_labels_are_drawn():
    labels = world.draw(6000, seed=0).labels
    assert len(set(labels)) == 400
