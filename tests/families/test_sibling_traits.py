"""What is special about single siblings: sections, given tokens, two kinds of layers, and those that cannot be guided."""

import pytest
import torch
from kit.siblings import clip, sibling
from kit.trust import attached, tensor
from kit.watch import branch

import stg_lab as lab
from stg_lab.families import FAMILIES, family_of
from stg_lab.families.refused import REFUSED

WEAK = lab.STG(1.0, lab.skip([1]))


@pytest.mark.filterwarnings("ignore:.* began a second loop of steps")
def test_segments_and_sections_are_runs_of_their_own():
    one = sibling("framepack")
    stock = one.stock(num_frames=17)
    recorded, trace = attached(one, num_frames=17)
    assert torch.equal(recorded, stock)
    assert len(trace.recordings) == 2
    assert all(recording.complete for recording in trace.recordings)
    assert not torch.equal(attached(one, WEAK, num_frames=17)[0], stock)
    assert "trace.recordings" in str(lab.describe(one.pipe))
    one = sibling("wan-animate")
    longer = {"pose_video": clip(17, 32, 64), "face_video": clip(17, 16, 16)}
    stock = tensor(one.stock(output_type="np", **longer))
    recorded, trace = attached(one, output_type="np", **longer)
    assert torch.equal(recorded, stock)
    assert len(trace.recordings) == 2


def test_space_and_time_are_apart_in_animatediff():
    one = sibling("animatediff")
    space, time = (lab.skip([2], axis=axis) for axis in ("spatial", "temporal"))
    _, trace = attached(one, lab.Probe(space) + lab.Probe(time) + lab.Probe(lab.skip([2])))
    s, t, both = (branch(trace.recording, name, 0) for name in trace.recording.weak)
    assert not torch.equal(s, t)
    assert not torch.equal(t, both)
    assert "layers 1, 3, 4 have motion modules alone" in str(lab.describe(one.pipe))
    with pytest.raises(lab.GuidanceError, match="these layers have no such part along this axis"):
        attached(one, lab.Probe(lab.skip([1], axis="spatial")))


def test_qwen_is_rebuilt_with_its_cfg_and_guided_without():
    one = sibling("qwen")
    negative = {f"negative_{k}": v for k, v in one.call.items() if "embeds" in k}
    with_cfg = {**negative, "true_cfg_scale": 3.0}
    stock = tensor(one.stock(**with_cfg))
    recorded, trace = attached(one, **with_cfg)
    assert torch.equal(recorded, stock)
    assert trace.rebuilt
    with pytest.raises(
        lab.GuidanceError, match=r"to the length of the conditional prediction\. Call it with true_cfg_scale=1"
    ):
        attached(one, WEAK, **with_cfg)


def test_given_tokens_are_kept_and_not_reached_by_place():
    one = sibling("ltx2-condition")
    _, trace = attached(one, lab.STG(2.0, lab.skip([1])))
    for step in range(trace.recording.steps):
        skipped, whole = (trace.recording.x0(name).isel(step=step).values for name in ("skip", "cond"))
        assert (skipped[:, :, 0] == whole[:, :, 0]).all()
        assert (skipped[:, :, 1:] != whole[:, :, 1:]).all()
    with pytest.raises(lab.GuidanceError, match="so its attention cannot be edited by place"):
        attached(one, lab.STG(1, lab.skip([1], part="attention", axis="temporal")))


def test_latents_without_a_frame_of_their_own_are_not_decoded():
    one = sibling("hunyuan-image-concat")
    call = {k: v for k, v in one.arguments({}).items() if k != "output_type"}
    run = lab.sample(one.pipe, **{k: v for k, v in call.items() if k != "true_cfg_scale"}, output_type="latent")
    with pytest.raises(lab.CallError, match=r"drops the first latent frame.*run\.recording\.ds\.final"):
        _ = run.video
    assert lab.decode(one.pipe, run.recording.ds.final).shape[1] == 5


def test_plans_of_siblings_have_the_shape_of_the_recording():
    for name in ("wan-vace", "wan-animate", "skyreels-image", "hunyuan15-image", "cogvideox-control", "chroma", "flux2", "motif"):  # fmt: skip
        one = sibling(name)
        call = {k: v for k, v in one.arguments({}).items() if k not in ("guidance_scale", "true_cfg_scale")}
        shape = lab.plan(one.pipe, **call).shape
        assert shape == attached(one)[1].recording.ds.x_t.shape[1:], name


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_guided_says_why(name):
    pipe = type(name, (), {})()
    with pytest.raises(lab.families.UnsupportedPipelineError, match=f"{name} cannot be guided: "):
        family_of(pipe)
    assert not any(name in family.pipelines for family in FAMILIES)


def test_temporal_reasoning_is_refused():
    one = sibling("chrono")
    with pytest.raises(lab.CallError, match="enable_temporal_reasoning=True drops frames"):
        lab.sample(one.pipe, **one.arguments({"enable_temporal_reasoning": True}))


def test_given_pictures_of_flux2_stay_out_of_the_recording():
    one = sibling("flux2")
    pictures = {"image": [clip(1, 64, 64)[0]]}
    stock = tensor(one.stock(**pictures))
    recorded, trace = attached(one, WEAK + lab.Probe(lab.skip([0], part="attention")), **pictures)
    assert trace.rebuilt
    assert not torch.equal(recorded, stock)
    assert trace.recording.ds.sizes["y"] == 8


@pytest.mark.filterwarnings("ignore:.* began a second loop of steps")
def test_diffusion_forcing_is_served_where_all_frames_step_together():
    one = sibling("skyreels-forcing")
    with pytest.raises(lab.families.UnsupportedPipelineError, match=r"with ar_step above 0.*Call it with ar_step=0"):
        attached(one, WEAK, ar_step=1, causal_block_size=1)
    longer = {"num_frames": 17, "base_num_frames": 9, "overlap_history": 5}
    stock = tensor(one.stock(**longer))
    recorded, trace = attached(one, **longer)
    assert torch.equal(recorded, stock)
    assert [r.ds.sizes["frame"] for r in trace.recordings] == [3, 3, 3]
    assert [r.settings["given_frames"] for r in trace.recordings] == [0, 2, 2]
    assert not torch.equal(attached(one, WEAK, **longer)[0], stock)
    with pytest.raises(lab.GuidanceError, match="Leave Restart out"):
        attached(one, WEAK.restart(0.3, 0.999))


@pytest.mark.parametrize(
    "name",
    ["wan-vace", "wan-animate", "framepack", "motif", "animatediff-control", "chroma", "flux2", "ltx2-condition"],
)
def test_what_lies_between_the_blocks_is_no_part_of_what_is_reused(name):
    """Hints, faces, residuals of a control net, a decoder that starts again: the weak pass is the whole one bit for bit."""
    one = sibling(name)
    last = len(family_of(one.pipe).layers(next(iter(family_of(one.pipe).denoisers(one.pipe).values())))) - 1
    both = []
    for reuse in (True, False):
        passes = lab.Passes(rows="batch", reuse=reuse)
        both.append(attached(one, lab.STG(1.5, lab.skip([last])), passes=passes, num_inference_steps=2)[0])
    assert torch.equal(*both)
