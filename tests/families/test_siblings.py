"""Siblings of the families: the trust tests that tell whether a class is served, on the tiny pipelines of `kit.siblings`."""

import pytest
from kit.siblings import SIBLINGS, sibling
from kit.trust import (  # noqa: F401 - collected here, with the pipelines of this file
    guidance_survives_offloading,
    test_it_describes_itself,
    test_recording_leaves_the_stock_bits,
    test_skipping_attention_is_an_attention_whose_map_is_the_identity,
    test_the_last_latents_decode_to_the_pipelines_own_output,
    test_the_recorded_branches_give_the_prediction_that_was_stepped_with,
    x0_is_the_schedulers_own,
)

# The table of families is checked after these.
pytestmark = [pytest.mark.xdist_group("families"), pytest.mark.slow]


#: Pipelines that change their latents after the scheduler's step, which the lab tells.
EDITS = pytest.mark.filterwarnings("ignore:the latents were changed between steps")


@pytest.fixture(params=[pytest.param(name, marks=[EDITS] * (name == "ltx-condition")) for name in sorted(SIBLINGS)])
def one(request):
    return sibling(request.param)


def test_guidance_survives_offloading(one):
    guidance_survives_offloading(one, "offload")


@pytest.mark.parametrize("name", ["animatediff", "animatediff-video", "cogvideox-control"])
def test_x0_is_the_schedulers_own(name):
    x0_is_the_schedulers_own(sibling(name))
