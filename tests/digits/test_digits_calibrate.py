"""The judge's probabilities: temperatures against a closed form, and calibrated on clips of scans that they were not fitted on."""

import json

import numpy as np
import pytest
import torch

from stg_lab import metrics
from stg_lab.digits import calibrate, judge, world
from stg_lab.errors import MetricError

RNG = np.random.default_rng(0)


def test_a_temperature_undoes_a_factor():
    """Answers drawn from softmax(z) and told with logits t z want the temperature t."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(20_000, 5, generator=g)
    truth = torch.multinomial(z.softmax(-1), 1, generator=g)[:, 0]
    for factor in (0.5, 1.0, 3.0):
        assert calibrate.temperature(z * factor, truth) == pytest.approx(factor, rel=0.05)


def test_the_error_is_the_mean_gap():
    p = RNG.uniform(0.5, 1, 50_000)
    honest, vain = RNG.random(p.size) < p, RNG.random(p.size) < p - 0.2
    assert calibrate.calibration_error(calibrate.reliability(p, honest)) == pytest.approx(0, abs=0.01)
    assert calibrate.calibration_error(calibrate.reliability(p, vain)) == pytest.approx(0.2, abs=0.01)


def test_probabilities_are_of_what_was_asked():
    clips = world.draw(12, seed=8, split="test")
    video = world.render(clips).numpy()
    p, right = metrics.caption_probability(video, clips.captions), metrics.caption_accuracy(video, clips.captions)
    assert all(((value >= 0) & (value <= 1)).all() for value in p.values())
    assert np.allclose(p["all three"], p["digit"] * p["colour"] * p["motion"])
    assert right["all three"].all()
    assert p["all three"].mean() > 0.9
    wrong = [c.replace("red", "blue") if "red" in c else "a red" + c[c.index(" ", 2) :] for c in clips.captions]
    assert metrics.caption_probability(video, wrong)["colour"].max() < 0.1
    with pytest.raises(MetricError, match="as many captions"):
        metrics.caption_probability(video, clips.captions[1:])


def test_calibrated_on_scans_that_were_not_fitted_on():
    """Anew, on other clips than those of the card: the gap is small, and smaller than without temperatures."""
    video, clips = calibrate.spoilt_clips(600, seed=77, part=1)
    assert set((clips.scan % 2).tolist()) == {1}
    logits, of = judge.logits_of(video)["digit"], judge.judge_facts()["calibration"]["temperature"]["digit"]
    gaps = {}
    for t in (1.0, of):
        best = (logits / t).softmax(-1).max(-1)
        rows = calibrate.reliability(best.values.numpy(), (best.indices == clips.digit).numpy())
        gaps[t] = calibrate.calibration_error(rows)
    assert gaps[of] < 0.03 < gaps[1.0]


def test_the_card_says_what_was_measured():
    found = json.loads((judge.judge_folder() / judge.CONFIG).read_text())["calibration"]
    card = (judge.judge_folder() / "README.md").read_text()
    for name, one in found["after"].items():
        assert f"| {name} | {found['before'][name]['error']:.1%} | {one['error']:.1%} |" in card
        assert one["error"] < 0.02
