"""Quality against diversity: points stand where the numbers say, wherever the numbers come from."""

import json

import numpy as np
import pytest
from kit.figures import words

import stg_lab as lab
from stg_lab import metrics
from stg_lab.digits import world
from stg_lab.evidence import scales  # noqa: F401 (registers claim 1)
from stg_lab.evidence.claim import CLAIMS, Finding, Line, Panel
from stg_lab.evidence.findings import keep, read
from stg_lab.evidence.statistics import Estimate

ROWS = [("CFG", 4, 0.7, 1.3), ("CFG", 1, 0.4, 1.9), ("CFG", 2, 0.6, 1.6), ("STG", 0, 0.4, 1.9), ("STG", 2, 0.65, 1.8)]


def curves(axes):
    """What the lines of axes show by label: `(x, y)` pairs."""
    return {
        line.get_label(): list(zip(*(np.round(d, 9).tolist() for d in line.get_data()), strict=True))
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_curves_run_over_the_scales_in_order():
    plane, quality, diversity = lab.figures.quality_diversity(ROWS).axes
    assert [plane.get_ylabel(), plane.get_xlabel()] == ["quality", "diversity"]
    assert curves(plane) == {
        "CFG": [(1.9, 0.4), (1.6, 0.6), (1.3, 0.7)],
        "STG": [(1.9, 0.4), (1.8, 0.65)],
    }
    assert [t.get_text() for t in plane.texts] == ["1", "2", "4", "0", "2"]
    assert quality.lines[0].get_xydata().tolist() == [[1, 0.4], [2, 0.6], [4, 0.7]]
    assert diversity.lines[1].get_xydata().tolist() == [[0, 1.9], [2, 1.8]]


def test_a_column_holds_the_plane_alone():
    figure = lab.figures.quality_diversity(ROWS, width="column", real=(0.9, 2.0))
    [plane] = figure.axes
    assert curves(plane)["real videos"] == [(2.0, 0.9)]


def test_intervals_are_drawn_in_every_spelling():
    spelled = [
        ("a", 1, (0.5, 0.4, 0.7), (2.0, 1.5, 2.2)),
        {"label": "a", "scale": 1, "quality": Estimate(0.5, 0.4, 0.7), "diversity": {"value": 2.0, "low": 1.5, "high": 2.2}},
        ("a", 1, 0.5, 2.0, ((0.4, 0.7), (1.5, 2.2))),
    ]  # fmt: skip
    for row in spelled:
        [plane] = lab.figures.quality_diversity([row], width="column").axes
        across, along = (np.array(bars.get_segments()) for bars in plane.collections)
        np.testing.assert_allclose(across, [[[1.5, 0.5], [2.2, 0.5]]])
        np.testing.assert_allclose(along, [[[2.0, 0.4], [2.0, 0.7]]])


def test_a_finding_of_make_evidence_becomes_its_curves(tmp_path):
    def row(name, right, diversity):
        values = {"right": right, "diversity": diversity, "Frechet distance": 3 * right}
        return {"setting": name} | {k: Estimate(v, v - 0.1, v + 0.1) for k, v in values.items()}

    rows = [row("CFG 1", 0.4, 1.9), row("CFG 2", 0.5, 1.7), row("CFG 2 + STG", 0.6, 1.6), row("STG 0.5", 0.45, 1.8)]
    rows += [row("CFG 2, 36 steps", 0.55, 1.65)]
    line = [Line("", [1.0], [Estimate(0, 0, 0)])]
    panels = [Panel("share right", "x", "y", line, 0.97), Panel("diversity within captions", "x", "y", line, 2.1)]
    path = keep(tmp_path, CLAIMS[1], "digits-joint", Finding("holds here", "", rows, panels), {})
    wanted = {
        "CFG": [(1.9, 0.4), (1.7, 0.5)],
        "CFG + STG": [(1.6, 0.6)],
        "STG": [(1.8, 0.45)],
        "CFG, 36 steps": [(1.65, 0.55)],
        "real videos": [(2.1, 0.97)],
    }
    for given in (path, str(path), json.loads(path.read_text()), read(path)[0], [path, path]):
        assert curves(lab.figures.quality_diversity(given, width="column").axes[0]) == wanted
    frechet = lab.figures.quality_diversity(path, quality="Frechet distance", width="column").axes[0]
    assert curves(frechet)["CFG"] == [(1.9, 1.2), (1.7, 1.5)]
    assert frechet.get_ylabel() == "Frechet distance (lower is better)"
    with pytest.raises(lab.CallError, match=r"no column 'rigt'. Did you mean 'right'"):
        lab.figures.quality_diversity(path, quality="rigt")


def test_videos_are_measured_by_the_metrics():
    captions = ["a red seven moving left"] * 2 + ["a blue two growing"] * 2
    labels = [lab.digits.captions.parse(c) for c in captions]
    real = world.render(world.draw(4, seed=0, labels=labels)).numpy()
    noisy = np.clip(real + np.random.default_rng(0).normal(0, 0.3, real.shape), 0, 1).astype(np.float32)
    figure = lab.figures.quality_diversity({("CFG", 1): noisy, ("CFG", 2): real}, captions=captions, width="column")
    [points] = curves(figure.axes[0]).values()
    for (x, y), video in zip(points, (noisy, real), strict=True):
        assert y == pytest.approx(metrics.caption_accuracy(video, captions)["all three"].mean())
        assert x == pytest.approx(metrics.feature_diversity(metrics.judge_features(video), captions).mean(), rel=1e-6)
    other = {"quality": "saturation", "diversity": "pixel_diversity", "captions": captions, "width": "column"}
    [[(x, y)]] = curves(lab.figures.quality_diversity({("CFG", 1): real}, **other).axes[0]).values()
    assert y == pytest.approx(metrics.saturation(real).mean(), rel=1e-6)
    assert x == pytest.approx(metrics.pixel_diversity(real, captions).mean(), rel=1e-6)


def test_an_interval_is_not_empty_where_all_are_right():
    many = ["a red seven moving left"] * 6 + ["a blue two growing"] * 6
    real = world.render(world.draw(12, seed=0, labels=[lab.digits.captions.parse(c) for c in many])).numpy()
    right = np.flatnonzero(metrics.caption_accuracy(real, many)["all three"])
    chosen = [*right[right < 6][:2], *right[right >= 6][:2]]
    real, captions = real[chosen], [many[i] for i in chosen]
    [plane] = lab.figures.quality_diversity({("CFG", 1): real}, captions=captions, width="column").axes
    [[(_, low), (_, high)]] = plane.collections[1].get_segments()
    z = 1.959964
    assert low == pytest.approx(2 / (2 + z**2), rel=1e-4)  # Wilson's bound for two captions of two
    assert high == 1
    assert plane.get_ylabel() == "share of videos right"


def test_runs_bring_their_captions_and_scales(tiny):
    class Fake(lab.Run):
        def __init__(self, guidance, video):
            self.guidance, self.captions = guidance, ["same"] * len(video)
            self.__dict__["video"] = video

    video = np.random.default_rng(0).random((3, 4, 16, 16, 3)).astype(np.float32)
    weak = lab.skip([1])
    runs = [
        Fake(g, video)
        for g in (lab.CFG(4) + lab.STG(0, weak), lab.CFG(2) + lab.STG(1, weak), lab.STG(2, weak) + lab.CFG(1))
    ]
    figure = lab.figures.quality_diversity(runs, quality=metrics.contrast, diversity="pixel_diversity", width="column")
    found = curves(figure.axes[0])
    assert list(found) == ["CFG", "CFG + STG 1", "STG"]
    assert [t.get_text() for t in figure.axes[0].texts] == ["4", "2", "2"]
    assert found["CFG"][0][1] == pytest.approx(metrics.contrast(video).mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing to draw"),
        ([("CFG", 1, 0.5)], "is no row"),
        ([("CFG", 1, "high", 0.5)], "is no estimate"),
        ("nowhere.json", "is no file"),
        ({("CFG", 1): np.zeros((2, 4, 16, 16, 3))}, "need captions"),
    ],
)
def test_what_is_not_points_is_refused(given, message):
    with pytest.raises(lab.CallError, match=message):
        lab.figures.quality_diversity(given)


def test_another_file_and_another_metric_are_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(lab.CallError, match="is not a finding"):
        lab.figures.quality_diversity(tmp_path / "x.json")
    video = np.random.default_rng(0).random((2, 4, 16, 16, 3))
    with pytest.raises(lab.CallError, match="Did you mean 'saturation'"):
        lab.figures.quality_diversity({("CFG", 1): video}, captions=["a", "a"], quality="saturatin")


def test_labels_are_large_enough_to_read():
    for width in ("page", "column"):
        figure = lab.figures.quality_diversity(ROWS, width=width, real=(0.9, 2.0))
        texts = [t for ax in figure.axes for t in (*ax.texts, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels())]
        assert min(t.get_fontsize() for t in texts) >= 6
    assert words(figure) == []
