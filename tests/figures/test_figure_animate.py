"""The moving version of a figure holds the clips of the figure, and loops."""

import numpy as np
import pytest
from PIL import Image

import stg_lab as lab
from stg_lab.figures.animate import moving
from stg_lab.figures.film import Film, Strip, draw, film_of
from stg_lab.metrics import read_video


def clips(count, *, frames=5, height=32, width=32, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2, (count, frames, 4, 4, 3)).astype(np.float32)
    return coarse.repeat(height // 4, 2).repeat(width // 4, 3)


def film(count=3, **sizes):
    return Film("a title", [Strip(f"({i}) row", (clip,)) for i, clip in enumerate(clips(count, **sizes))])


def gif_frames(path):
    with Image.open(path) as gif:
        shown, times = [], []
        for i in range(gif.n_frames):
            gif.seek(i)
            shown.append(np.asarray(gif.convert("RGB")))
            times.append(gif.info["duration"])
        return np.stack(shown), times, gif.info["loop"]


def places(canvas, clip, zoom):
    """Where in the canvas a clip's first frame stands, pixel for pixel."""
    wanted = (clip[0] * 255 + 0.5).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
    h, w, _ = wanted.shape
    page = canvas[0]
    views = np.lib.stride_tricks.sliding_window_view(page, (h, w, 3))[:, :, 0]
    corners = np.argwhere((views[:, :, 0, 0] == wanted[0, 0]).all(-1) & (views[:, :, -1, -1] == wanted[-1, -1]).all(-1))
    return [tuple(c) for c in corners if np.array_equal(page[c[0] : c[0] + h, c[1] : c[1] + w], wanted)]


@pytest.mark.parametrize("count", [3, 7])
def test_every_clip_moves_at_a_place_of_its_own(count):
    shown = film(count)
    canvas = moving(shown)
    found = []
    for row in shown.rows:
        [(y, x)] = places(canvas, row.clips[0], 4)
        found.append((y, x))
        for t, frame in enumerate(row.clips[0]):
            big = (frame * 255 + 0.5).astype(np.uint8).repeat(4, 0).repeat(4, 1)
            np.testing.assert_array_equal(canvas[t, y : y + 128, x : x + 128], big)
    assert found == sorted(found)  # in reading order
    assert len({y for y, _ in found}) == (1 if count == 3 else 2)
    assert len(moving(shown, columns=1)[0]) > len(canvas[0])


def test_figures_with_columns_of_clips_keep_them():
    a, b = clips(2)
    canvas = moving(Film("title", [Strip("one", (a, None)), Strip("two", (b, a))], ("left", "right")))
    (y, x), (below, right) = sorted(places(canvas, a, 4))
    assert places(canvas, b, 4) == [(below, x)]
    assert below > y
    assert right > x


def test_words_are_burnt_in():
    long = "a label of many words that must be broken into lines"
    one, other = (moving(Film(title, film().rows)) for title in ("a title", "another"))
    assert one.shape[3] == 3
    assert not np.array_equal(one, other)
    assert len(moving(Film("a title", [Strip(long, (clips(1)[0],))]))[0]) > len(moving(Film("a", film(1).rows))[0])


def test_a_large_video_is_made_smaller_and_keeps_its_shape():
    big = film(2, height=480, width=832)
    _, height, width, _ = moving(big).shape
    assert 2 * 320 < width < 2 * 320 + 60
    assert height < 320


def test_gif_and_mp4_hold_the_frames_and_loop(tmp_path):
    figure = draw(film())
    written = lab.figures.animate(figure, tmp_path / "new" / "v1.2", fps=10, hold=1.0, loops=2)
    assert written == [tmp_path / "new" / "v1.2.mp4", tmp_path / "new" / "v1.2.gif"]
    frames, times, loop = gif_frames(written[1])
    assert loop == 0  # for ever
    assert times == [100, 100, 100, 100, 1100]
    canvas = moving(film_of(figure))
    _, height, width, _ = canvas.shape
    assert np.abs(frames[:, :height, :width].astype(int) - canvas).mean() < 2  # 256 colours
    video = read_video(written[0])
    assert video.shape[1] == 2 * (5 + 10)
    assert np.abs(video[0, :5, :height, :width] - canvas / 255).mean() < 0.02
    assert np.abs(video[0, 15:20] - video[0, :5]).mean() < 0.01  # again from the start


def test_the_same_figure_gives_the_same_gif(tmp_path):
    [a] = lab.figures.animate(draw(film()), tmp_path / "a.gif")
    [b] = lab.figures.animate(draw(film()), tmp_path / "b.gif")
    assert a.read_bytes() == b.read_bytes()


def test_a_recording_stands_for_its_weak_model_figure(tmp_path):
    rec = lab.open("repair_both")
    [a] = lab.figures.animate(rec, tmp_path / "a.gif", step=4)
    [b] = lab.figures.animate(lab.figures.weak_model(rec, step=4, width="column"), tmp_path / "b.gif")
    assert a.read_bytes() == b.read_bytes()
    [c] = lab.figures.animate(rec, tmp_path / "c.gif", step=5)
    assert a.read_bytes() != c.read_bytes()


def test_what_cannot_move_is_refused(tmp_path):
    curves = lab.figures.quality_diversity([("CFG", 1, 0.5, 0.5)])
    with pytest.raises(lab.CallError, match="no clips that could move"):
        lab.figures.animate(curves, tmp_path / "x")
    with pytest.raises(lab.CallError, match="fps > 0"):
        lab.figures.animate(draw(film()), tmp_path / "x", fps=0)
    with pytest.raises(lab.CallError, match="step: only a run"):
        lab.figures.animate(draw(film()), tmp_path / "x", step=1)
    assert not list(tmp_path.iterdir())
