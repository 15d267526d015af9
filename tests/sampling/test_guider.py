"""The lab's sum as a guider of diffusers, and modular pipelines inside `attach` and `sample`."""

import copy

import numpy as np
import pytest
import torch
from diffusers import ClassifierFreeGuidance, SkipLayerGuidance, WanPipeline, WanTransformer3DModel
from diffusers.hooks import LayerSkipConfig
from diffusers.modular_pipelines import Wan22Blocks, WanBlocks
from kit import zoo
from kit.pipelines import generators
from kit.siblings import WAN
from kit.watch import left_behind

import stg_lab as lab
from stg_lab.families import family_of, family_of_denoiser
from stg_lab.families.denoisers import DENOISERS

SUM = (
    lab.CFG(5.0)
    + lab.STG(1.5, lab.skip([1]))
    + lab.STG(0.5, lab.skip([2], part="attention", axis="temporal"), start=0.3)
    + lab.STG(0.5, lab.skip([1], part="attention", prompt="negative"), reference="uncond")
)
#: Passes as a workflow makes them: each alone, with the rows of the call.
ALONE = lab.Passes(rows="batch")


class Wan:
    """A tiny Wan as a stock pipeline and as a modular one, of the same parts."""

    def __init__(self, *, two=False):
        words = zoo.member("wan").pipe
        parts = [zoo.prepared(WanTransformer3DModel(**WAN, in_channels=4, out_channels=4), k) for k in range(1 + two)]
        boundary = {"boundary_ratio": 0.8} if two else {}
        self.pipe = WanPipeline(words.tokenizer, words.text_encoder, zoo.wan_vae(), words.scheduler, *parts, **boundary)
        self.guiders = ("guider", "guider_2") if two else ("guider",)
        self.modular = (Wan22Blocks if two else WanBlocks)().init_pipeline()
        known = {name: part for name, part in self.pipe.components.items() if name in self.modular._component_specs}
        self.modular.update_components(**known, **boundary)
        for pipe in (self.pipe, self.modular):
            pipe.set_progress_bar_config(disable=True)
        sizes = {"height": 32, "width": 64, "num_frames": 9, "max_sequence_length": 8, "num_inference_steps": 3}
        self.call = {"prompt": "a red seven moving left", "negative_prompt": "", **sizes}

    def stock(self, guidance_scale=5.0):
        call = {**self.call, "guidance_scale": guidance_scale, "output_type": "latent", "generator": generators(0, 1)}
        return self.pipe(**call).frames

    def by_blocks(self, guider=None):
        guider = guider or ClassifierFreeGuidance(guidance_scale=5.0)
        self.modular.update_components(**{name: copy.deepcopy(guider) for name in self.guiders})
        return self.modular(**self.call, generator=generators(0, 1)[0], output="latents")


@pytest.fixture(scope="module")
def wan():
    return Wan()


def attached(pipe, run, guidance=SUM):
    with lab.attach(pipe, guidance=guidance, passes=ALONE, record=True) as trace:
        latents = run()
    return latents, trace


def test_in_a_modular_pipeline_it_is_attach_bit_for_bit(wan):
    assert torch.equal(wan.by_blocks(), wan.stock())
    guided, _ = attached(wan.pipe, wan.stock)
    assert not torch.equal(guided, wan.stock())
    assert torch.equal(wan.by_blocks(lab.guider(SUM)), guided)
    assert torch.equal(wan.by_blocks(lab.guider(lab.CFG(5.0))), wan.stock())
    assert left_behind(wan.pipe) == []


def test_wan22_has_two_guiders():
    wan = Wan(two=True)
    guided, _ = attached(wan.pipe, wan.stock)
    assert torch.equal(wan.by_blocks(lab.guider(SUM)), guided)
    assert torch.equal(attached(wan.modular, wan.by_blocks)[0], guided)


def test_in_a_pipeline_with_a_guider_it_is_attach_bit_for_bit():
    one = zoo.member("hunyuan15")
    guidance = lab.CFG(3.0) + lab.Guidance(SUM.terms[1:])
    with lab.attach(one.pipe, guidance=guidance, passes=ALONE):
        guided = one.stock()
    one.pipe.guider = lab.guider(guidance)
    assert torch.equal(one.stock(), guided)


def test_weak_passes_begin_where_they_may(wan):
    runs = {}
    blocks = wan.pipe.transformer.blocks
    handles = [b.register_forward_hook(lambda m, a, o, n=n: runs.__setitem__(n, runs.get(n, 0) + 1)) for n, b in enumerate(blocks)]  # fmt: skip
    try:
        guidance = lab.CFG(5.0) + lab.STG(1.0, lab.skip([2]))
        latents = wan.by_blocks(lab.guider(guidance))
        assert runs == {0: 6, 1: 6, 2: 9}  # cond and uncond, three steps; the skipped block answers with its input
        runs.clear()
        assert torch.equal(wan.by_blocks(lab.guider(guidance, passes=lab.Passes(reuse=False))), latents)
        assert runs == {0: 9, 1: 9, 2: 9}
    finally:
        for handle in handles:
            handle.remove()


def test_a_guider_begins_every_run_anew(wan):
    guidance = lab.CFG(5.0).apg(norm=15, momentum=-0.5)
    guided, _ = attached(wan.pipe, wan.stock, guidance)
    assert torch.equal(wan.by_blocks(lab.guider(guidance)), guided)
    call = {**wan.call, "output": "latents"}
    assert torch.equal(wan.modular(**call, generator=generators(0, 1)[0]), guided)


def test_without_cfg_there_is_no_unconditional_batch(wan):
    guider = lab.guider(lab.STG(1.0, lab.skip([1])))
    latents = wan.by_blocks(guider)
    assert [branch.name for branch in wan.modular.guider._run.branches] == ["cond", "skip"]
    assert wan.modular.guider.num_conditions == 2
    alone, _ = attached(wan.pipe, lambda: wan.stock(guidance_scale=1.0), lab.STG(1.0, lab.skip([1])))
    assert torch.equal(latents, alone)


def test_attach_and_sample_take_a_modular_pipeline(wan):
    stock, (guided, _) = wan.by_blocks(), attached(wan.pipe, wan.stock)
    ours, trace = attached(wan.modular, wan.by_blocks)
    assert torch.equal(ours, guided)
    assert trace.rebuilt
    assert torch.equal(wan.by_blocks(), stock)
    run = lab.sample(wan.modular, guidance=SUM, seed=0, passes=ALONE, **wan.call)
    assert torch.equal(torch.from_numpy(run.recording.ds.final.values), guided)
    assert np.allclose(lab.decode(wan.modular, guided), run.video, atol=1e-5)
    assert len(lab.plan(wan.modular, SUM, **wan.call).steps) == 3
    with pytest.raises(lab.GuidanceError, match=r"CFG\(3\).*pipe\.guider\.guidance_scale=5.*update_components"):
        lab.sample(wan.modular, guidance=lab.CFG(3), **wan.call)


def test_branches_are_named_by_the_guider(wan):
    config = LayerSkipConfig(indices=[1], fqn="blocks")
    guider = SkipLayerGuidance(
        5.0, 1.5, skip_layer_guidance_start=0.1, skip_layer_guidance_stop=1.0, skip_layer_config=config
    )
    alone = wan.by_blocks(guider)
    with pytest.warns(UserWarning, match="recording only"), lab.attach(wan.modular, record=True) as trace:
        recorded = wan.by_blocks(guider)
    assert torch.equal(recorded, alone)
    assert list(trace.recording.branches)[:3] == ["cond", "uncond", "cond_skip"]
    with pytest.raises(lab.GuidanceError, match="its guider is SkipLayerGuidance"):
        attached(wan.modular, lambda: wan.by_blocks(guider))


@pytest.mark.parametrize(
    ("guidance", "why"),
    [
        (lab.CFG(4).restart(0.2, 0.5), "Restart makes steps of its own"),
        (lab.CFG(4).rescale(0.5).in_x0(), "needs the latents"),
        (lab.STG(1, lab.skip([1]), sigma=(0.2, 0.5)), "window in sigma"),
        (lab.STG(1, lab.skip([1], prompt="none")), "another caption"),
    ],
    ids=str,
)
def test_what_a_guider_is_not_told_is_refused_when_it_is_made(guidance, why):
    with pytest.raises(lab.GuidanceError, match=why):
        lab.guider(guidance)


def test_a_weak_pass_that_fails_leaves_nothing_behind():
    wan = Wan()
    with pytest.raises(lab.GuidanceError, match="layer 7 is out of range"):
        wan.by_blocks(lab.guider(lab.STG(1, lab.skip([7]))))
    assert left_behind(wan.pipe) == []
    assert torch.equal(wan.by_blocks(), wan.stock())


def test_a_guider_is_made_anew_and_not_saved(wan, tmp_path):
    guider = lab.guider(SUM)
    assert guider.new().guidance == lab.from_guider(guider) == SUM
    assert copy.copy(guider).guidance == SUM
    assert "CFG(5) + STG(1.5" in repr(guider)
    with pytest.raises(lab.GuidanceError, match="not kept as a file"):
        guider.save_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["wan", "ltx", "hunyuan15", "mochi", "sd3", "skyreels"])
def test_a_denoiser_is_known_by_its_class(name):
    pipe = zoo.member(name).pipe
    assert family_of_denoiser(pipe.transformer).name == family_of(pipe).name
    assert set(DENOISERS.values()) <= {family.name for family in lab.families.FAMILIES}
