"""What all figures share: exact widths, letters that can be read, embedded fonts, and the same bytes every time."""

import re
import subprocess
import sys

import numpy as np
import pytest
from kit.figures import films, pictures
from PIL import Image

import stg_lab as lab
from stg_lab.figures import style
from stg_lab.figures.film import Film, Strip, draw

CALLS = {
    "weak_model": lambda **o: lab.figures.weak_model(
        lab.open("repair_both"), baseline=lab.open("repair_unguided"), step=5, **o
    ),
    "weak_models": lambda **o: lab.figures.weak_models(lab.open("weak_models"), step=3, **o),
    "scale_sweep": lambda **o: lab.figures.scale_sweep(lab.open("repair_both"), scales=[0, 1, 4], step=5, **o),
    "layer_ablation": lambda **o: lab.figures.layer_ablation(lab.open_ablation("layers"), **o),
    "spatial_temporal": lambda **o: lab.figures.spatial_temporal(lab.open("space_time"), step=3, **o),
    "quality_diversity": lambda **o: lab.figures.quality_diversity(
        [("CFG", 1, (0.4, 0.3, 0.5), 1.9), ("CFG", 4, 0.7, 1.3)], **o
    ),
}


@pytest.fixture(scope="module", params=[(name, width) for name in CALLS for width in ("page", "column")], ids=str)
def drawn(request):
    name, width = request.param
    return CALLS[name](width=width), style.WIDTHS[width]


def texts(figure):
    figure.draw_without_rendering()
    found = [*figure.texts]
    for ax in figure.axes:
        if ax.axison:
            found += [*ax.texts, ax.xaxis.label, ax.yaxis.label]
            for axis, view in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):  # ticks outside are not drawn
                found += [t.label1 for t in axis.get_major_ticks() if min(view) <= t.get_loc() <= max(view)]
            found += ax.get_legend().get_texts() if ax.get_legend() else []
    return [t for t in found if t.get_text() and t.get_visible()]


def test_files_have_the_width_on_paper_and_fonts_embedded_as_truetype(drawn, tmp_path):
    figure, inches = drawn
    pdf, png = lab.figures.save(figure, tmp_path / "figure", dpi=100)
    data = pdf.read_bytes()
    assert b"/FontFile2" in data
    assert b"/Type3" not in data
    assert b"/CreationDate" not in data
    [box] = set(re.findall(rb"/MediaBox \[([^\]]*)\]", data))
    left, _, right, _ = map(float, box.split())
    assert right - left == pytest.approx(72 * inches, abs=1e-3)
    with Image.open(png) as picture:
        assert picture.width == round(100 * inches)


def test_letters_are_large_enough_and_inside(drawn):
    figure, _ = drawn
    found = texts(figure)
    assert min(t.get_fontsize() for t in found) >= 6
    assert {t.get_fontname() for t in found} == {"DejaVu Sans"}
    page = figure.bbox
    for text in found:
        box = text.get_window_extent()
        assert box.x0 >= page.x0 - 1, text.get_text()
        assert box.x1 <= page.x1 + 1, text.get_text()
        assert box.y0 >= page.y0 - 1, text.get_text()
        assert box.y1 <= page.y1 + 1, text.get_text()


def test_words_do_not_lie_on_pictures_or_each_other(drawn):
    figure, _ = drawn
    figure.draw_without_rendering()
    boxes = [(t.get_text(), t.get_window_extent()) for t in figure.texts if t.get_text()]
    frames = [ax.get_window_extent() for ax in figure.axes if shows_clip(ax)]
    for i, (words, box) in enumerate(boxes):
        for other in frames:
            assert not covers(box, other), words
        for more, other in boxes[i + 1 :]:
            assert not covers(box, other), (words, more)


def shows_clip(ax):
    """Whether axes hold a frame of a video; cells of one colour may have words on them."""
    return any(np.ptp(image.get_array()) > 0 and image.get_array().size > 64 for image in ax.images)


def covers(a, b):
    """Whether two boxes share more than a pixel."""
    across, along = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return across > 1 and along > 1


def test_figures_made_twice_are_the_same_bytes(tmp_path):
    for name in ("weak_models", "scale_sweep", "quality_diversity"):  # one of each kind
        call = CALLS[name]
        a, b = (
            lab.figures.save(call(width="column"), tmp_path / f"{name}-{i}", formats=("pdf", "png", "svg"), dpi=72)
            for i in "ab"
        )
        assert [p.suffix for p in a] == [".pdf", ".png", ".svg"]
        for one, other in zip(a, b, strict=True):
            assert one.read_bytes() == other.read_bytes(), one.name


def test_another_process_makes_the_same_bytes(tmp_path):
    code = (
        "import stg_lab as lab, sys\n"
        "figure = lab.figures.quality_diversity([('CFG', 1, (0.4, 0.3, 0.5), 1.9), ('CFG', 4, 0.7, 1.3)])\n"
        "lab.figures.save(figure, sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, env={"PYTHONHASHSEED": "7"})
    for here in lab.figures.save(CALLS["quality_diversity"](), tmp_path / "here"):
        assert here.read_bytes() == here.with_stem("there").read_bytes()


def test_weak_models_shows_each_branch_and_its_vector():
    rec = lab.open("weak_models")
    rows = films(lab.figures.weak_models(rec, step=3, frames=1), 1).reshape(-1, 32, 32, 3)
    shown = {b: rec.video(b, step=3)[0][4] for b in ("cond", "uncond", *rec.weak)}
    np.testing.assert_array_equal(rows[0], np.clip(shown.pop("cond"), 0, 1))
    for (name, picture), row, vector in zip(shown.items(), rows[1::2], rows[2::2], strict=True):
        np.testing.assert_array_equal(row, np.clip(picture, 0, 1), err_msg=name)
        apart = rec.video("cond", step=3)[0][4] - picture
        inside = (vector > 0.02) & (vector < 0.98)
        gain = (vector - 0.5)[inside] @ apart[inside] / (apart[inside] @ apart[inside])
        np.testing.assert_allclose((vector - 0.5)[inside], gain * apart[inside], atol=0.02, err_msg=name)


def test_a_figure_shows_itself_at_its_width():
    png = CALLS["quality_diversity"](width="column")._repr_png_()
    assert int.from_bytes(png[16:20], "big") == round(3.3 * 130)


def test_a_width_is_a_word_or_inches(tmp_path):
    assert style.inches(5.5) == 5.5
    for wrong in ("colum", 1, 30, True, None):
        with pytest.raises(lab.CallError, match=r"choose 'page' \(6.9 in\), 'column' \(3.3 in\)"):
            style.inches(wrong)
    for name in ("weak_model", "quality_diversity"):
        call = CALLS[name]
        with pytest.raises(lab.CallError, match="Did you mean 'column'"):
            call(width="colum")
        assert call(width=5.5).get_size_inches()[0] == 5.5, name


def test_other_formats_and_dots_in_names(tmp_path):
    figure = CALLS["quality_diversity"]()
    with pytest.raises(lab.CallError, match="pdf, png, svg"):
        lab.figures.save(figure, tmp_path / "x", formats=["tiff"])
    [svg] = lab.figures.save(figure, tmp_path / "a" / "cfg-1.5", formats=["svg"])
    assert svg.name == "cfg-1.5.svg"


def test_wide_videos_keep_their_shape_and_dollars_are_no_formula():
    clip = np.random.default_rng(0).random((4, 48, 84, 3)).astype(np.float32)
    figure = draw(Film("$x$ costs 5$", [Strip("a _label_ of $x$", (clip,))] * 2), "page", frames=3)
    (_, _, first), *_ = pictures(figure)
    assert len(pictures(figure)) == 6
    np.testing.assert_array_equal(first, clip[0])
    width, height = figure.get_size_inches()
    box = figure.axes[0].get_position()
    assert box.width * width / (box.height * height) == pytest.approx(84 / 48)
    figure.draw_without_rendering()
    assert figure.texts[0].get_text() == "$x$ costs 5$"


def test_words_break_between_words_only():
    assert style.fitted("one two three", 10.0) == "one two three"
    assert style.fitted("one two\nthree", 10.0) == "one two\nthree"
    broken = style.fitted("one two three four five six", 0.5, 7)
    assert broken.replace("\n", " ") == "one two three four five six"
    assert max(style.text_width(line, 7) for line in broken.split("\n")) <= 0.5
    assert style.fitted("indivisible", 0.1) == "indivisible"


def test_frames_are_spread_from_first_to_last():
    assert style.spread(9, 9) == list(range(9))
    assert style.spread(9, 5) == [0, 2, 4, 6, 8]
    assert style.spread(4, 10) == [0, 1, 2, 3]
    assert style.spread(9, 1) == [4]
