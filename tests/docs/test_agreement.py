"""Agreement with the published STG pipelines: a batch of three written out here, and the figures that were measured."""

import copy
import json

import pytest
import torch
from kit import ROOT
from kit.watch import branch, captured
from kit.zoo import STEPS, member

import stg_lab as lab
from stg_lab.families import family_of

RESULT = ROOT / "benchmarks" / "results" / "agreement.json"
PAGE = ROOT / "docs" / "agreement.md"
LAYER, SCALE = 1, 1.5


def third_rows_pass(forward):
    """A block whose forward leaves out the last third of the batch, in both streams."""

    def passed(*args, **kwargs):
        given = [kwargs[name] for name in ("hidden_states", "encoder_hidden_states")]
        after = forward(*args, **kwargs)
        whole = isinstance(after, tuple)
        streams = after if whole else (after,)
        rows = streams[0].shape[0] // 3 * 2
        mended = tuple(torch.cat([new[:rows], old[rows:]]) for new, old in zip(streams, given, strict=False))
        return mended if whole else mended[0]

    return passed


@pytest.mark.parametrize("name", ["mochi", "cogvideox", "ltx"])
def test_the_guided_prediction_is_that_of_a_batch_of_uncond_cond_and_perturbed(name):
    one = member(name)
    family = family_of(one.pipe)
    with (
        captured(one.pipe) as calls,
        lab.attach(one.pipe, guidance=lab.STG(SCALE, lab.skip([LAYER])), record=True) as trace,
    ):
        one.stock()
    scale = family.scale(one.pipe, "transformer")
    for step in range(STEPS):
        module, args, kwargs = calls.made[step]
        oracle = copy.deepcopy(module)
        block = family.blocks(oracle)[LAYER]
        block.forward = third_rows_pass(block.forward)
        three = {
            k: torch.cat([v, v[1:]]) if torch.is_tensor(v) and v.ndim and v.shape[0] == 2 else v
            for k, v in kwargs.items()
        }
        with torch.no_grad():
            u, c, p = family.prediction(oracle(*args, **three)).chunk(3)
        expected = family.recorded(u + scale * (c - u) + SCALE * (c - p), one.pipe, kwargs, predicted=True)
        assert torch.allclose(branch(trace.recording, "guided", step), expected.float(), atol=1e-5, rtol=1e-5)


def test_the_measured_agreement_is_as_close_as_the_page_says():
    rows = json.loads(RESULT.read_text())["rows"]
    assert {row["family"] for row in rows} == {"wan", "mochi", "cogvideox", "ltx", "hunyuan"}
    for row in rows:
        bound = 0.0 if row["same_batch_shapes"] else 1e-5
        assert row["first_step"] <= bound
        assert row["final_latents"] <= bound
        assert row["stg_itself"] > 0.1  # or there would be nothing to agree about
        assert f"| {row['family']} | {row['rescale'] or 'no'} |" in PAGE.read_text()
