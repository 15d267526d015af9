"""`lab.from_json` reads what other tools' users have: workflows, settings files, a line of words."""

import json

import numpy as np
import pytest
from kit import zoo
from kit.comfyui import SAID, SIGMAS, weak_prediction

import stg_lab as lab
from stg_lab.guidance import Moment, as_guidance, combine
from stg_lab.interop.expressible import model_at
from stg_lab.x0 import OneStep

SHAPE = (2, 3, 4)


def predicted(guidance, step, sigma):
    """The guided prediction of a sum at a step, from numbers that are the same for every sum."""
    rng = np.random.default_rng(step)
    c, u, x_t = (rng.standard_normal(SHAPE) * scale for scale in (1.0, 1.3, 1.1))
    at = Moment(step, len(SIGMAS), sigma, one_step=OneStep(1.0, -sigma), x_t=x_t)
    weak = {name: weak_prediction(model_at(m, step).layers) for name, m in guidance.needed(at).items()}
    return combine(guidance, {"cond": c, "uncond": u, **weak}, at)


@pytest.mark.parametrize("name", SAID)
def test_what_is_exported_for_comfyui_is_read_back(name):
    guidance = as_guidance(SAID[name])
    read = lab.from_json(lab.export(guidance, "comfyui", sigmas=SIGMAS, shift=3.0), shift=3.0)
    for step, sigma in enumerate(SIGMAS):
        np.testing.assert_allclose(predicted(read, step, sigma), predicted(guidance, step, sigma), rtol=1e-6, atol=1e-9)


def page(*nodes, links=()):
    """A workflow as the page saves it: nodes are (number, kind, widgets, {input: link})."""
    made = [
        {
            "id": number, "type": kind, "mode": mode[0] if mode else 0, "widgets_values": widgets,
            "inputs": [{"name": name, "type": "MODEL", "link": link} for name, link in inputs.items()],
        }
        for number, kind, widgets, inputs, *mode in nodes
    ]  # fmt: skip
    return json.dumps({"nodes": made, "links": [[number, *ends, "MODEL"] for number, *ends in links]})


def test_a_workflow_of_the_page_with_the_core_node():
    text = page(
        (1, "UNETLoader", ["wan.safetensors", "default"], {}),
        (2, "LoraLoaderModelOnly", ["style.safetensors", 0.8], {"model": 10}),
        (3, "ModelSamplingSD3", [8.0], {"model": 11}),
        (4, "SkipLayerGuidanceDiT", ["7, 8, 9", "", 3.0, 0.01, 0.5, 0.0], {"model": 12}),
        (5, "KSampler", [42, "randomize", 30, 6.0, "uni_pc", "simple", 1.0], {"model": 13}),
        links=[(10, 1, 0, 2, 0), (11, 2, 0, 3, 0), (12, 3, 0, 4, 0), (13, 4, 0, 5, 0)],
    )
    with pytest.warns(UserWarning, match=r"read as CFG\(6\).*Not carried over.*2 LoraLoaderModelOnly"):
        read = lab.from_json(text)
    high, low = (8 * (1 - p) / (1 + 7 * (1 - p)) for p in (0.01, 0.5))
    assert read == lab.CFG(6) + lab.STG(3, lab.skip([7, 8, 9]), sigma=(low, high))


WAN = lab.skip([9, 10])


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def api(**nodes):
    return json.dumps({name.strip("n"): one for name, one in nodes.items()})


SLG = {"blocks": "9,10", "start_percent": 0.1, "end_percent": 0.9}
READ = {
    "KJNodes": (
        api(n1=node("SkipLayerGuidanceWanVideo", model=["7", 0], **SLG), n2=node("KSampler", model=["1", 0], cfg=5, steps=20)),
        lab.convention("B", WAN, cfg=5, start=0.1, stop=0.95),
    ),
    "WanVideoWrapper": (
        api(n1=node("WanVideoSLG", **SLG), n2=node("WanVideoSampler", slg_args=["1", 0], cfg=5, steps=20)),
        lab.convention("B", WAN, cfg=5, start=0.1, stop=0.95),
    ),
    "core, simple": (
        api(
            n1=node("SkipLayerGuidanceDiTSimple", double_layers="9, 10", single_layers="", start_percent=0.0, end_percent=1.0),
            n2=node("CFGGuider", model=["1", 0], cfg=5),
            n3=node("SamplerCustomAdvanced", guider=["2", 0]),
        ),
        lab.convention("B", WAN, cfg=5),
    ),
    "core, SD3": (
        api(n1=node("SkipLayerGuidanceSD3", layers="7, 8, 9", scale=2.8, start_percent=0, end_percent=1), n2=node("KSampler", model=["1", 0], cfg=5)),
        lab.CFG(5) + lab.STG(2.8, lab.skip([7, 8, 9])),
    ),
    "core, LTX": (
        api(n1=node("LTXVSpatioTemporalGuidance", scale=1.5, blocks="29"), n2=node("CFGGuider", model=["1", 0], cfg=3)),
        lab.CFG(3) + lab.STG(1.5, lab.skip([29], part="attention")),
    ),
    "ComfyUI-LTXVideo": (
        api(n1=node("LTXVApplySTG", block_indices="14, 19"), n2=node("STGGuider", model=["1", 0], cfg=3, stg=1, rescale=0.7)),
        (lab.CFG(3) + lab.STG(1, lab.skip([14, 19], part="attention"))).in_x0().rescale(0.7, per="batch"),
    ),
    "Wan2GP": (
        json.dumps({"model_type": "t2v", "guidance_scale": 5, "num_inference_steps": 30, "slg_switch": 1, "slg_layers": [9, 10], "slg_start_perc": 10, "slg_end_perc": 90}),
        lab.convention("B", WAN, cfg=5, start=0.1, stop=0.9),
    ),
    "Wan2GP, CFG-Zero*": (
        json.dumps({"model_type": "t2v", "guidance_scale": 5, "cfg_star_switch": 1, "cfg_zero_step": 1}),
        lab.CFG(5).zero_star(2),
    ),
    "words, A": ("blocks 9,10 start 0.1 end 0.9 cfg 5 scale 3", lab.CFG(5) + lab.STG(3, WAN, start=0.1, stop=0.9)),
    "words, B": ("SLG: blocks 9, 10, start 10%, end 90%, cfg 5", lab.convention("B", WAN, cfg=5, start=0.1, stop=0.9)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:read as")
@pytest.mark.parametrize("name", READ)
def test_what_other_tools_write_is_read(name):
    text, guidance = READ[name]
    assert lab.from_json(text) == as_guidance(guidance)


def test_the_words_of_a_thread_need_a_scale():
    text = "blocks 9,10 start 0.1 end 0.9"
    assert lab.from_json(text, cfg=6) == lab.convention("B", WAN, cfg=6, start=0.1, stop=0.9)
    with pytest.raises(lab.GuidanceError, match=r"the strength is CFG's.*cfg=6"):
        lab.from_json(text)
    with pytest.raises(lab.GuidanceError, match="does not read 'sigma 3'"):
        lab.from_json("blocks 9 sigma 3")


def test_single_blocks_are_counted_behind_the_double_ones():
    text = api(
        n1=node("SkipLayerGuidanceDiT", double_layers="1", single_layers="0, 1", scale=3, start_percent=0, end_percent=1),
        n2=node("KSampler", model=["1", 0], cfg=1),
    )  # fmt: skip
    with pytest.raises(lab.GuidanceError, match=r"names single blocks 0, 1.*pipe=pipe"):
        lab.from_json(text)
    assert lab.from_json(text, pipe=zoo.member("flux").pipe) == lab.Guidance((lab.STG(3, lab.skip([1, 2, 3])),))
    with pytest.warns(UserWarning, match="single_layers of 1 SkipLayerGuidanceDiT, since WanTransformer3DModel has no"):
        assert lab.from_json(text, pipe=zoo.member("wan").pipe) == lab.Guidance((lab.STG(3, lab.skip([1])),))


def test_the_middle_of_a_unet_is_that_of_animatediff():
    from kit.siblings import sibling

    text = api(n1=node("PerturbedAttentionGuidance", scale=3.0), n2=node("KSampler", model=["1", 0], cfg=7))
    pipe = sibling("animatediff").pipe
    read = lab.from_json(text, pipe=pipe)
    assert read == lab.CFG(7) + lab.STG(3, lab.skip([2], part="attention", axis="spatial"))
    assert "mid_block" in next(n for n, m in pipe.unet.named_modules() if m is lab_layer(pipe, 2))
    with pytest.raises(lab.GuidanceError, match="AnimateDiff has one"):
        lab.from_json(text)


def lab_layer(pipe, number):
    return lab.families.family_of(pipe).layers(pipe.unet)[number]["spatial"]


def test_everything_that_stands_in_the_way_is_listed_at_once():
    text = api(
        n1=node("CFGNorm", strength=1.0),
        n2=node("SkipLayerGuidanceDiT", model=["1", 0], double_layers="7", scale=3, start_percent=0.1, end_percent=0.5),
        n3=node("SkipLayerGuidanceWanVideo", model=["2", 0], **SLG),
        n4=node("KSampler", model=["3", 0], cfg=5),
    )  # fmt: skip
    with pytest.raises(lab.GuidanceError) as error:
        lab.from_json(text)
    for part in ("node 1 CFGNorm is a guidance", "node 2 SkipLayerGuidanceDiT acts from 0.1", "shift=3.0", "node 3", "steps=30"):  # fmt: skip
        assert part in str(error.value)
    settings = {"model_type": "t2v", "guidance_scale": 5, "apg_switch": 1, "NAG_scale": 2.5}
    with pytest.raises(lab.GuidanceError, match=r"apg_switch=1; NAG_scale=2\.5"):
        lab.from_json(json.dumps(settings))


def test_of_several_samplers_one_is_said():
    text = api(n1=node("KSampler", cfg=5), n2=node("KSampler", cfg=3))
    with pytest.raises(lab.GuidanceError, match=r"several places: 1 KSampler, 2 KSampler.*node=1"):
        lab.from_json(text)
    assert lab.from_json(text, node=2) == as_guidance(lab.CFG(3))
    with pytest.raises(lab.GuidanceError, match="no sampler or guider"):
        lab.from_json(api(n1=node("VAEDecode")))


def test_what_is_bypassed_does_nothing_and_primitives_are_followed():
    slg = (2, "SkipLayerGuidanceWanVideo", ["9,10", 0.0, 1.0], {"model": 10}, 4)
    sampler = (3, "KSampler", [1, "fixed", 20, 9.0, "euler", "simple", 1.0], {"model": 11, "cfg": 12})
    text = page((1, "UNETLoader", [], {}), slg, sampler, (4, "PrimitiveFloat", [5.0], {}), links=[(10, 1, 0, 2, 0), (11, 2, 0, 3, 0), (12, 4, 0, 3, 1)])  # fmt: skip
    assert lab.from_json(text) == as_guidance(lab.CFG(5))
    with pytest.raises(lab.GuidanceError, match="has subgraphs"):
        lab.from_json(json.dumps({"nodes": [], "links": [], "definitions": {"subgraphs": [{}]}}))


def test_a_convention_takes_a_window():
    assert lab.convention("A", WAN, cfg=4, scale=2, start=0.2, stop=0.5) == lab.CFG(4) + lab.STG(2, WAN, start=0.2, stop=0.5)  # fmt: skip
    assert lab.convention("C", WAN, cfg=4, scale=2, sigma=(0.1, 0.5)).terms[1].sigma == (0.1, 0.5)
    with pytest.raises(lab.GuidanceError, match="start"):
        lab.convention("B", WAN, cfg=4, start=0.9, stop=0.1)
