"""A plan is what the run then does: its passes, its latents, its noise levels, its bytes."""

import contextlib
import functools
import shutil
import tempfile
import threading
import weakref
from unittest import mock

import numpy as np
import pytest
import torch
from kit.peak import Peak
from kit.pipelines import PROMPT, tiny_wan
from kit.watch import denoisers, left_behind
from kit.zoo import STEPS, ZOO, member

import stg_lab as lab
from stg_lab.families import family_of
from stg_lab.guidance import as_guidance
from stg_lab.passes import stateful
from stg_lab.recording.writer import Recorder
from stg_lab.sampling import journal

SKIP, ATTENTION = lab.skip([1]), lab.skip([0], part="attention")
GUIDANCES = {
    "the pipeline's own": None,
    "one weak model": lab.STG(1, SKIP),
    "two, one of them recorded only": lab.STG(1, SKIP) + lab.Probe(ATTENTION, start=0.5),
    "windows in steps and in sigma": lab.STG(1, SKIP, stop=0.5) + lab.STG(1, ATTENTION, sigma=(0.2, 0.9)),
    "a schedule": lab.STG([0, 1, 0], SKIP),
    "another model at every step": lab.STG(1, lab.per_step(SKIP, None, ATTENTION)),
    "never": lab.STG(0, SKIP),
}
RESTART = lab.STG(1, SKIP, stop=0.7).restart(0.3, 0.9, 2)


@pytest.fixture(params=sorted(ZOO))
def one(request):
    return member(request.param)


class Rows(list):
    """The rows of every forward pass of a denoiser, by whomever; `cost` adds up those of the blocks that really ran, in whole
    passes."""

    cost = 0.0


@contextlib.contextmanager
def counted(pipe):
    rows = Rows()

    def counting(forward, note):
        @functools.wraps(forward)
        def count(*args, **kwargs):
            note(args[0] if args else kwargs["hidden_states"])
            return forward(*args, **kwargs)

        return count

    def whole(given):
        rows.append(len(given))

    def part(of):
        def note(_):
            rows.cost += rows[-1] / of

        return note

    with contextlib.ExitStack() as stack:
        # Else the forwards put in here are foreign code to the lab, which it would watch by a pass of its own.
        stack.enter_context(mock.patch.object(stateful, "KNOWN", (*stateful.KNOWN, __name__.partition(".")[0])))
        for module in denoisers(pipe):
            stages = family_of(pipe).stages(module)
            for one, note in [(module, whole), *((stage, part(len(stages))) for stage in stages)]:
                one.forward = counting(one.forward, note)
                stack.callback(delattr, one, "forward")
        yield rows


@contextlib.contextmanager
def no_compute(pipe):
    """Any forward pass of any component fails the test."""

    def fail(module, args):
        pytest.fail(f"{type(module).__name__} was run")

    modules = [c for c in pipe.components.values() if isinstance(c, torch.nn.Module)]
    handles = [m.register_forward_pre_hook(fail) for c in modules for m in c.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def with_cfg(one):
    """The member's call, with the scale said: a sum without CFG would turn it off."""
    name = family_of(one.pipe).scale_argument
    return {**({name: 3.0} if name else {}), **one.arguments({})}


def planned_and_run(one, guidance, **call):
    said = guidance is not None and as_guidance(guidance).has_cfg
    arguments = {**(one.arguments({}) if said else with_cfg(one)), **call}
    with no_compute(one.pipe):
        plan = lab.plan(one.pipe, guidance, **arguments)
    with counted(one.pipe) as rows:
        run = lab.sample(one.pipe, guidance=guidance, **arguments)
    return plan, run.recording, rows


def check(plan, recording, rows):
    ds = recording.ds
    assert plan.shape == ds.final.shape
    assert list(plan.branches) == ds.branch.values.tolist()
    assert [p.rows for s in plan.steps for p in s.passes] == rows
    assert (plan.passes, plan.rows) == (len(rows), sum(rows))
    assert plan.cost == pytest.approx(rows.cost)
    assert plan.passes == plan.own_passes + plan.weak_passes + plan.restart_passes
    assert [s.step for s in plan.steps] == ds.run_step.values.tolist()
    assert [s.restart for s in plan.steps] == ds.restart.values.tolist()
    assert [s.sigma for s in plan.steps] == ds.noise.values.tolist()
    for name in recording.settings["weak"]:
        there = ~np.isnan(ds.prediction.sel(branch=name)).all(["sample", *ds.final.dims[1:]]).values
        assert [name in s.weak for s in plan.steps] == there.tolist()
    assert plan.recording_bytes == ds.x_t.nbytes + ds.prediction.nbytes + ds.final.nbytes


@pytest.mark.parametrize("guidance", GUIDANCES.values(), ids=GUIDANCES)
@pytest.mark.parametrize("name", ["wan", "mochi", "svd"])
def test_a_plan_is_what_the_run_does(name, guidance):
    check(*planned_and_run(member(name), guidance))


def test_in_every_family(one):
    check(*planned_and_run(one, GUIDANCES["windows in steps and in sigma"]))


def test_without_cfg(one):
    plan, recording, rows = planned_and_run(one, lab.STG(1, SKIP), **one.off())
    check(plan, recording, rows)
    assert "uncond" not in plan.branches
    assert rows == [1] * 2 * STEPS


def test_with_two_samples(one):
    plan, recording, rows = planned_and_run(one, lab.STG(1, SKIP), **one.two())
    check(plan, recording, rows)
    assert plan.shape[0] == 2


def test_restart_is_planned_as_it_is_played(one):
    apart = dict.fromkeys(("ltx2", "svd", "allegro"), "Leave Restart out")
    refused = (apart | dict.fromkeys(("cogvideox-dpm", "cosmos"), "cannot rewind")).get(one.name)
    if refused:
        with pytest.raises(lab.LabError, match=refused):
            planned_and_run(one, RESTART)
        return
    plan, recording, rows = planned_and_run(one, RESTART)
    check(plan, recording, rows)
    assert plan.restart_passes > 0


@pytest.mark.parametrize("scheduler", ["euler", "unipc", "dpm"])
@pytest.mark.parametrize(
    "guidance", [lab.CFG(4) + lab.STG(1, SKIP, sigma=(0.4, 0.8)), lab.CFG(4).restart(0.3, 0.8)], ids=str
)
def test_wan_with_each_of_its_schedulers(scheduler, guidance):
    one = member("wan")
    one.pipe = tiny_wan(scheduler)
    check(*planned_and_run(one, guidance, num_inference_steps=6))


def test_weak_passes_under_the_negative_prompt_run_with_the_unconditional_call():
    for name in ("wan", "cogvideox"):
        one = member(name)
        weak = lab.skip([1], prompt="negative")
        check(*planned_and_run(one, lab.CFG(3) + lab.STG(1, weak, reference="uncond") + lab.STG(1, SKIP)))


SIZES = {
    "wan": [{"num_frames": 6}, {"num_frames": 8}, {"height": 48, "width": 32}, {"num_videos_per_prompt": 2}],
    "mochi": [{"num_frames": 8}],
    "cogvideox": [{"height": None, "width": None, "num_frames": None}],
    "latte": [{"height": None, "width": None}, {"num_images_per_prompt": 2}],
    "opensora": [{"num_frames": 1}, {"num_frames": 22, "height": 28}, {"num_videos_per_prompt": 2}],
    "svd": [{"height": None, "width": None, "num_frames": None}, {"num_videos_per_prompt": 2}],
    "ltx": [{"num_frames": 16}, {"height": 64}],
    "hunyuan15": [{"height": None, "width": None}],
    "skyreels": [{"num_frames": 8}, {"num_videos_per_prompt": 2}],
    "allegro": [{"height": None, "width": None, "num_frames": None}, {"num_frames": 9}, {"num_frames": 10}],
    "kandinsky": [{"num_frames": 6}, {"num_videos_per_prompt": 2}],
    "kandinsky-picture": [{"latents": torch.ones(1, 3, 4, 8, 9)}],
    "sana": [{"frames": 6}, {"use_resolution_binning": True, "height": 400, "width": 800}],
    "cosmos": [{"num_frames": 10}, {"num_videos_per_prompt": 2}],
}


@pytest.mark.parametrize(
    ("name", "call"), [(name, call) for name, calls in SIZES.items() for call in calls], ids=lambda x: str(x)
)
def test_sizes_that_are_left_out_or_do_not_fit_are_planned_as_the_pipeline_makes_them(name, call):
    plan, recording, rows = planned_and_run(member(name), None, num_inference_steps=2, **call)
    check(plan, recording, rows)


def test_latents_and_timesteps_of_ones_own(tiny):
    latents = torch.randn(1, 24, 2, 8, 4, generator=torch.Generator().manual_seed(0))
    one = member("wan")
    check(*planned_and_run(one, lab.CFG(4), latents=latents))
    one = member("cogvideox")
    with pytest.raises(lab.CallError, match="CogVideoXDDIMScheduler takes no timesteps of one's own"):
        planned_and_run(one, None, timesteps=[900, 500, 100, 20])
    one = member("svd")
    check(*planned_and_run(one, None, sigmas=[500.0, 20.0, 1.0, 0.1]))


def test_the_pipelines_own_stg_is_planned_too():
    one = member("ltx2")
    call = {"stg_scale": 1.0, "modality_scale": 2.0, "spatio_temporal_guidance_blocks": [1]}
    plan, recording, rows = planned_and_run(one, None, **call)
    check(plan, recording, rows)
    assert rows == [2, 1, 1] * STEPS
    assert plan.branches == ("cond", "uncond", "stg", "modality", "guided")


def test_a_length_that_only_the_model_knows_is_asked_for():
    one = member("ltx2")
    one.pipe.duration_head = object()
    call = {**one.arguments({}), "num_frames": None}
    with pytest.raises(lab.CallError, match="Say height, width and num_frames"):
        lab.plan(one.pipe, **call)
    one.pipe.duration_head = None
    assert lab.plan(one.pipe, **call).shape == lab.plan(one.pipe, **{**call, "num_frames": 121}).shape


# ---- bytes ----


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_recording_on_disk_is_as_large_as_planned_but_for_metadata(tiny, tmp_path, dtype):
    call = {**tiny.arguments({}), "num_frames": 17, "height": 32, "width": 32, "record_dtype": dtype}
    place = tmp_path / "run.zarr"
    plan = lab.plan(tiny.pipe, lab.CFG(4) + lab.STG(1, SKIP), record=place, **call)
    lab.sample(tiny.pipe, guidance=lab.CFG(4) + lab.STG(1, SKIP), record=place, **call)
    there = sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
    data = sum(f.stat().st_size for name in ("x_t", "prediction", "final") for f in (place / name).glob("c*"))
    assert 0.8 * plan.recording_bytes < data <= plan.recording_bytes + 1024
    assert there - data < 60_000


class SlowDisk:
    """A recorder that writes a step only when the sampler has copied all that it can before it must wait.

    `peak` is what the copies on the host held at most, in bytes.
    """

    def __init__(self, monkeypatch, arrays, steps):
        self.arrays, self.steps, self.peak = arrays, steps, 0
        self._alive, self._copies, self._written = {}, 0, 0
        self._changed = threading.Condition()
        copy, write = journal.host_copy, Recorder.write

        def host_copy(x):
            made = copy(x)
            self._note(made.__closure__[0].cell_contents)
            return made

        def slow(recorder, *step):
            self._wait()
            write(recorder, *step)

        monkeypatch.setattr(journal, "host_copy", host_copy)
        monkeypatch.setattr(Recorder, "write", slow)

    def _note(self, tensor):
        with self._changed:
            self._copies += 1
            self._alive[self._copies] = tensor.nbytes
            weakref.finalize(tensor, self._alive.pop, self._copies)
            self.peak = max(self.peak, sum(list(self._alive.values())))
            self._changed.notify_all()

    def _wait(self):
        wanted = min(self._written + 3, self.steps) * self.arrays
        with self._changed:
            assert self._changed.wait_for(lambda: self._copies >= wanted, timeout=60)
        self._written += 1


@pytest.mark.parametrize("guidance", [lab.CFG(4), lab.CFG(4) + lab.STG(1, SKIP) + lab.Probe(ATTENTION)], ids=str)
def test_buffers_are_what_a_slow_disk_makes_the_recorder_hold(tiny, guidance, monkeypatch):
    call = {**tiny.arguments({}), "num_inference_steps": 6}
    plan = lab.plan(tiny.pipe, guidance, **call)
    disk = SlowDisk(monkeypatch, arrays=len(plan.branches) + 1, steps=6)
    assert lab.sample(tiny.pipe, guidance=guidance, record=True, **call).recording.complete
    one = int(np.prod(plan.shape)) * 4
    assert disk.peak == 3 * disk.arrays * one
    assert disk.peak <= plan.buffer_bytes <= disk.peak + 2 * one
    short = lab.plan(tiny.pipe, guidance, **{**call, "num_inference_steps": 1})
    assert short.buffer_bytes == (disk.arrays + 2) * one


def test_weights_are_those_of_the_components(tiny):
    weights = lab.plan(tiny.pipe, **tiny.arguments({})).weights
    assert set(weights) == {"text_encoder", "transformer", "vae"}
    size = sum(p.numel() for p in tiny.pipe.transformer.parameters()) * 4
    assert size <= weights["transformer"]["float32", "cpu"] < 1.1 * size  # and buffers
    assert set(lab.plan(tiny.copy().pipe.to(torch.bfloat16), **tiny.arguments({})).weights["transformer"]) >= {
        ("bfloat16", "cpu")
    }


PEAKS = {
    "a block": lab.STG(1, lab.skip([1])),
    "attention": lab.STG(1, lab.skip([0], part="attention")),
    "three": lab.STG(1, lab.skip([1])) + lab.STG(1, lab.skip([0])) + lab.Probe(lab.skip([0, 1], part="attention")),
    "Restart": lab.STG(1, lab.skip([1])).restart(0.3, 0.9),
}


@pytest.mark.parametrize("guidance", PEAKS.values(), ids=PEAKS)
@pytest.mark.parametrize("name", ["wan", "mochi", "latte", "hunyuan"])
def test_a_guided_run_needs_at_most_as_much_more_memory_as_planned(name, guidance):
    """Live bytes of all tensors, counted operation by operation."""
    one = member(name)
    plan = lab.plan(one.pipe, guidance, record=False, **with_cfg(one))
    with Peak() as alone:
        lab.sample(one.pipe, record=False, **with_cfg(one))
    with Peak() as guided:
        lab.sample(one.pipe, guidance=guidance, record=False, **with_cfg(one))
    assert guided.bytes - alone.bytes <= plan.held_bytes


# ---- a disk that is too small ----


@pytest.fixture
def full(monkeypatch, tmp_path):
    """A disk with 10 kB left."""
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("name", ["wan", "mochi", "svd"])
def test_a_run_that_the_disk_will_not_hold_is_refused_before_anything_is_computed(name, tmp_path):
    one, place, guidance = member(name), tmp_path / "run.zarr", lab.STG(1, SKIP)
    call = {**one.arguments({}), "num_inference_steps": 30}
    assert lab.plan(one.pipe, guidance, record=place, **call).recording_bytes > 10_000
    with no_compute(one.pipe), pytest.raises(lab.RecordingError) as caught:
        lab.sample(one.pipe, guidance=guidance, record=place, **call)
    text = str(caught.value)
    assert f"recording this run to {place} takes" in text
    assert "but only 10.0 kB are free there" in text
    assert "record_dtype='float16'" in text
    assert "record=False" in text
    assert left_behind(one.pipe) == []
    assert not place.exists()


@pytest.mark.usefixtures("full")
def test_the_folder_for_temporary_files_is_asked_too(tiny):
    with no_compute(tiny.pipe), pytest.raises(lab.RecordingError, match=f"this run to {tempfile.gettempdir()} takes"):
        tiny.sample(lab.CFG(4), num_frames=17)
    tiny.sample(lab.CFG(4), record=False)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("name", ["wan", "mochi"])
def test_attach_tells_after_the_pipelines_first_pass(name, tmp_path):
    one = member(name)
    with (
        counted(one.pipe) as rows,
        pytest.raises(lab.RecordingError, match=r"but only 10.0 kB are free"),
        lab.attach(one.pipe, guidance=lab.STG(1, SKIP), record=tmp_path / "run.zarr"),
    ):
        one.stock(num_inference_steps=30)
    assert len(rows) == 1
    assert left_behind(one.pipe) == []


@pytest.mark.usefixtures("full")
def test_a_plan_shows_that_it_does_not_fit_and_half_the_size_is_offered_only_once(tiny):
    assert "TOO LITTLE" in str(lab.plan(tiny.pipe, lab.CFG(4), **tiny.arguments({})))
    assert "TOO LITTLE" not in str(lab.plan(tiny.pipe, lab.CFG(4), record=False, **tiny.arguments({})))
    with pytest.raises(lab.RecordingError) as caught:
        tiny.sample(lab.CFG(4), record_dtype="float16", num_frames=17)
    assert "float16" not in str(caught.value)


# ---- asking ----


def test_a_plan_says_everything_as_text_and_as_a_table(tiny):
    guidance = (lab.CFG(4) + lab.STG(1, SKIP, start=0.5)).restart(0.3, 0.8, 2)
    plan = lab.plan(tiny.pipe, guidance, seed=3, overwrite=True, **tiny.arguments({"num_inference_steps": 6}))
    for fact in (
        "Plan of a run of WanPipeline (Wan)",
        str(guidance),
        "(1, 24, 3, 8, 8)",
        "in 2 rounds of Restart",
        "skip = skip:block:1 (1 row, from 1 on: 33% of the network)",
        ": the rest is reused",
        "weights of transformer",
        "not estimated",
        "float32, x_t and 4 branches a step",
        f"are free at {tempfile.gettempdir()}",
    ):
        assert fact in str(plan)
    html = plan._repr_html_()
    assert "<table" in html
    assert "style=" in html
    assert "<style" not in html
    assert repr(plan) == str(plan)


def test_planning_leaves_the_pipeline_alone(tiny):
    rig = tiny.copy()
    rig.stock()
    before = dict(vars(rig.pipe.scheduler))
    lab.plan(rig.pipe, lab.CFG(4).restart(0.3, 0.8), **rig.arguments({"num_inference_steps": 9}))
    assert all(vars(rig.pipe.scheduler)[key] is value for key, value in before.items())
    assert left_behind(rig.pipe) == []


@pytest.mark.parametrize(
    ("guidance", "call", "error", "match"),
    [
        (lab.STG(1, lab.skip([9])), {}, lab.GuidanceError, "layer 9 is out of range"),
        (lab.STG([1, 2], SKIP), {}, lab.GuidanceError, "2 scales were given for a run of 4 steps"),
        (lab.STG(1, lab.per_step(SKIP)), {}, lab.GuidanceError, "1 weak models for a run of 4 steps"),
        (lab.CFG(4).restart(0.001, 0.002), {}, lab.GuidanceError, "holds no step of this run"),
        (lab.STG(1, lab.skip([1], prompt="negative")), {}, lab.GuidanceError, "needs the unconditional prediction"),
        (lab.CFG(4), {"num_inference_step": 3}, lab.CallError, "Did you mean 'num_inference_steps'"),
        (lab.CFG(4), {"prompt": None}, lab.CallError, "no prompt was given"),
        (lab.CFG(4), {"record_dtype": "int8"}, lab.RecordingError, "record_dtype 'int8' is unknown"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_what_sample_would_refuse_the_plan_refuses(tiny, guidance, call, error, match):
    for use in (lab.plan, lambda pipe, guidance, **call: lab.sample(pipe, guidance=guidance, **call)):
        with no_compute(tiny.pipe), pytest.raises(error, match=match):
            use(tiny.pipe, guidance, **{**tiny.arguments({}), **call})


def test_a_plan_of_the_embedded_model(digits):
    plan = lab.plan(digits.pipe, lab.CFG(4) + lab.STG(1, SKIP), prompt=[PROMPT, PROMPT])
    assert plan.shape == (2, 24, 5, 16, 16)
    assert plan.passes == 3 * 50  # the pipeline's own default
    assert family_of(digits.pipe).name in plan.pipeline
