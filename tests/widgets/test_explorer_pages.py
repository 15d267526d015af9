"""Explorers without a kernel: a page of their own, and a picture in the notebook's stored output."""

import base64
import io
import json
import re

import numpy as np
import pytest
from kit.pipelines import SMALL
from PIL import Image

import stg_lab as lab
from stg_lab.gaussians import sweep, two_arms
from stg_lab.sheets import to_bytes
from stg_lab.widgets.base import Explorer
from stg_lab.widgets.sprites import Sprites
from stg_lab.widgets.still import GAP, NAMES, Still, Strip
from stg_lab.widgets.x0_explorer import X0Explorer

LEFT, TOP = NAMES, 30  # where the first strip of a still begins


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """Two samples under two weak models."""
    guidance = lab.CFG(4) + lab.STG(1, lab.skip([1])) + lab.Probe(lab.skip([1], part="attention"))
    call = {**SMALL, "prompt": ["a red seven moving left", "a blue two growing"], "num_inference_steps": 3}
    return lab.sample(tiny.pipe, guidance=guidance, record=tmp_path_factory.mktemp("run") / "run.zarr", **call)


@pytest.fixture(scope="module")
def explorers(run, tiny, tmp_path_factory):
    """One of every sort, each with something to show."""
    plane = two_arms()
    truth = plane.given(0)
    swept = sweep(truth.blurred(0.1), {"all": plane.blurred(0.1)}, truth, scales=(0, 1), count=20, steps=4)
    live = lab.widgets.live_run(
        tiny.pipe, guidance=lab.CFG(2), prompt="a red seven moving left", num_inference_steps=2, **SMALL
    )
    assert live.wait(120)
    assert not live.problem
    made = [
        lab.widgets.x0_explorer(run, baseline=run),
        lab.widgets.comparison_explorer(run, run),
        lab.widgets.watch_explorer(
            lab.sample(
                tiny.pipe, guidance=lab.Watch([1]), prompt="a red seven moving left", num_inference_steps=2, **SMALL
            )
        ),
        lab.widgets.guidance_explorer(run),
        lab.widgets.orthogonality_explorer(run),
        lab.widgets.grid_explorer({"with STG": run, "alone": run.baseline}),
        lab.widgets.ablation_explorer("layers"),
        lab.widgets.fork_explorer(run),
        lab.widgets.gaussian_explorer(swept, truth),
        live,
        lab.rate({"first": run, "second": run}, out=tmp_path_factory.mktemp("rated") / "ratings.jsonl").widget,
    ]
    return {type(one).__name__: one for one in made}


def kinds():
    public = [getattr(lab.widgets, name) for name in lab.widgets.__all__]
    return [one.__name__ for one in public if isinstance(one, type) and issubclass(one, Explorer)]


def carried(page):
    """The data of a page, as its script reads them."""
    [text] = re.findall(r"<script type='application/json' id='explorer-data'>(.*?)</script>", page, re.DOTALL)
    return json.loads(text)


def picture(explorer):
    bundle = explorer._repr_mimebundle_()[0]
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))))


@pytest.mark.parametrize("kind", kinds())
def test_a_page_carries_all_that_the_explorer_does(explorers, kind):
    explorer = explorers[kind]
    data = carried(explorer.to_html(title="<b>seven</b>"))
    for trait in ("sheets", "arrays"):
        packed = {name: base64.b64decode(text) for name, text in data.get(trait, {}).items()}
        assert packed == getattr(explorer, trait)
    assert data["values"]["view"] == json.loads(json.dumps(explorer.view))
    assert {name: data["values"][name] for name in explorer.STATE} == json.loads(json.dumps(explorer.state))


@pytest.mark.parametrize("kind", kinds())
def test_nothing_on_a_page_is_taken_for_markup(explorers, kind):
    page = explorers[kind].to_html(title="<b>seven</b>")
    assert "<title>&lt;b&gt;seven&lt;/b&gt;</title>" in page
    assert len(re.findall("<script", page)) == len(re.findall("</script", page)) == 2
    assert not re.findall(r"""(?:src|href)=["']?(?!data:)[a-z]+:""", page)


def test_a_caption_cannot_end_the_data(explorers):
    sprites = explorers["X0Explorer"].sprites
    samples = [{"caption": "</script><b>", "seed": 0}]
    page = X0Explorer(Sprites({**sprites.view, "samples": samples}, sprites.sheets)).to_html()
    assert carried(page)["values"]["view"]["samples"] == samples
    assert len(re.findall("</script", page)) == 2


@pytest.mark.parametrize("kind", kinds())
def test_the_stored_output_has_a_picture_beside_the_live_view(explorers, kind):
    pixels = picture(explorers[kind])
    assert pixels.shape[1] <= 1010
    assert pixels[TOP:, LEFT:].std() > 10


def test_the_picture_is_the_recordings(run, explorers):
    explorer = explorers["X0Explorer"]
    explorer.step, explorer.sample = 2, 1
    pixels = picture(explorer)
    names = [row["name"] for row in explorer.view["rows"]]
    for branch in ("cond", "uncond", "skip:block:1", "guided"):
        clip = to_bytes(
            run.recording.video(branch, step=2)[1]
        )  # [frame, height, width, rgb], of 16 pixels, shown at 4 times
        top = TOP + names.index(branch) * (64 + GAP)
        for frame, expected in enumerate(clip):
            left = LEFT + 64 * frame
            np.testing.assert_array_equal(pixels[top : top + 64 : 4, left : left + 64 : 4], expected)


def test_the_picture_shows_vectors_around_grey(run, explorers):
    explorer = explorers["GuidanceExplorer"]
    rec, (step, sample) = run.recording, (explorer.step, explorer.sample)
    pixels = picture(explorer)
    apart = (rec.video("cond", step=step) - rec.video("skip:block:1", step=step))[sample]
    order = [strip.name for strip in explorer.still().strips]
    top = TOP + order.index("cond - skip:block:1") * (64 + GAP)
    shown = pixels[top : top + 64 : 4, LEFT : LEFT + 64 * len(apart) : 4].astype(float) - 127.5
    flat = np.concatenate(list(apart), axis=1)
    inside = (np.abs(shown) < 127).all(-1) & (np.abs(flat) > 1e-4).all(
        -1
    )  # neither saturated, nor clipped with the picture
    assert inside.sum() > 100
    assert np.corrcoef(shown[inside].ravel(), flat[inside].ravel())[0, 1] > 0.9


def test_a_wide_video_is_made_to_fit_and_a_long_name_is_wrapped():
    wide = np.full((90, 4000, 3), 200, np.uint8)
    still = Still("wide", [Strip("temporal attention of blocks 3, 4 and 5", "#0072B2", wide)])
    pixels = np.asarray(Image.open(io.BytesIO(still.png)))
    assert pixels.shape[1] == NAMES + 850 + GAP
    assert (pixels[TOP, LEFT : LEFT + 850] == 200).all()  # no letter of the name lies on the picture


def test_a_question_of_a_rating_shows_neither_setting(explorers):
    assert [strip.name for strip in explorers["BlindPairs"].still().strips] == ["left", "right"]
