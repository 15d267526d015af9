"""The grid: what stands where is what was given, whatever it is shown in."""

import numpy as np
import pytest
from PIL import Image

import stg_lab as lab
from stg_lab.figures.film import film_of
from stg_lab.metrics import read_video
from stg_lab.videogrid import Setting, State, VideoGrid

SHADES = {"skip:block:1": 60, "skip:block:2": 90, "no guidance": 30}


def shaded(name, scale, state, frames=4):
    """A video whose grey says what made it, and whose first pixel says when."""
    grey = np.full((frames, 8, 12, 3), SHADES[name] + 8 * (scale or 0) + state, np.uint8)
    grey[:, 0, 0] = np.arange(frames)[:, None]
    return grey


@pytest.fixture
def grid():
    """Two candidates at two scales and a baseline that is given last, at three states; one video is missing."""
    settings = [Setting(name, scale, f"STG({scale}, {name})") for name in list(SHADES)[:2] for scale in (1.0, 2.0)]
    settings.append(Setting("no guidance", None, "", True))
    states = tuple(State("a red seven turning", seed) for seed in (3, 4, 5))
    video = np.stack([np.stack([shaded(s.name, s.scale, k) for k in range(3)]) for s in settings])
    there = np.ones((5, 3), bool)
    there[0, 2] = False
    right = np.array([[0, 1, np.nan], [1, 1, 1], [0, 0, 0], [0, 1, 1], [0, 0, 1]], float)
    return VideoGrid(tuple(settings), states, video, there, {"right": right}, {"right": 1})


def test_baselines_stand_first_and_rows_keep_their_videos(grid):
    assert [one.label for one in grid.settings][:2] == ["no guidance", "skip:block:1 at 1"]
    for i, one in enumerate(grid.settings):
        for k in range(3):
            np.testing.assert_array_equal(grid.video[i, k], shaded(one.name, one.scale, k))
    ranked = grid.ranked("right")
    assert [one.label for one in ranked.settings] == [
        "no guidance", "skip:block:1 at 2", "skip:block:2 at 2", "skip:block:1 at 1", "skip:block:2 at 1",
    ]  # fmt: skip
    np.testing.assert_array_equal(ranked.video[1, 0], shaded("skip:block:1", 2.0, 0))
    np.testing.assert_allclose(ranked.means("right"), [1 / 3, 1, 2 / 3, 0.5, 0])


@pytest.mark.parametrize("width", ["page", "column", 2.0])
def test_the_figure_leaves_no_row_and_no_video_out(grid, width):
    film = film_of(lab.figures.grid(grid, width=width))
    assert [row.label for row in film.rows] == [one.label for one in grid.settings]
    assert sum(clip is not None for row in film.rows for clip in row.clips) == 14
    said = " ".join([film.title, *film.heads])
    assert all(one.label in said for one in grid.states)
    by_scale = film_of(lab.figures.grid(grid, by="scale", state=1, width=width))
    assert by_scale.heads == ("scale 1", "scale 2")
    found = {
        row.label: [None if clip is None else int(clip[0, 4, 4, 0] * 255 + 0.5) for clip in row.clips]
        for row in by_scale.rows
    }
    assert found == {"no guidance": [31, None], "skip:block:1": [69, 77], "skip:block:2": [99, 107]}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"by": "layer"}, "'seed', 'scale'"),
        ({"sort": "beauty"}, "It has: 'right'"),
        ({"state": 3}, "0 to 2"),
        ({"group": "none"}, "group='none'"),
    ],
)
def test_what_is_not_there_is_refused(grid, options, says):
    with pytest.raises(lab.CallError, match=says):
        lab.figures.grid(grid, **options)


def test_sources_may_be_recordings_and_arrays():
    found = lab.figures.video_grid({"STG": "repair", "baseline": "repair_unguided"})
    assert [one.label for one in found.settings] == ["baseline", "STG"]
    assert found.states == (State("a red nine standing still", 97),)
    arrays = {("skip:block:1", 2): np.zeros((2, 3, 8, 8, 3), np.float32), "CFG": np.ones((1, 3, 8, 8, 3), np.float32)}
    found = lab.figures.video_grid(arrays, baselines=["CFG"])
    np.testing.assert_array_equal(found.there, [[True, False], [True, True]])
    assert found.video[0, 0].min() == 255
    for wrong, says in (([1], "dict of settings"), ({1: "repair", "b": "repair"}, "a setting is a name")):
        with pytest.raises(lab.CallError, match=says):
            lab.figures.video_grid(wrong)
    with pytest.raises(lab.CallError, match="'X' is not among the settings"):
        lab.figures.video_grid(arrays, baselines=["X"])


def test_the_explorer_carries_the_videos_and_saves_what_is_shown(grid, tmp_path):
    explorer = lab.widgets.grid_explorer(grid)
    with Image.open(__import__("io").BytesIO(explorer.sheets["2/0"])) as sheet:  # states go down, frames go right
        pixels = np.asarray(sheet).reshape(3, 8, 4, 12, 3)
    np.testing.assert_array_equal(pixels[1, :, 2], shaded("skip:block:1", 2.0, 1)[2])
    explorer.sort = True
    assert [one.label for one in explorer.shown.settings][1] == "skip:block:1 at 2"
    explorer.by, explorer.at = "scale", 2
    film = read_video(explorer.save(tmp_path / "grid.mp4"))[0]
    assert len(film) == 4 * 4 + 4 * 4  # four times over, each with half a second of the last frame
    for kind in ("html", "pdf", "png", "gif"):
        assert explorer.save(tmp_path / f"grid.{kind}").stat().st_size > 1000
    explorer.chosen = ["1/0", "2/0"]
    assert explorer.chosen == ["1/0", "2/0"]
    for wrong in (["9/0"], ["1/2"], ["a"]):
        with pytest.raises(lab.CallError, match="is no video"):
            explorer.chosen = wrong


def test_layers_are_compared_with_and_without_cfg():
    """Each clip is what sampling alone gives."""
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    call = {"prompt": "a red nine standing still", "num_inference_steps": 2}
    film = film_of(lab.figures.compare_layers(pipe, seed=5, scale=1.5, cfg=3, layers=[2, 6], width="column", **call))
    assert film.heads == ("without CFG", "CFG 3")
    assert [row.label for row in film.rows] == ["no STG", "STG: block 2 skipped", "STG: block 6 skipped"]
    expected = lab.sample(pipe, guidance=lab.CFG(3) + lab.STG(1.5, lab.skip([6])), seed=5, **call).video[0]
    np.testing.assert_array_equal(film.rows[2].clips[1], expected)
    alone = lab.sample(pipe, guidance=lab.CFG(1), seed=5, **call).video[0]
    np.testing.assert_array_equal(film.rows[0].clips[0], alone)
