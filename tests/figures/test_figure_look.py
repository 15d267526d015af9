"""Fonts, sizes and words of figures can be set; and no width or size drops a row."""

import importlib

import numpy as np
import pytest
from kit.figures import pictures, words

import stg_lab as lab
from stg_lab import gaussians

LARGE = {"font": "DejaVu Serif", "size": 9}


@pytest.fixture(scope="module")
def calls():
    """Every figure of the lab by name, of what ships or of noise: a call that takes `width=`."""
    truth = gaussians.two_arms(3)
    noise = np.random.default_rng(0).random((3, 3, 16, 16, 3)).astype(np.float32)
    return {
        "weak_model": lambda **o: lab.figures.weak_model(
            lab.open("repair_both"), baseline=lab.open("repair_unguided"), step=5, frames=2, **o
        ),
        "weak_models": lambda **o: lab.figures.weak_models(lab.open("weak_models"), step=3, frames=2, **o),
        "scale_sweep": lambda **o: lab.figures.scale_sweep(
            lab.open("repair_both"), scales=[0, 1, 2, 4, 8], step=5, frames=2, **o
        ),
        "layer_ablation": lambda **o: lab.figures.layer_ablation(lab.open_ablation("layers"), **o),
        "spatial_temporal": lambda **o: lab.figures.spatial_temporal(lab.open("space_time"), step=3, frames=2, **o),
        "grid": lambda **o: lab.figures.grid({f"candidate {i}": noise for i in range(4)}, frames=2, **o),
        "compare_layers": lambda **o: lab.figures.compare_layers(
            lab.load("digits-joint"), seed=0, prompt="a red one turning", frames=2, **o
        ),
        "quality_diversity": lambda **o: lab.figures.quality_diversity(
            [(f"curve {i}", s, (0.1 * i + s / 30, 0.1 * i, 0.1 * i + 0.3), 1 + i) for i in range(5) for s in (1, 4)],
            **o,
        ),
        "gaussian_samples": lambda **_: lab.figures.gaussian_samples(
            truth, {f"set {i}": gaussians.noise(20, seed=i) for i in range(6)}
        ),
        "gaussian_vectors": lambda **_: lab.figures.gaussian_vectors(
            truth, {f"pair {i}": (truth, gaussians.two_arms(2)) for i in range(2)}
        ),
    }


@pytest.fixture(autouse=True)
def sampled(monkeypatch):
    """`compare_layers` draws noise in place of sampling."""
    noise = np.random.default_rng(0).random((3, 16, 16, 3)).astype(np.float32)
    monkeypatch.setattr(importlib.import_module("stg_lab.figures.compare_layers"), "_video", lambda *_: noise)


def shown(figure):
    """What a figure shows, whatever its width: rows of pictures, numbers of scores, curves and panels."""
    tops = {round(top, 4) for _, top, array in pictures(figure) if array.size > 3 * 64 * 2}
    scores = [t for t in words(figure) if t.lstrip("-−").replace(".", "").isdigit() and "." in t]
    curves = {line.get_label() for ax in figure.axes for line in ax.lines if not line.get_label().startswith("_")}
    return len(tops), len(scores), curves, {ax.get_title() for ax in figure.axes}


def test_every_figure_is_here(calls):
    assert calls.keys() == set(lab.figures.__all__) - {"animate", "save", "styled", "video_grid"}


def check(figure):
    """Letters are of one font, inside the page, and do not lie on each other."""
    figure.draw_without_rendering()
    boxes = [(t.get_text(), t.get_window_extent()) for t in figure.texts if t.get_text()]
    for i, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 - 1 <= box.x0, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0, text
        assert box.y1 <= figure.bbox.y1 + 1, text
        for more, other in boxes[i + 1 :]:
            across, along = min(box.x1, other.x1) - max(box.x0, other.x0), min(box.y1, other.y1) - max(box.y0, other.y0)
            assert across <= 1 or along <= 1, (text, more)


NAMES = [
    "weak_model", "weak_models", "scale_sweep", "layer_ablation", "spatial_temporal", "grid", "compare_layers",
    "quality_diversity", "gaussian_samples", "gaussian_vectors",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_width_and_no_size_drops_a_row(name, calls):
    on_page = calls[name](width="page")
    column = calls[name](width="column")
    with lab.figures.styled(**LARGE):
        large = calls[name](width="page")
    assert shown(on_page) == shown(column) == shown(large)
    assert shown(on_page) != (0, 0, set(), {""})
    check(large)
    kinds = {text.get_fontname() for text in large.texts} | {ax.xaxis.label.get_fontname() for ax in large.axes}
    assert kinds == {"DejaVu Serif"}
    if large.texts:
        assert max(t.get_fontsize() for t in large.texts) == pytest.approx(
            max(t.get_fontsize() for t in on_page.texts) * 9 / 7
        )


def test_ticks_that_are_made_when_a_figure_is_drawn_have_the_font_and_size(calls):
    with lab.figures.styled(**LARGE):
        figure = calls["quality_diversity"](width="page")
    figure.draw_without_rendering()
    ticks = [tick.label1 for ax in figure.axes for tick in ax.xaxis.get_major_ticks() + ax.yaxis.get_major_ticks()]
    assert {t.get_fontname() for t in ticks} == {"DejaVu Serif"}
    assert {round(t.get_fontsize(), 6) for t in ticks} == {round(6 * 9 / 7, 6)}


def test_words_are_others_in_figures_and_films(calls):
    labels = {"weak model": "schwaches Modell", "conditional": "bedingt", "unconditional": "unbedingt"}
    with lab.figures.styled(labels=labels):
        figure = calls["weak_model"](width="column")
    found = " | ".join(words(figure))
    assert "(a) bedingt" in found
    assert "(b) unbedingt" in found  # no phrase is found inside a word
    assert "schwaches Modell: " in found
    assert "conditional" not in found
    assert "conditional" in " | ".join(words(calls["weak_model"](width="column")))  # and it is over with the `with`
    with lab.figures.styled(labels={"quality": "Güte", "curve 1": "quality"}):
        figure = calls["quality_diversity"](width="page")
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "quality" in legend  # nothing is said otherwise twice
    assert figure.axes[0].get_ylabel() == "Güte"


def test_films_have_the_letters_too(tmp_path):
    from stg_lab.figures.animate import moving
    from stg_lab.figures.film import Film, Strip, draw, film_of

    clip = np.zeros((2, 64, 64, 3), np.float32)
    figure = draw(Film("title", [Strip("one label", (clip, clip))], ("a", "b")))
    plain = moving(film_of(figure))
    with lab.figures.styled(size=14):
        assert moving(film_of(figure)).shape[1] > plain.shape[1]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"font": "DejaVu San"}, "font='DejaVu San' is not here. Did you mean 'DejaVu Sans'"),
        ({"size": 40}, "size is a finite number from 5 to 16, got 40"),
        ({"labels": {"conditonal": "x"}}, "labels= has 'conditonal', which no figure inside the `with` says"),
        ({"labels": {"a": 5}}, "labels"),
    ],
)
def test_what_cannot_be_is_refused(given, says):
    with pytest.raises(lab.CallError) as caught, lab.figures.styled(**given):
        pass
    assert says in str(caught.value)
