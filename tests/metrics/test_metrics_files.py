"""Measuring files: reading, the table, the command line, and the optional networks."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

import stg_lab as lab
from stg_lab import cli, metrics
from stg_lab.digits import world
from stg_lab.errors import MetricError
from stg_lab.metrics import read
from stg_lab.videos import mp4, write_gif

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips():
    """Four captions, twice each, and their rendered clips."""
    labels = world.draw(4, seed=0, split="test").labels * 2
    drawn = world.draw(8, seed=5, split="test", labels=labels)
    return drawn.captions, world.render(drawn).numpy()


@pytest.fixture
def folder(clips, tmp_path):
    """The clips as one array, and as films."""
    captions, video = clips
    np.save(tmp_path / "clips.npy", video)
    np.savez(tmp_path / "bytes.npz", video=(video * 255 + 0.5).astype(np.uint8))
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(mp4(video[:1]))
    write_gif(video[1:2], tmp_path / "films" / "b.gif")
    (tmp_path / "captions.txt").write_text("\n".join(captions))
    return tmp_path


def test_the_lab_has_metrics():
    assert lab.metrics is metrics


def test_every_kind_of_file_gives_the_frames_that_were_written(clips, folder):
    _, video = clips
    np.testing.assert_array_equal(read.read_video(folder / "clips.npy"), video)
    assert np.abs(read.read_video(folder / "bytes.npz") - video).max() <= 0.5 / 255 + 1e-6
    for name, i, worst in (("a.mp4", 0, 0.03), ("b.gif", 1, 0.03)):
        film = read.read_video(folder / "films" / name)
        zoom = film.shape[2] // 32
        small = film[0].reshape(9, 32, zoom, 32, zoom, 3).mean((2, 4))
        assert film.shape[:2] == (1, 9)
        assert np.abs(small - video[i]).mean() < worst


def test_a_recording_is_shown_through_its_preview(whole):
    got = list(read.clips([whole]))
    recording = lab.open(whole)
    assert [clip.caption for clip in got] == recording.captions
    np.testing.assert_array_equal(np.stack([clip.video for clip in got]), recording.video())
    latents = metrics.evaluate([whole])["latent_variance"].value.value
    assert latents == pytest.approx(np.mean([x.var() for x in recording.ds.final.values]), rel=1e-5)


def test_patterns_and_folders_find_each_file_once(folder):
    assert [p.name for p in read.find([folder / "films", str(folder / "films" / "*.mp4")])] == ["a.mp4", "b.gif"]
    assert [p.name for p in read.find([folder])] == ["bytes.npz", "clips.npy"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.mp4", None, "is not there"),
        ("text.txt", b"hello", "is no video"),
        ("broken.mp4", b"no film", "could not be decoded"),
        ("broken.gif", b"no film", "could not be decoded"),
        ("broken.npy", b"no array", "could not be read"),
    ],
)
def test_what_cannot_be_read_is_named(name, content, says, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MetricError, match=says):
        read.read_video(tmp_path / name)


def test_arrays_that_are_no_videos_are_refused(tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros((4, 4)))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    for name, says in (("flat.npy", "(4, 4)"), ("pickled.npy", "allow_pickle"), ("two.npz", "'video'")):
        with pytest.raises(MetricError) as caught:
            read.read_video(tmp_path / name)
        assert says in str(caught.value)


def test_the_table_holds_what_the_functions_say(clips, folder):
    captions, video = clips
    table = metrics.evaluate(
        [folder / "clips.npy"],
        against=[folder / "bytes.npz"],
        captions=folder / "captions.txt",
        judge=True,
        paired=True,
        resamples=50,
    )
    features = metrics.judge_features(video)
    other = metrics.judge_features(read.read_video(folder / "bytes.npz"))
    accuracy = metrics.caption_accuracy(video, captions)
    expected = {
        "flicker": metrics.flicker(video).mean(),
        "smoothness": metrics.smoothness(video).mean(),
        "ink_motion": metrics.ink_motion(video).mean(),
        "caption_accuracy: colour": accuracy["colour"].mean(),
        "pixel_diversity": metrics.pixel_diversity(video, captions).mean(),
        "feature_diversity: judge": metrics.feature_diversity(features, captions).mean(),
        "vendi_score: judge": metrics.vendi_score(features),
        "frechet_distance: judge": metrics.frechet_distance(features, other),
        "coverage: judge": metrics.coverage(features, other).mean(),
    }
    for name, value in expected.items():
        assert table[name].value.value == pytest.approx(value, rel=1e-3, abs=1e-4), name
    assert (
        -1e-4 < table["flicker"].difference.low <= table["flicker"].difference.high < 1e-4
    )  # pairs differ by rounding alone
    assert table["caption_accuracy: colour"].value.value == 1
    assert table.clips == table.reference_clips == 8


def test_a_distance_of_few_videos_has_no_interval(folder):
    table = metrics.evaluate([folder / "clips.npy"], against=[folder / "bytes.npz"], judge=True, resamples=20)
    distance = table["frechet_distance: judge"].value
    assert np.isnan([distance.low, distance.high]).all()
    assert "too few clips" in str(distance)
    assert any("16 videos or more on either side, got 8 and 8" in reason for reason in table.left_out)
    assert 1 <= table["vendi_score: judge"].value.low <= table["vendi_score: judge"].value.high <= 8


def test_intervals_of_a_distance_hold_no_impossible_value(tmp_path):
    video = world.render(world.draw(32, seed=5, split="test")).numpy()
    np.save(tmp_path / "a.npy", video[:16])
    np.save(tmp_path / "b.npy", video[16:])
    table = metrics.evaluate([tmp_path / "a.npy"], against=[tmp_path / "b.npy"], judge=True, resamples=50)
    for name in ("judge", "texture"):
        distance = table[f"frechet_distance: {name}"].value
        assert 0 <= distance.low <= distance.high


def test_a_folder_with_recordings_is_measured_by_these(copy, clips, capsys):
    (copy.parent / "stg.mp4").write_bytes(mp4(clips[1][:4]))
    write_gif(clips[1][:4], copy.parent / "both.gif")
    assert read.find([copy.parent]) == [copy]
    table = metrics.evaluate([copy.parent], resamples=5)
    assert table.clips == lab.open(copy).ds.sizes["sample"]
    assert any(reason.startswith("both.gif, stg.mp4 beside the recordings in") for reason in table.left_out)
    assert len(read.find([copy.parent / "stg.mp4"])) == 1  # a film that is named counts


def test_recordings_that_ship_go_by_their_names(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("stg_lab.recording.packed.data_folder", lambda kind: tmp_path)
    monkeypatch.setattr(read, "data_folder", lambda kind: tmp_path)
    lab.pack(copy, tmp_path / "shipped_run.zarr.zip")
    table = metrics.evaluate([copy], against=["shipped_run"], resamples=5)
    assert table.clips == table.reference_clips == lab.open(copy).ds.sizes["sample"]
    with pytest.raises(MetricError, match=r"Did you mean 'shipped_run'\?.*recordings that ship"):
        metrics.evaluate([copy], against=["shiped_run"], resamples=5)


def test_textures_see_a_blur_that_the_answers_features_overlook():
    clips = [world.render(world.draw(150, seed=s, split="test")).numpy() for s in (1, 2)]
    soft = ndimage.gaussian_filter(clips[0], (0, 0, 0.7, 0.7, 0))
    rise = {}
    for name in ("judge_features", "texture_features"):
        features = getattr(metrics, name)
        clean, blurred, real = (features(v) for v in (clips[0], soft, clips[1]))
        rise[name] = metrics.frechet_distance(blurred, real) / metrics.frechet_distance(clean, real)
    assert rise["texture_features"] > 2
    assert rise["texture_features"] > 1.5 * rise["judge_features"]


def test_videos_of_any_world_get_the_general_metrics_alone(folder):
    table = metrics.evaluate([folder / "films"], resamples=20)
    general = {name for name, metric in metrics.METRICS.items() if metric.of == "video"}
    assert {row.metric for row in table.rows} == general
    single = np.random.default_rng(0).random((1, 12, 12, 3))
    np.save(folder / "picture.npy", single)
    table = metrics.evaluate([folder / "picture.npy"], resamples=20)
    assert {row.metric for row in table.rows} == general - {"flicker", "smoothness", "flow_motion", "spectral_slope"}
    assert len(table.left_out) == 4


def test_tables_are_saved(folder):
    table = metrics.evaluate([folder / "clips.npy"], against=[folder / "bytes.npz"], resamples=20)
    table.save(folder / "t.csv")
    table.save(folder / "t.json")
    rows = {row["metric"]: row for row in csv.DictReader((folder / "t.csv").open())}
    facts = json.loads((folder / "t.json").read_text())
    for row in facts["rows"]:
        assert float(rows[row["metric"]]["value"]) == row["value"]["value"]
        assert float(rows[row["metric"]]["difference_high"]) == row["difference"]["high"]
    with pytest.raises(MetricError, match=r"saved as \.csv or \.json"):
        table.save(folder / "t.xlsx")


def test_one_video_has_no_interval_and_pairs_need_partners(folder):
    film = folder / "films" / "a.mp4"
    table = metrics.evaluate([film], resamples=20)
    assert "(one clip)" in str(table)
    table.save(folder / "t.json")
    assert json.loads((folder / "t.json").read_text())["rows"][0]["value"]["low"] is None
    for against in ([], [folder / "films"]):
        with pytest.raises(MetricError, match="equal numbers"):
            metrics.evaluate([film], against=against, paired=True, resamples=5)


@pytest.fixture
def recordings(tmp_path):
    """Recordings by name, with latents of a variance of one's choice, and arrays of the same videos, which have none."""
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    made = {}
    for seed, name in enumerate("abcd"):
        call = {"prompt": "a red seven moving left", "num_inference_steps": 1, "record": tmp_path / f"{name}.zarr"}
        run = lab.sample(pipe, seed=seed, **call)
        np.save(tmp_path / f"{name}.npy", run.video[0])
        made[name] = float(run.recording.ds.final.values.var())
    return tmp_path, made


def paired(root, mine, against):
    return metrics.evaluate(
        [root / name for name in mine], against=[root / name for name in against], paired=True, judge=True, resamples=20
    )


def test_pairs_are_of_the_same_place_whatever_videos_lack(recordings):
    root, variance = recordings
    table = paired(root, ["a.npy", "b.zarr", "c.zarr", "d.zarr"], ["a.zarr", "c.zarr", "b.npy", "d.zarr"])
    row = table["latent_variance"]
    assert (row.value.count, row.reference.count, row.difference.count) == (3, 3, 2)
    assert row.value.value == pytest.approx(np.mean([variance[n] for n in "bcd"]), rel=1e-5)
    assert row.reference.value == pytest.approx(np.mean([variance[n] for n in "acd"]), rel=1e-5)
    assert row.difference.value == pytest.approx((variance["b"] - variance["c"]) / 2, rel=1e-5)
    told = "2 of 4 pairs from the difference in latent_variance, where a video has none"
    assert told in table.left_out
    assert f"left out: {told}" in str(table)
    assert table["flicker"].difference.count == 4
    for name in ("digit", "all three"):
        assert table[f"caption_accuracy: {name}"].difference.count == 2
    table.save(root / "t.csv")
    rows = {row["metric"]: row for row in csv.DictReader((root / "t.csv").open())}
    assert rows["latent_variance"]["difference_count"] == "2"


def test_without_a_whole_pair_there_is_no_difference(recordings):
    root, variance = recordings
    table = paired(root, ["a.zarr", "b.npy"], ["a.npy", "b.zarr"])
    row = table["latent_variance"]
    assert row.difference is None
    assert row.value.value == pytest.approx(variance["a"], rel=1e-5)
    assert row.reference.value == pytest.approx(variance["b"], rel=1e-5)
    assert any("2 of 2 pairs from the difference in latent_variance" in reason for reason in table.left_out)
    table.save(root / "t.json")


def test_settings_are_compared_and_not_pooled(tmp_path):
    """Eight captions without guidance and with CFG: two tables, whose differences are those of the pairs."""
    pipe = lab.load("digits-joint")
    pipe.set_progress_bar_config(disable=True)
    captions = world.draw(8, seed=3, split="test").captions
    videos = {}
    for name, guidance in (("a", lab.CFG(3)), ("b", lab.CFG(1))):
        call = {"prompt": captions, "num_inference_steps": 1, "seed": 0, "record": tmp_path / f"{name}.zarr"}
        videos[name] = lab.sample(pipe, guidance=guidance, **call).video
    found = metrics.evaluate([tmp_path], resamples=200)
    assert list(found.tables) == ["no guidance", "CFG(3)"]
    assert [table.clips for table in found.tables.values()] == [8, 8]
    guided = found["CFG(3)"]["flicker"]
    expected = metrics.paired_difference(metrics.flicker(videos["a"]), metrics.flicker(videos["b"]), resamples=200)
    for end in ("value", "low", "high"):
        assert getattr(guided.difference, end) == pytest.approx(getattr(expected, end), abs=2e-3)
    assert "CFG(3) (8 videos; compared with no guidance, in pairs)" in str(found)
    found.save(tmp_path / "t.csv")
    told = [row["setting"] for row in csv.DictReader((tmp_path / "t.csv").open())]
    assert set(told) == {"no guidance", "CFG(3)"}


def test_few_videos_give_no_interval(clips, tmp_path):
    for count, given in ((7, False), (8, True)):
        np.save(tmp_path / f"{count}.npy", clips[1][:count])
        table = metrics.evaluate([tmp_path / f"{count}.npy"], resamples=20)
        assert np.isfinite(table["flicker"].value.low) == given
        assert ("no intervals: they need 8 videos or more, got 7" in str(table)) != given


@pytest.mark.parametrize(("count", "loops"), [(1, 1), (4, 1), (1, 3), (6, 2)])
def test_mosaics_and_loops_are_told(count, loops, clips, tmp_path):
    (tmp_path / "film.mp4").write_bytes(mp4(clips[1][:count], loops=loops))
    notes = metrics.evaluate([tmp_path / "film.mp4"], resamples=5).notes
    shape = {1: None, 4: "2 x 2 clips", 6: "2 x 3 clips"}[count]
    assert any("clips side by side" in note for note in notes) == (shape is not None)
    assert shape is None or any(shape in note for note in notes)
    assert any(f"the same frames {loops} times over" in note for note in notes) == (loops > 1)


@pytest.mark.parametrize(
    ("captions", "says"),
    [
        (["a red seven turning"], "has 1 captions, fewer than there are videos"),
        (["a red seven turning"] * 9, "has 9 captions for 8 videos"),
        (["a purple seven turning"] * 8, "'purple' is not a colour"),
        ({"other.npy": "a red seven turning"}, "has no caption for clips.npy[0]"),
        (7, "is to hold captions"),
    ],
)
def test_captions_that_do_not_fit_are_refused(captions, says, folder):
    (folder / "c.json").write_text(json.dumps(captions))
    with pytest.raises(MetricError) as caught:
        metrics.evaluate([folder / "clips.npy"], captions=folder / "c.json", judge=True, resamples=5)
    assert says in str(caught.value)


def test_the_command_prints_and_saves_and_refuses_in_one_line(folder, capsys):
    arguments = ["evaluate", str(folder / "clips.npy"), "--resamples", "20"]
    assert cli.main([*arguments, "--against", str(folder / "bytes.npz"), "--out", str(folder / "t.csv")]) == 0
    out = capsys.readouterr().out
    assert "95 % interval" in out
    assert "difference" in out
    assert (folder / "t.csv").is_file()
    assert cli.main([*arguments, "--out", str(folder / "t.txt")]) == 2
    assert cli.main(["evaluate", str(folder / "none*.mp4")]) == 2
    assert cli.main(["evaluate"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("stg-lab evaluate: ") for line in errors)
    assert cli.main(["evaluate", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in metrics.METRICS)


def test_help_and_import_stay_light():
    code = (
        "import sys, stg_lab.metrics; from stg_lab import cli\n"
        "try: cli.main(['evaluate', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'cv2', 'scipy', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def videomae(tmp_path_factory):
    """A small VideoMAE with random weights, saved and loaded as the published one is."""
    from transformers import VideoMAEConfig, VideoMAEModel

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32, num_frames=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    place = tmp_path_factory.mktemp("videomae")
    VideoMAEModel(config).save_pretrained(place)
    return place


def test_videomae_distances_are_zero_to_oneself_and_grow_with_distortion(clips, videomae):
    model = metrics.load_videomae(videomae)
    video = clips[1]
    worse = [ndimage.gaussian_filter(video, (0, 0, s, s, 0)) for s in (0.5, 1.0, 2.0)]
    distances = [metrics.videomae_distance(video, v, model) for v in (video, *worse)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances == sorted(distances)
    assert distances[1] > 1e-4


def test_videomae_sees_what_its_own_preprocessing_gives(videomae):
    from transformers import VideoMAEModel

    model = metrics.load_videomae(videomae)
    video = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy((video - mean) / std).permute(0, 3, 1, 2)[None].float()
    with torch.no_grad():
        expected = VideoMAEModel.from_pretrained(videomae).eval()(pixels).last_hidden_state.mean(1)
    np.testing.assert_allclose(metrics.videomae_features([video], model), expected, rtol=1e-4, atol=1e-5)
    wide = np.random.default_rng(1).random((21, 40, 72, 3)).astype(np.float32)
    assert metrics.videomae_features([wide, video], model).shape == (2, 32)


def test_the_command_measures_in_videomaes_features(folder, videomae):
    table = metrics.evaluate(
        [folder / "clips.npy"], against=[folder / "clips.npy"], videomae=str(videomae), resamples=20
    )
    assert table["frechet_distance: VideoMAE"].value.value == pytest.approx(0, abs=1e-6)
    assert table["precision: VideoMAE"].value.value == 1


def test_without_weights_one_line_says_what_to_fetch(tmp_path):
    with pytest.raises(MetricError, match=r"hf download MCG-NJU/videomae-base --local-dir FOLDER"):
        metrics.load_videomae(tmp_path)


def fake_vbench(tmp_path, body):
    """An interpreter that has a package `vbench` of ours."""
    package = tmp_path / "vbench"
    package.mkdir()
    (package / "__init__.py").write_text(body)
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return script


VBENCH = """
import json, os
class VBench:
    def __init__(self, device, full_info_dir, output_path):
        self.out = output_path
    def evaluate(self, videos_path, name, dimension_list, mode):
        assert mode == "custom_input"
        rows = [{"video_path": os.path.join(videos_path, f), "video_results": 50.0 + i}
                for i, f in enumerate(sorted(os.listdir(videos_path), reverse=True))]
        with open(os.path.join(self.out, name + "_eval_results.json"), "w") as file:
            json.dump({d: [0.5, rows] for d in dimension_list}, file)
"""


def test_vbench_runs_in_its_own_environment(folder, tmp_path_factory):
    python = fake_vbench(tmp_path_factory.mktemp("vb"), VBENCH)
    got = metrics.vbench_scores(folder / "films", ["imaging_quality", "dynamic_degree"], python=python)
    np.testing.assert_allclose(got["imaging_quality"], [0.51, 0.50])  # a.mp4, b.gif; from percent
    np.testing.assert_allclose(got["dynamic_degree"], [51, 50])


def test_without_vbench_one_line_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("STG_LAB_VBENCH", raising=False)
    with pytest.raises(MetricError, match="pip install vbench"):
        metrics.vbench_scores(folder / "films")
    with pytest.raises(MetricError, match=r"No module named 'vbench'.*pip install vbench"):
        metrics.vbench_scores(folder / "films", python=sys.executable)
    with pytest.raises(MetricError, match="could not be started"):
        metrics.vbench_scores(folder / "films", python=tmp_path / "no-python")
    with pytest.raises(MetricError, match=r"Did you mean 'dynamic_degree'\?"):
        metrics.vbench_scores(folder / "films", ["dynamic_degre"])
