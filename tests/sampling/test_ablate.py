"""A layer sweep gives, at each state, the very predictions that a recorded run has there, and goes on where it was cut off."""

import gc
import importlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import FlowMatchEulerDiscreteScheduler
from kit.pipelines import PROMPT, SMALL, Rig, tiny_wan
from kit.processes import run_python
from kit.watch import captured, denoisers, left_behind, passes
from kit.zoo import member

import stg_lab as lab
from stg_lab.guidance.scores import SCORES
from stg_lab.recording.ablation_store import AblationStore
from stg_lab.recording.chunks import ChunkFiles

pytestmark = pytest.mark.slow

sweeping = importlib.import_module("stg_lab.sampling.ablate")  # the room has a function of that name
PARTS = ("block", "attention", "feedforward")
PAIR = ["a red seven moving left", "a blue two growing"]
BOTH = pytest.mark.filterwarnings("ignore::stg_lab.IncompleteRecordingWarning")


def sweep(rig, **changes):
    return lab.ablate(rig.pipe, **{"step": 1, "parts": PARTS, "progress": False, **rig.arguments({}), **changes})


def same(one, other):
    """The same numbers, bit for bit."""
    differing = [n for n in one.data_vars if not one[n].load().equals(other[n].load())]
    return list(one.data_vars) == list(other.data_vars) and differing == []


def untouched(pipe):
    """Nothing of the lab's is left on a pipeline."""
    answered = [m for d in denoisers(pipe) for m in d.modules() if m._compiled_call_impl is not None]
    return left_behind(pipe) == [] and answered == []


def recorded(rig, ds, step, **changes):
    """A run of `lab.sample` with every weak model of a sweep: its branches at a step, by specification."""
    weak = [lab.weak.parse(str(w)) for w in ds.weak.values.ravel() if w]
    guidance = sum((lab.Probe(w) for w in weak), start=lab.Guidance())
    with lab.attach(rig.pipe, guidance=guidance, record=True) as trace:
        rig.stock(**changes)
    return {text: trace.recording.x0(name).isel(step=step).values for name, text in trace.recording.weak.items()}


# ---- the predictions ----


@pytest.mark.parametrize("name", ["wan", "mochi", "latte", "svd", "cosmos", "ltx", "hunyuan15"])
def test_weak_predictions_are_those_of_a_recorded_run_bit_for_bit(name):
    one = member(name)
    ds = sweep(one, axes=("joint", "spatial", "temporal"), layers=[0, 1])
    expected = recorded(one, ds, 1)
    made = 0
    for place, text in np.ndenumerate(ds.weak.values):
        if text and not ds.why.values[place]:
            i, j, k = place
            assert np.array_equal(ds.x0[0, i, j, k].values, expected[str(text)]), text
            made += 1
    assert made >= 4
    assert untouched(one.pipe)


def test_wan_2_2_is_swept_with_the_transformer_of_the_step(wan22):
    ds = sweep(wan22, step=[0, 3])
    for k, step in enumerate((0, 3)):
        expected = recorded(wan22, ds, step)
        assert np.array_equal(ds.x0[k, 1, 0, 0].values, expected["skip:block:1"])


def test_every_weak_model_is_one_pass(tiny):
    with passes(tiny.pipe) as made:
        sweep(tiny)
    own = 2 * 2  # of the pipeline, down to step 1 with CFG
    assert len(made) == own + 3 * 5  # joint block, attention, feed-forward; attention along space and along time


def test_the_scores_are_those_of_the_recorded_arrays(tiny):
    ds, call = sweep(tiny, prompt=PAIR), {"prompt": PAIR, "guidance_scale": 5.0}
    with lab.attach(tiny.pipe, guidance=lab.Probe(lab.skip([1])), record=True) as trace:
        tiny.stock(**call)
    now = trace.recording.ds.isel(step=1)
    c, u, p = (now.prediction.sel(branch=b).values.astype(float) for b in ("cond", "uncond", "skip"))
    x, y = (trace.recording.x0(b).isel(step=1).values for b in ("cond", "skip"))
    frames = [trace.recording.preview(z).astype(float) for z in (x, y)]
    found = ds.sel(layer=1, part="block", axis="joint").isel(step=0)
    for i in range(2):
        g, d = c[i] - p[i], c[i] - u[i]
        slopes = [np.mean(np.diff(f[i], axis=1) ** 2) + np.mean(np.diff(f[i], axis=2) ** 2) for f in frames]
        expected = {
            "rms": g.std() if abs(g.mean()) < 1e-12 else (g**2).mean() ** 0.5,
            "l2": np.linalg.norm(g),
            "ratio": np.linalg.norm(g) / np.linalg.norm(d),
            "cosine_cfg": np.vdot(g, d) / np.linalg.norm(g) / np.linalg.norm(d),
            "cosine_cond": np.vdot(g, c[i]) / np.linalg.norm(g) / np.linalg.norm(c[i]),
            "x0_distance": np.linalg.norm((y[i] - x[i]).astype(float)) / np.linalg.norm(x[i].astype(float)),
            "spatial_energy": g.var(axis=(2, 3)).sum() * g.shape[2] * g.shape[3] / (g**2).sum(),
            "temporal_energy": g.var(axis=1).sum() * g.shape[1] / (g**2).sum(),
            "sharpness_lost": 1 - slopes[1] / slopes[0],
        }
        for name, value in expected.items():
            assert float(found[name][i]) == pytest.approx(value, rel=1e-4), name
    assert "own decoder" in ds.sharpness_lost.measured_on
    assert np.array_equal(ds.x0_cond[0].values, x)
    assert np.array_equal(ds.x0_uncond[0].values, trace.recording.x0("uncond").isel(step=1).values)


def test_without_cfg_there_is_nothing_to_compare_with(tiny):
    ds = sweep(tiny, guidance_scale=1.0, layers=[1])
    assert "x0_uncond" not in ds
    assert ds.ratio.isnull().all()
    assert ds.cosine_cfg.isnull().all()
    assert ds.cosine_cond.sel(axis="joint").notnull().all()


def test_the_run_goes_down_under_the_guidance_that_is_given(tiny):
    guidance = lab.CFG(4) + lab.STG(2, lab.skip([1]))
    ds = sweep(tiny, step=2, guidance=guidance)
    recording = tiny.sample(guidance).recording
    assert np.array_equal(ds.x0_cond[0].values, recording.x0("cond").isel(step=2).values)
    assert not np.array_equal(ds.x0_cond, sweep(tiny, step=2, guidance_scale=4.0).x0_cond)
    assert untouched(tiny.pipe)


# ---- states, samples and what is in the dataset ----


def test_steps_captions_and_seeds_are_a_product_of_single_sweeps(tiny):
    whole = sweep(tiny, step=[2, 0], prompt=PAIR, seed=[3, 11], parts="block")
    assert whole.step.values.tolist() == [0, 2]
    assert whole.caption.values.tolist() == PAIR * 2
    assert whole.seed.values.tolist() == [3, 4, 11, 12]
    for i, seed in enumerate((3, 11)):
        for step in (0, 2):
            one = sweep(tiny, step=step, prompt=PAIR, seed=seed, parts="block")
            part = whole.sel(step=[step]).isel(sample=slice(2 * i, 2 * i + 2))
            assert same(one, part)
            assert one.timestep.equals(part.timestep)
    assert whole.sigma[1] < whole.sigma[0]


def test_what_the_model_lacks_is_nan_and_told(tiny):
    ds = sweep(tiny, parts=("block", "attention", "attention_video"), axes=("joint", "temporal"))
    assert ds.weak.sel(layer=2, part="attention", axis="temporal").item() == "skip:attention:2@temporal"
    assert ds.rms.sel(part="attention").notnull().all()
    assert ds.rms.sel(part="block", axis="temporal").isnull().all()
    assert "axis 'temporal' is not there" in ds.why.sel(layer=0, part="block", axis="temporal").item()
    assert ds.rms.sel(part="attention_video").isnull().all()
    assert (ds.why == "").sum() == 3 + 6
    assert ds.complete


@pytest.mark.parametrize(
    ("name", "axes"), [("wan", {"joint", "spatial", "temporal"}), ("latte", {"joint", "spatial", "temporal"})]
)
def test_axes_are_gone_through_for_attention_by_themselves(name, axes):
    ds = sweep(member(name), parts=("block", "attention"), layers=[1])
    assert set(ds.axis.values) == axes
    assert (ds.weak.sel(part="attention") != "").all()
    assert (ds.weak.sel(part="block", axis="joint") != "").all()
    assert (ds.weak.sel(part="block", axis=["spatial", "temporal"]) == "").all()


def test_a_weak_model_that_changes_nothing_is_flagged(tiny):
    """A video of one frame has nothing to mix over time."""
    ds = sweep(tiny, num_frames=1, parts="attention")
    flagged = ds.nothing_changed.sel(axis="temporal")
    assert flagged.all()
    assert not ds.nothing_changed.sel(axis=["joint", "spatial"]).any()
    assert (ds.l2.sel(axis="temporal") == 0).all()
    assert (ds.sharpness_lost.sel(axis="temporal") == 0).all()
    assert (ds.x0.sel(axis="temporal", layer=0, part="attention") == ds.x0_cond).all()


def test_what_a_pass_refuses_is_told_and_the_others_are_made(tiny, monkeypatch):
    stock = sweeping._predict

    def refusing(model, state):
        found = stock(model, state)
        return lab.GuidanceError("this attention has a mask") if model.axis == "spatial" else found

    monkeypatch.setattr(sweeping, "_predict", refusing)
    ds = sweep(tiny, parts="attention")
    assert ds.rms.sel(axis="spatial").isnull().all()
    assert (ds.why.sel(axis="spatial") == "this attention has a mask").all()
    assert ds.rms.sel(axis=["joint", "temporal"]).notnull().all()
    assert ds.complete


def test_every_score_says_what_it_is(tiny):
    ds = sweep(tiny, layers=[1], keep_x0=False, record_dtype="float16")
    assert all(ds[name].definition and ds[name].units and ds[name].valid_range for name in SCORES)
    assert "x0" not in ds
    assert ds.x0_cond.dtype == np.float16
    assert ds.arguments["call"]["prompt"] == PROMPT


# ---- a recorded state ----


@pytest.fixture(scope="module")
def guided(tiny):
    return tiny.sample(lab.CFG(4) + lab.STG(2, lab.skip([1]), start=0.25), seed=5).recording


def test_a_recorded_state_is_taken_as_it_is_without_sampling_down_to_it(tiny, guided):
    fresh = sweep(tiny, step=[2, 3], guidance=lab.CFG(4) + lab.STG(2, lab.skip([1]), start=0.25), seed=5)
    with passes(tiny.pipe) as made:
        taken = lab.ablate(tiny.pipe, [2, 3], state=guided, parts=PARTS, progress=False)
    assert same(fresh, taken)
    assert len(made) == 2 * (1 + 2) + 2 * 3 * 5  # CFG at the first step and at the wanted ones; the weak passes
    assert taken.seed.values.tolist() == [5]
    assert untouched(tiny.pipe)


@pytest.mark.parametrize("scheduler", ["unipc", "dpm"])
def test_a_scheduler_with_a_memory_may_be_handed_a_state(scheduler):
    rig = Rig(tiny_wan(scheduler), SMALL)
    run = rig.sample(lab.CFG(4))
    assert same(
        sweep(rig, step=2, guidance=lab.CFG(4)),
        lab.ablate(rig.pipe, 2, state=run.recording.path, parts=PARTS, progress=False),
    )


def test_a_family_with_latents_of_its_own_goes_down_to_the_state_again(digits, tmp_path):
    one = member("cogvideox")
    one.call = {"prompt": None, **one.call}
    embeds = {k: v for k, v in one.call.items() if "embeds" in k}
    one.pipe.encode_prompt = lambda *args, **kwargs: (embeds["prompt_embeds"], embeds["negative_prompt_embeds"])
    call = {"height": 16, "width": 32, "num_frames": 9, "output_type": "latent", "num_inference_steps": 3}
    run = lab.sample(one.pipe, prompt="a cat", guidance=lab.CFG(3) + lab.STG(1, lab.skip([0])), **call)
    ds = lab.ablate(one.pipe, 2, state=run.recording, parts="block", progress=False)
    assert np.array_equal(ds.x0_cond[0].values, run.recording.x0("cond").isel(step=2).values)
    randomised = one.pipe.transformer.transformer_blocks[1].ff.net[2].bias
    randomised.data.add_(0.5)
    with pytest.raises(lab.RecordingError, match="x_t at step 2 is not the one"):
        lab.ablate(one.pipe, 2, state=run.recording, parts="block", progress=False)
    randomised.data.sub_(0.5)


@pytest.mark.parametrize(("steps", "taken"), [(5, 2), (12, 10)])
def test_the_step_that_nobody_names_lies_in_the_run(tiny, steps, taken):
    call = {**tiny.call, "num_inference_steps": steps}
    ds = lab.ablate(tiny.pipe, prompt=PROMPT, layers=[1], parts="block", progress=False, **call)
    assert ds.step.values.tolist() == [taken]


def test_a_state_brings_its_own_call(tiny, guided):
    with pytest.raises(lab.CallError, match="leave prompt, seed out"):
        lab.ablate(tiny.pipe, 2, PROMPT, seed=1, state=guided)
    with pytest.raises(lab.CallError, match=r"step 4 is out of range: the recording .* has steps 0 to 3"):
        lab.ablate(tiny.pipe, 4, state=guided)


# ---- on disk ----


def cut_off(monkeypatch, after, error=KeyboardInterrupt):
    """Let a sweep end before its pass number `after`."""
    stock, count = sweeping._predict, []

    def predict(model, state):
        count.append(1)
        if len(count) > after:
            raise error
        return stock(model, state)

    monkeypatch.setattr(sweeping, "_predict", predict)


@BOTH
@pytest.mark.parametrize("after", [1, 4])
def test_a_sweep_that_was_cut_off_goes_on(tiny, tmp_path, monkeypatch, after):
    asked = {"step": [0, 2], "seed": [0, 9], "parts": ("block", "feedforward")}
    whole, place = sweep(tiny, **asked), tmp_path / "cut.zarr"
    with monkeypatch.context() as patch:
        cut_off(patch, after)
        with pytest.raises(KeyboardInterrupt) as caught:
            sweep(tiny, record=place, **asked)
    assert "To go on, call lab.ablate with the same arguments and record=" in caught.value.__notes__[0]
    assert untouched(tiny.pipe)
    part = lab.open_ablation(place)
    assert not part.complete
    there = part.rms.notnull()
    assert 0 < there.sum() < whole.rms.notnull().sum()
    assert np.array_equal(part.rms.values, whole.rms.where(there).values, equal_nan=True)
    made = []
    stock = sweeping._predict
    monkeypatch.setattr(sweeping, "_predict", lambda model, state: made.append(model) or stock(model, state))
    resumed = sweep(tiny, record=place, **asked)
    assert same(whole, resumed)
    assert resumed.complete
    assert len(made) == 4 * 6 - after  # six weak models at each of four states
    with passes(tiny.pipe) as made:
        sweep(tiny, record=place, **asked)
    assert len(made) == 0


@BOTH
def test_data_without_its_marker_does_not_count(tiny, tmp_path, monkeypatch):
    place, stock = tmp_path / "cut.zarr", ChunkFiles.write

    def write(self, value, *index):
        if self.name == "made" and (np.asarray(value) > 0).sum() > 5:
            raise OSError(28, "no space left")
        stock(self, value, *index)

    with monkeypatch.context() as patch:
        patch.setattr(ChunkFiles, "write", write)
        with pytest.raises(lab.RecordingError, match="could not be written: no space left"):
            sweep(tiny, record=place)
    part = lab.open_ablation(place)
    assert part.rms.notnull().sum() == 5
    assert np.isfinite(xr.open_zarr(place, consolidated=False).scores.isel(layer=1)).any()  # written, but not marked
    assert same(sweep(tiny), sweep(tiny, record=place))


def test_a_sweep_that_was_asked_for_otherwise_is_left_alone(tiny, tmp_path):
    place = tmp_path / "sweep.zarr"
    before = sweep(tiny, record=place, layers=[0, 1])
    with pytest.raises(lab.RecordingError, match=r"layers: \[0, 1\] there, \[0, 2\] now"):
        sweep(tiny, record=place, layers=[0, 2])
    with pytest.raises(lab.RecordingError, match=r"call: .*blue.* now"):
        sweep(tiny, record=place, layers=[0, 1], prompt="a blue two growing")
    assert same(lab.open_ablation(place), before)
    again = sweep(tiny, record=place, layers=[0, 2], overwrite=True)
    assert again.layer.values.tolist() == [0, 2]


@BOTH
def test_an_earlier_sweep_stays_until_the_new_one_holds_something(tiny, tmp_path, monkeypatch):
    place = tmp_path / "sweep.zarr"
    before = sweep(tiny, record=place, layers=[0, 1]).load()
    for after, error in ((0, KeyboardInterrupt), (0, OSError(28, "no space left"))):
        with monkeypatch.context() as patch:
            cut_off(patch, after, error)
            with pytest.raises((KeyboardInterrupt, OSError)):
                sweep(tiny, record=place, layers=[0, 2], overwrite=True)
        assert same(lab.open_ablation(place), before)
        assert [one.name for one in tmp_path.iterdir()] == ["sweep.zarr"]
    with monkeypatch.context() as patch:
        cut_off(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            sweep(tiny, record=place, layers=[0, 2], overwrite=True)
    assert lab.open_ablation(place).layer.values.tolist() == [0, 2]
    assert [one.name for one in tmp_path.iterdir()] == ["sweep.zarr"]
    assert same(sweep(tiny, record=place, layers=[0, 2]), sweep(tiny, layers=[0, 2]))


def test_tensors_of_the_call_are_told_apart(tmp_path):
    one, place = member("mochi"), tmp_path / "sweep.zarr"
    sweep(one, record=place, parts="block")
    one.call["prompt_embeds"] = one.call["prompt_embeds"] + 1
    with pytest.raises(lab.RecordingError, match="asked for otherwise"):
        sweep(one, record=place, parts="block")


@BOTH
def test_another_model_does_not_go_on_with_a_sweep(tiny, tmp_path, monkeypatch):
    place, other = tmp_path / "sweep.zarr", tiny.copy()
    with monkeypatch.context() as patch:
        cut_off(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            sweep(tiny, record=place)
    other.pipe.transformer.proj_out.bias.data.add_(1)
    with pytest.raises(lab.RecordingError, match="another model or machine"):
        sweep(other, record=place)


def test_anything_else_at_the_place_is_left_alone(tiny, whole, tmp_path):
    file = tmp_path / "note.zarr"
    file.mkdir()
    (file / "text").write_text("mine")
    for place in (file, shutil.copytree(whole, tmp_path / "run.zarr")):
        with pytest.raises(lab.RecordingError, match="is not an ablation of the lab; it is left alone"):
            sweep(tiny, record=place, overwrite=True)
    assert (file / "text").read_text() == "mine"


def test_a_temporary_sweep_lives_as_long_as_its_arrays(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ds = sweep(tiny, layers=[1])
    x0, place = ds.x0, next(Path(tempfile.gettempdir()).glob("stg_lab-*/ablation.zarr"))
    del ds
    gc.collect()
    assert np.isfinite(x0.sel(part="block", axis="joint").values).all()
    assert place.exists()
    del x0
    gc.collect()
    assert not place.exists()


def test_reading_needs_no_torch(tiny, tmp_path):
    place = tmp_path / "sweep.zarr"
    expected = sweep(tiny, record=place, layers=[1]).rms.sum().item()
    code = f"""
        import sys, stg_lab as lab
        ds = lab.open_ablation({str(place)!r})
        assert "torch" not in sys.modules
        assert abs(ds.rms.sum().item() - {expected!r}) < 1e-12
        assert ds.x0.notnull().any()
    """
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_read_is_told(tiny, whole, tmp_path):
    place = tmp_path / "sweep.zarr"
    with pytest.raises(lab.RecordingError, match="there is no ablation"):
        lab.open_ablation(place)
    with pytest.raises(lab.RecordingError, match="is not an ablation of the lab"):
        lab.open_ablation(whole)
    sweep(tiny, record=place, layers=[1])
    next((place / "scores").glob("c.*")).unlink()
    with pytest.raises(lab.RecordingError, match=r"damaged: the data of scores/c\..* is gone"):
        lab.open_ablation(place)


# ---- wrong arguments, and what is left ----


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"step": 4}, lab.CallError, "step 4 is out of range: the run has steps 0 to 3"),
        ({"step": -1}, lab.CallError, "step is a whole number from 0"),
        ({"step": []}, lab.CallError, "step is a whole number from 0"),
        ({"step": [1, 1]}, lab.CallError, "names one twice"),
        ({"step": 1.5}, lab.CallError, "step is a whole number from 0"),
        ({"seed": True}, lab.CallError, "seed is a whole number from 0"),
        ({"layers": [3]}, lab.GuidanceError, "layer 3 is out of range: the model has 3 blocks"),
        ({"parts": ("blok",)}, lab.GuidanceError, "part 'blok' is unknown. Did you mean 'block'"),
        ({"parts": ()}, lab.GuidanceError, "name at least one part"),
        ({"axes": ("time",)}, lab.GuidanceError, "axis 'time' is unknown"),
        ({"parts": ("attention_video",)}, lab.GuidanceError, "no weak model of this sweep"),
        ({"prompt": None}, lab.CallError, "no prompt was given"),
        ({"generator": torch.Generator()}, lab.CallError, "generator= is not there"),
        ({"colour": "red"}, lab.CallError, "takes no argument 'colour'"),
        ({"record": False}, lab.RecordingError, "a sweep lies on disk"),
        ({"record_dtype": "int8"}, lab.RecordingError, "record_dtype 'int8' is unknown"),
        ({"guidance": lab.STG(1, lab.skip([7]))}, lab.GuidanceError, "layer 7 is out of range"),
    ],
)
def test_wrong_arguments_are_told_before_any_compute(tiny, wrong, error, message):
    with captured(tiny.pipe) as calls, pytest.raises(error, match=message):
        sweep(tiny, **wrong)
    assert len(calls) == 0
    assert untouched(tiny.pipe)


def test_no_step_behind_the_last_wanted_one_is_sampled(tiny):
    stock = tiny.stock(guidance_scale=4.0)
    with captured(tiny.pipe) as calls:
        sweep(tiny, step=[0, 1])
    assert len(calls) == 2 * 2
    assert untouched(tiny.pipe)
    assert torch.equal(tiny.stock(guidance_scale=4.0), stock)


def test_a_sweep_inside_somebody_elses_recording_stays_out_of_it(tiny):
    with lab.attach(tiny.pipe, record=True) as trace:
        tiny.stock(guidance_scale=4.0)
        before = trace.recording.ds.load()
        sweep(tiny, layers=[1])
    assert trace.recording.ds.equals(before)


def test_a_disk_that_will_not_hold_the_sweep_is_told_before_a_weak_pass(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("stg_lab.recording.ablation_store.free_bytes", lambda path: 1000)
    with passes(tiny.pipe) as made, pytest.raises(lab.RecordingError, match="keep_x0=False for scores alone"):
        sweep(tiny, record=tmp_path / "sweep.zarr")
    assert len(made) == 2 * 2
    assert not (tmp_path / "sweep.zarr").exists()


def test_the_bar_counts_weak_passes_and_what_is_there_already(tiny, tmp_path, capsys):
    sweep(tiny, record=tmp_path / "sweep.zarr", progress=True)
    sweep(tiny, record=tmp_path / "sweep.zarr", progress=True)
    shown = capsys.readouterr().err
    assert "0/15" in shown
    assert "15/15" in shown


def test_a_scheduler_that_makes_other_steps_than_asked_for_is_counted(tiny):
    rig = tiny.copy()
    rig.pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    with pytest.raises(lab.CallError, match="steps 0 to 1"):
        sweep(rig, step=2, num_inference_steps=2)


def test_the_store_counts_what_is_missing():
    layout = sweeping.Layout([3], [0], ["block"], ["joint"], np.array([[["skip:block:0"]]], object), np.array([[[""]]]),
                             ["a", "b"], [0, 1], 2, "float32", True, {})  # fmt: skip
    store = AblationStore("nowhere.zarr", layout)
    assert store.left == 2
    assert store.missing(1, 0) == [(0, 0, 0)]
    store.made[1] = 1
    assert store.left == 1
    assert store.missing(1, 0) == []


def test_captions_drawn_by_numpy_are_captions(tiny):
    drawn = list(np.array(["a red seven moving left", "a blue two growing"]))
    assert type(drawn[0]) is np.str_
    ds = sweep(tiny, prompt=drawn, layers=[1], parts="block")
    assert ds.caption.values.tolist() == list(map(str, drawn))
    run = tiny.sample(lab.CFG(4), prompt=drawn, num_inference_steps=1)
    assert lab.open(run.recording.path).captions == list(map(str, drawn))
