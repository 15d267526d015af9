"""The judge that reads samples, and training that goes on from a saved model."""

import re

import numpy as np
import pytest
import torch

from stg_lab import loading
from stg_lab.digits import judge, train_judge, world
from stg_lab.digits.judge import Score, judge_video
from stg_lab.digits.recipe import Recipe, Stage
from stg_lab.digits.train import Trainer
from stg_lab.digits.train_judge import spoil


def test_intervals_are_wilsons():
    low, high = Score(5, 10, 1.0).interval()
    assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert Score(10, 10, 1.0).interval()[1] == pytest.approx(1.0)


@pytest.fixture(scope="module")
def unseen():
    """Clips of scans that neither the judge nor a model saw."""
    clips = world.draw(240, seed=77, split="test")
    return clips, world.render(clips).numpy()


def test_the_judge_reads_real_clips_of_scans_that_it_never_saw_and_is_not_flattered_by_wrong_labels(unseen):
    clips, video = unseen
    scores = judge_video(video, clips.labels)
    assert scores["digit"].right >= 0.95 * 240
    assert scores["colour"].right == 240
    assert scores["motion"].right >= 238
    wrong = judge_video(video, clips.labels[1:] + clips.labels[:1])
    assert wrong["all three"].right < 12


def test_the_judge_ships_with_the_accuracy_it_claims(unseen):
    facts = judge.judge_facts()["accuracy"]
    assert all(facts[name]["share"] >= 0.98 for name in judge.ANSWERS)
    assert facts["digit"]["clips"] >= 2000
    clips, video = unseen
    digit = (judge.read(video)["digit"] == clips.digit.numpy()).mean()
    assert digit == pytest.approx(facts["digit"]["share"], abs=0.03)
    assert (judge.judge_folder() / judge.WEIGHTS).stat().st_size < 2e6


@pytest.mark.parametrize("frames", [5, 8, 16, 17])
def test_the_judge_reads_clips_of_any_length(frames):
    clips = world.draw(80, seed=3, split="test")
    right = judge.right(world.render(clips, frames=frames).numpy(), clips.labels)
    assert right["colour"].all()
    assert right["motion"].mean() >= 0.97
    assert right["digit"].mean() >= 0.92


def test_the_judge_reads_large_clips_and_spoilt_ones(unseen):
    clips, video = unseen
    large = judge.right(world.render(clips[:60], size=64).numpy(), clips.labels[:60])
    assert large["all three"].mean() >= 0.92
    spoilt = spoil(torch.from_numpy(video), torch.Generator().manual_seed(0)).numpy()
    right = judge.right(spoilt, clips.labels)
    assert right["digit"].mean() >= 0.9
    assert right["motion"].mean() >= 0.95


def test_features_answer_what_the_judge_answers(unseen):
    _, video = unseen
    net = judge.load_judge()
    h = torch.from_numpy(judge.embed(video[:20])).float().relu()
    assert h.shape == (20, judge.FEATURES)
    for name, seen in judge.read(video[:20]).items():
        assert net.heads[name](h).argmax(1).tolist() == seen.tolist()


def test_textures_are_the_moments_of_the_first_layers():
    video = torch.rand(3, 9, 32, 32, 3)
    net = judge.load_judge()
    one = net.body[:3](video.permute(0, 4, 1, 2, 3) * 2 - 1)
    two = net.body[3:6](one)
    expected = torch.cat([m(x.flatten(2), 2) for x in (one, two) for m in (torch.mean, torch.std)], 1)
    np.testing.assert_allclose(judge.textures(video.numpy()), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("video", "says"),
    [
        (np.zeros((1, 4, 32, 32, 3)), "needs 5 frames or more"),
        (np.zeros((9, 32, 32, 3)), "got (9, 32, 32, 3)"),
        (np.full((1, 9, 32, 32, 3), 200), "divide bytes by 255"),
    ],
)
def test_what_the_judge_cannot_read_is_refused(video, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        judge.read(video)


def test_a_few_updates_of_training_write_a_whole_judge(tmp_path, monkeypatch):
    monkeypatch.setattr(train_judge, "CHECKED", 20)
    monkeypatch.setattr(train_judge, "BATCH", 8)
    train_judge.main(["--out", str(tmp_path), "--updates", "2"])
    monkeypatch.setenv("STG_LAB_JUDGE", str(tmp_path))
    net = judge.load_judge.__wrapped__()
    facts = judge.judge_facts.__wrapped__()
    assert facts["updates"] == 2
    assert facts["accuracy"]["digit"]["clips"] == 20
    assert net(torch.zeros(1, 9, 32, 32, 3))["motion"].shape == (1, 8)
    assert "20 clean clips" in (tmp_path / "README.md").read_text()


def test_intervals_over_scans_are_wider_than_over_clips_when_scans_fail_as_a_whole():
    scan = torch.arange(50).repeat_interleave(40)
    ok = (scan >= 5).double()  # five scans of fifty are always misread
    got = train_judge._summary(ok, scan)
    assert got["share"] == 0.9
    low, high = got["interval_over_scans"]
    half = 1.96 * (0.9 * 0.1 / 50) ** 0.5
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.02)
    assert got["interval"][1] - got["interval"][0] < (high - low) / 4


def test_training_can_begin_with_a_shipped_model(digits, tmp_path):
    trainer = Trainer(Recipe(stages=(Stage(1, 2, 1),)), tmp_path, "cpu", compile=False)
    trainer.start_from(loading.models_folder() / "digits-joint")
    for name, value in digits.pipe.transformer.state_dict().items():
        assert torch.equal(trainer.average[f"transformer.{name}"], value)
    before = trainer.average["transformer.proj_out.weight"].clone()
    assert trainer.step() < 0.5  # random weights start near 2
    assert not torch.equal(trainer.average["transformer.proj_out.weight"], before)
