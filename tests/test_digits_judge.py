"""The judge that reads samples, and training that goes on from a saved model."""

import pytest
import torch

from stg_lab import loading
from stg_lab.digits import world
from stg_lab.digits.judge import Score, judge_video
from stg_lab.digits.recipe import Recipe, Stage
from stg_lab.digits.train import Trainer


def test_intervals_are_wilsons():
    low, high = Score(5, 10, 1.0).interval()
    assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert Score(10, 10, 1.0).interval()[1] == pytest.approx(1.0)


@pytest.mark.slow
def test_the_judge_reads_real_clips_of_scans_that_it_never_saw_and_is_not_flattered_by_wrong_labels():
    clips = world.draw(120, seed=77, split="test")
    video = world.render(clips).numpy()
    scores = judge_video(video, clips.labels)
    assert scores["digit"].right >= 112
    assert scores["colour"].right == 120
    assert scores["motion"].right >= 118
    wrong = judge_video(video, clips.labels[1:] + clips.labels[:1])
    assert wrong["all three"].right < 12


def test_training_can_begin_with_a_shipped_model(digits, tmp_path):
    trainer = Trainer(Recipe(stages=(Stage(1, 2, 1),)), tmp_path, "cpu", compile=False)
    trainer.start_from(loading.models_folder() / "digits-joint")
    for name, value in digits.pipe.transformer.state_dict().items():
        assert torch.equal(trainer.average[f"transformer.{name}"], value)
    before = trainer.average["transformer.proj_out.weight"].clone()
    assert trainer.step() < 0.5  # random weights start near 2
    assert not torch.equal(trainer.average["transformer.proj_out.weight"], before)
