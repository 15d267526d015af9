"""`fork`: sampling on from a recorded state, held against the run itself and against sampling anew."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from kit.pipelines import FLOW, SCHEDULERS, SMALL, Rig, tiny_wan
from kit.watch import passes
from kit.zoo import member

import stg_lab as lab
from stg_lab.errors import UnsupportedPipelineError
from stg_lab.recording import Recording

OWN = lab.CFG(4) + lab.STG(1, lab.skip([1]))
OTHER = lab.CFG(2) + lab.STG(3, lab.skip([2], part="attention"))
STEPS = 4


@pytest.fixture(scope="module", params=["euler", "unipc", "dpm"])
def recorded(request, tmp_path_factory):
    """A pipeline and a run of it with two samples."""
    rig = Rig(tiny_wan(request.param), {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"]})
    return rig, rig.sample(OWN, record=tmp_path_factory.mktemp("fork") / "run.zarr", output_type="np")


@pytest.fixture(scope="module")
def euler(tiny):
    return tiny.sample(OWN)


def values(recording, name="final"):
    return recording.ds[name].values


def same_everywhere(one: Recording, other: Recording) -> bool:
    names = ("x_t", "prediction", "final")
    arrays = all(np.array_equal(values(one, n), values(other, n), equal_nan=True) for n in names)
    return arrays and one.branches == other.branches and one.ds.coords.to_dataset().equals(other.ds.coords.to_dataset())


@pytest.mark.parametrize("step", [1, 3])
def test_a_fork_that_changes_nothing_is_the_run_itself(recorded, step):
    _, run = recorded
    forked = lab.fork(run, step)
    assert same_everywhere(forked.recording, run.recording)
    np.testing.assert_array_equal(forked.video, run.video)
    s = forked.recording.settings
    assert (s["fork_step"], s["forked_from"], s["fork_exact"]) == (step, str(run.recording.path), True)
    assert s["forked_guidance"] == str(OWN)


def test_a_fork_at_the_first_step_is_sampling_anew(recorded):
    rig, run = recorded
    anew = rig.sample(OTHER, output_type="np")
    forked = lab.fork(run.recording, 0, OTHER, pipe=rig.pipe)
    assert same_everywhere(forked.recording, anew.recording)
    np.testing.assert_array_equal(forked.video, anew.video)


@pytest.mark.parametrize("step", [2])
def test_a_fork_on_the_way_is_a_run_whose_guidance_changes_there(recorded, step):
    """The same sum written as one run: the old terms until the step, the new ones from there. No memory is lost: UniPC and DPM++
    look back at what was stepped with before."""
    rig, run = recorded
    share = step / STEPS
    weak = lab.skip([1])
    after = lab.STG([3.0] * STEPS, lab.skip([2], part="attention"), start=share)
    whole = lab.CFG(4) + lab.STG(1, weak, stop=share) + after
    expected = rig.sample(whole, output_type="np")
    forked = lab.fork(run, step, lab.CFG(4) + lab.STG(3, lab.skip([2], part="attention")))
    np.testing.assert_array_equal(values(forked.recording), values(expected.recording))
    np.testing.assert_array_equal(forked.video, expected.video)
    assert not np.array_equal(values(forked.recording), values(run.recording))


def test_the_steps_before_are_copied_and_cost_no_pass(tiny, euler):
    with passes(tiny.pipe) as made:
        forked = lab.fork(euler, 2, OTHER)
    rec, source = forked.recording, euler.recording
    assert len(made) == 2 + 2 * (2 + 1)  # CFG at the first step; cond, uncond and the weak model at the last two
    assert rec.branches == ["cond", "uncond", "skip", "guided"]
    np.testing.assert_array_equal(rec.ds.x_t.values[:3], source.ds.x_t.values[:3])
    for branch in ("cond", "uncond", "guided"):
        np.testing.assert_array_equal(rec.prediction(branch).values[:2], source.prediction(branch).values[:2])
    assert np.isnan(rec.prediction("skip").values[:2]).all()  # another weak model, though it has the same name
    assert rec.ds.run_step.values.tolist() == [0, 1, 2, 3]
    assert rec.weak == {"skip": "skip:attention:2"}


def test_a_fork_of_a_fork_has_the_whole_history(tiny, euler):
    first = lab.fork(euler, 1, OTHER)
    again = lab.fork(first, 3)
    assert same_everywhere(again.recording, first.recording)
    third = lab.fork(first.recording, 2, OWN, pipe=tiny.pipe)
    np.testing.assert_array_equal(third.recording.ds.x_t.values[2], first.recording.ds.x_t.values[2])


def test_momentum_is_carried_over(tiny):
    g = lab.CFG(4).apg(momentum=-0.5) + lab.STG(1, lab.skip([1])).apg(momentum=0.5)
    run = tiny.sample(g)
    assert same_everywhere(lab.fork(run, 2).recording, run.recording)
    cold = lab.fork(run, 2, lab.CFG(4).apg(momentum=-0.5) + lab.STG(1, lab.skip([1])))
    assert not np.array_equal(values(cold.recording), values(run.recording))


def test_a_call_without_a_sum_of_ours_is_forked_under_its_own_scale(tiny):
    run = tiny.sample(None, guidance_scale=3.0)
    assert torch.equal(lab.fork(run, 2).output.frames, run.output.frames)
    plain = lab.fork(run, 2, lab.CFG(3))
    assert torch.equal(plain.output.frames, run.output.frames)
    no_cfg = lab.fork(run, 2, lab.STG(1, lab.skip([1])))  # the new sum is all the guidance there is
    assert no_cfg.call["guidance_scale"] == 1.0


def test_half_precision_models_are_forked_bit_for_bit():
    rig = Rig(tiny_wan("unipc", dtype=torch.bfloat16), SMALL)
    run = rig.sample(OWN)
    assert same_everywhere(lab.fork(run, 2).recording, run.recording)


def test_a_float16_recording_says_that_it_is_not_exact(tiny, euler):
    half = tiny.sample(OWN, record_dtype="float16")
    with pytest.warns(UserWarning, match="float16, so this fork starts near"):
        forked = lab.fork(half, 2)
    assert forked.recording.settings["fork_exact"] is False
    assert forked.recording.record_dtype == "float16"
    apart = torch.linalg.norm(forked.output.frames - euler.output.frames) / torch.linalg.norm(euler.output.frames)
    assert 0 < apart < 5e-3


def test_a_scheduler_with_a_memory_has_nearly_the_history_it_had_from_a_float16_recording():
    rig = Rig(tiny_wan("unipc"), SMALL)
    full, half = rig.sample(OWN), rig.sample(OWN, record_dtype="float16")
    with pytest.warns(UserWarning, match="float16, so this fork starts near the recorded run"):
        forked = lab.fork(half, 2)
    apart = torch.linalg.norm(forked.output.frames - full.output.frames) / torch.linalg.norm(full.output.frames)
    assert 0 < apart < 5e-3


@pytest.mark.parametrize("name", ["mochi", "cosmos", "sana"])
def test_other_families_that_hand_their_latents_over(name):
    one = member(name)
    one.call = {"prompt": "a cat", **one.call}
    names = [("prompt_embeds", "prompt_attention_mask"), ("negative_prompt_embeds", "negative_prompt_attention_mask")]
    order = [n for pair in names for n in pair if one.call.get(n) is not None]
    encoded = tuple(one.call.pop(n) for n in order)
    one.pipe.encode_prompt = lambda *args, **kwargs: encoded  # a recording holds no embeddings
    run = one.sample(None)
    assert same_everywhere(lab.fork(run, 2).recording, run.recording)


def test_a_stochastic_scheduler_draws_the_noise_it_drew():
    """Where the pipeline hands its generator on, the steps before draw from it too."""
    one = member("latte")
    one.call = {"prompt": "a cat", **one.call}
    encoded = one.call.pop("prompt_embeds"), one.call.pop("negative_prompt_embeds")
    one.pipe.encode_prompt = lambda *args, **kwargs: encoded
    one.pipe.scheduler = DDIMScheduler.from_config(one.pipe.scheduler.config)
    run = one.sample(None, eta=1.0)
    assert not np.array_equal(values(run.recording), values(one.sample(None).recording))
    assert same_everywhere(lab.fork(run, 2).recording, run.recording)


def test_noise_that_no_recording_holds_is_told():
    """Wan pipelines do not hand their generator to the scheduler."""
    rig = Rig(tiny_wan("euler"), SMALL)
    rig.pipe.scheduler = DPMSolverMultistepScheduler(**FLOW, algorithm_type="sde-dpmsolver++")
    run = rig.sample(OWN)
    with pytest.raises(lab.RecordingError, match=r"x_t at step 1 is not the one.*torch's global generator"):
        lab.fork(run, 2)


# ---- refusals, all before a weak pass ----


def test_a_family_with_latents_of_its_own_is_refused_before_any_pass(tiny, euler):
    one = member("cogvideox")
    one.pipe.transformer.forward = None  # a pass would fail in another way
    with pytest.raises(UnsupportedPipelineError, match=r"packs its latents.*lab\.rerun"):
        lab.fork(euler.recording, 2, pipe=one.pipe)


def test_rounds_of_restart_are_refused(tiny, euler):
    with_rounds = tiny.sample(lab.CFG(4).restart(0.5, 0.9, 1), num_inference_steps=6)
    with pytest.raises(lab.CallError, match=r"rounds of Restart.*Fork a run without"):
        lab.fork(with_rounds, 1)
    with passes(tiny.pipe) as made, pytest.raises(lab.GuidanceError, match="Restart begins again at step"):
        lab.fork(euler, 3, OWN.restart(0.5, 0.9, 1))
    assert made == []


@pytest.mark.parametrize("step", [-1, 4, 1.5, True])
def test_a_step_that_is_not_there_is_told(euler, step):
    with pytest.raises(lab.CallError, match=r"from 0 to 3.*step=2"):
        lab.fork(euler, step)


def test_what_is_no_recording_is_told():
    with pytest.raises(lab.CallError, match=r"Run or a Recording, .*got int"):
        lab.fork(7, 1)


def test_a_layer_that_is_not_there_is_told_before_any_pass(tiny, euler):
    with passes(tiny.pipe) as made, pytest.raises(lab.GuidanceError, match="layer"):
        lab.fork(euler, 2, lab.STG(1, lab.skip([7])))
    assert made == []


def test_another_scheduler_is_told_before_any_pass(tiny, euler):
    rig = tiny.copy()
    rig.pipe.scheduler = type(rig.pipe.scheduler)(shift=7.0)
    with passes(rig.pipe) as made, pytest.raises(lab.RecordingError, match="another scheduler"):
        lab.fork(euler.recording, 2, pipe=rig.pipe)
    assert made == []
    rig.pipe.scheduler = SCHEDULERS["unipc"]()
    with pytest.raises(lab.RecordingError, match="another"):
        lab.fork(euler.recording, 2, pipe=rig.pipe)


def test_another_model_is_told_at_the_first_step(tiny, euler):
    rig = tiny.copy()
    rig.pipe.transformer.blocks[1].ffn.net[2].bias.data.add_(0.5)
    with passes(rig.pipe) as made, pytest.raises(lab.RecordingError, match="cond at step 0 is not the one"):
        lab.fork(euler.recording, 3, OTHER, pipe=rig.pipe)
    assert len(made) == 2


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_fork_does_not_take_the_place_of_its_own_source(tiny, tmp_path, monkeypatch, overwrite):
    """It would be read after it was replaced: both would be lost. Refused before anything is computed, however it is named."""
    run = tiny.sample(OWN, record=tmp_path / "source.zarr")
    before = run.recording.ds.compute()
    (tmp_path / "link.zarr").symlink_to(tmp_path / "source.zarr")
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "source.zarr", "source.zarr", "./link.zarr"):
        with (
            passes(tiny.pipe) as made,
            pytest.raises(lab.CallError, match=r"is the recording that is forked.*source-fork.zarr"),
        ):
            lab.fork(run, 2, OTHER, record=place, overwrite=overwrite)
        assert made == []
    assert lab.open("source.zarr").ds.identical(before)
    assert lab.fork(run, 2, OTHER, record="source-fork.zarr").recording.complete


def test_a_fork_is_not_made_again_as_if_it_were_a_run(tiny, euler):
    forked = lab.fork(euler, 2, OTHER)
    with pytest.raises(lab.CallError, match=r"forked from .* at step 2.*lab\.fork\("):
        lab.rerun(forked.recording, tiny.pipe)
    assert np.array_equal(forked.baseline.output.frames, tiny.sample(lab.CFG(2)).output.frames)


def test_whoever_looks_on_hears_of_the_new_steps_and_may_end_the_run(tiny, euler, tmp_path):
    heard = []

    def look(seen):
        heard.append((seen.step, seen.steps, sorted(seen.predictions)))
        if seen.step == 2:
            raise ZeroDivisionError("enough")

    with pytest.raises(ZeroDivisionError, match="enough"):
        lab.fork(euler, 1, OTHER, record=tmp_path / "cut.zarr", on_step=look)
    assert heard == [(k, 4, ["cond", "guided", "skip", "uncond"]) for k in (1, 2)]
    with pytest.warns(lab.IncompleteRecordingWarning, match="after 3 of 4"):
        cut = lab.open(tmp_path / "cut.zarr")
    assert cut.steps == 3
    with torch.no_grad():  # the pipeline is as it was
        assert torch.equal(tiny.sample(OWN).output.frames, euler.output.frames)


def test_what_is_seen_is_what_is_recorded(tiny):
    seen = []
    run = tiny.sample(OWN, on_step=seen.append)
    for k, one in enumerate(seen):
        for branch in run.recording.branches:
            np.testing.assert_array_equal(one.x0(branch), run.recording.x0(branch).isel(step=k).values)
    with pytest.raises(lab.GuidanceError, match=r"no branch 'skp' at step 0.*Did you mean 'skip'"):
        seen[0].x0("skp")


def test_a_fork_takes_what_the_file_could_not_hold(tiny):
    with torch.no_grad():
        embeds, negative = tiny.pipe.encode_prompt("a red one growing", max_sequence_length=8, device="cpu")
    texts = {"prompt_embeds": embeds, "negative_prompt_embeds": negative}
    run = tiny.sample(OWN, prompt=None, **texts)
    recording = lab.open(run.recording.path)
    with pytest.raises(lab.CallError, match="prompt_embeds, negative_prompt_embeds could not be kept"):
        lab.fork(recording, 2, pipe=tiny.pipe)
    with pytest.raises(lab.CallError, match=r"takes no 'prompt_embed'. Did you mean 'prompt_embeds'\?.*lab.rerun"):
        lab.fork(recording, 2, pipe=tiny.pipe, prompt_embed=embeds)
    assert same_everywhere(lab.fork(recording, 2, pipe=tiny.pipe, **texts).recording, recording)
    assert same_everywhere(lab.fork(run, 2).recording, recording)  # a run has them at hand
