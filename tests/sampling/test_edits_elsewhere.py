"""Edits of the main pass where other parts of the lab repeat it: sweeps of layers, attributions, recorded states."""

import numpy as np
import pytest
from kit.zoo import member

import stg_lab as lab

CALL = {"num_inference_steps": 3, "prompt": "a red seven moving left"}
EDITED = lab.CFG(4) + lab.Edit(lab.nag(20, alpha=1))


@pytest.mark.parametrize("passes", [lab.Passes(), lab.Passes(reuse=False, rows="batch")], ids=str)
def test_a_sweep_under_an_edit_is_of_the_edited_model_as_a_sampled_run_is(tiny, passes):
    run = tiny.sample(EDITED + lab.Probe(lab.skip([2])), **CALL).recording
    ds = lab.ablate(tiny.pipe, 1, layers=[2], parts=["block"], guidance=EDITED, passes=passes, progress=False,
                    **tiny.arguments(CALL))  # fmt: skip
    assert np.allclose(ds.x0.values[0, 0, 0, 0], run.x0("skip").isel(step=1).values, atol=1e-5)
    cond, skip = (run.prediction(b).isel(step=1).values for b in ("cond", "skip"))
    assert np.allclose(ds.l2.values.ravel(), np.linalg.norm((cond - skip).ravel()), rtol=1e-4)
    bare = lab.ablate(
        tiny.pipe, 1, layers=[2], parts=["block"], guidance=lab.CFG(4), progress=False, **tiny.arguments(CALL)
    )
    assert not np.allclose(bare.l2.values, ds.l2.values, rtol=1e-2)
    taken = lab.ablate(tiny.pipe, 1, state=run, layers=[2], parts=["block"], passes=passes, progress=False)
    assert np.allclose(taken.l2.values, ds.l2.values, rtol=1e-5)


@pytest.mark.parametrize("name", ["latte", "sd3"])
def test_rows_of_one_call_are_swept_under_the_edit_of_the_caption(name):
    one = member(name)  # in SD3 the edited call has every row twice
    guidance = lab.CFG(3) + lab.Edit(lab.nag(3, alpha=1))
    with lab.attach(one.pipe, guidance=guidance + lab.Probe(lab.skip([1])), record=True) as trace:
        one.stock(guidance_scale=3.0)
    recorded = trace.recording.x0("skip").isel(step=1).values
    ds = lab.ablate(one.pipe, 1, layers=[1], parts=["block"], guidance=guidance, progress=False, **one.arguments({}))
    assert np.allclose(ds.x0.values[0, 0, 0, 0], recorded, atol=1e-5)


def test_an_attribution_under_an_edit_is_the_slope_of_the_edited_model(tiny):
    found = lab.attribute(tiny.pipe, 1, layers=[2], parts=["block"], guidance=EDITED, progress=False,
                          **tiny.arguments(CALL))  # fmt: skip
    some = [lab.skip([2], strength=share) for share in (0.02, 0.01)]
    run = tiny.sample(EDITED + lab.Probe(some[0]) + lab.Probe(some[1]), **CALL).recording
    cond, uncond = (run.prediction(b).isel(step=1).values.astype(float) for b in ("cond", "uncond"))
    names = {spec: name for name, spec in run.weak.items()}
    whole, half = (((cond - run.prediction(names[str(w)]).isel(step=1).values) * (cond - uncond)).sum() for w in some)
    assert np.allclose(found.inner.values.ravel(), (4 * half - whole) / 0.02, rtol=2e-2)
    bare = lab.attribute(tiny.pipe, 1, layers=[2], parts=["block"], guidance=lab.CFG(4), progress=False,
                         **tiny.arguments(CALL))  # fmt: skip
    assert not np.allclose(bare.inner.values, found.inner.values, rtol=0.1)
