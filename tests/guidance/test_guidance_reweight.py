"""A run steps with what its recording says: reweighting with the run's own guidance gives the recorded guided prediction."""

import numpy as np
import pytest
from kit.pipelines import SMALL, Rig, tiny_wan
from kit.zoo import ZOO, member

import stg_lab as lab
from stg_lab.families import family_of
from stg_lab.guidance import Guidance, as_guidance
from stg_lab.weak import parse

WEAK, OTHER = lab.skip([1]), lab.skip([2], part="attention")
SPACE, TIME = (lab.skip([1], part="attention", axis=axis) for axis in ("spatial", "temporal"))
PROMPTS = ["a red seven moving left", "a blue two growing"]

GUIDANCES = {
    "cfg": lab.CFG(4),
    "cfg and stg": lab.CFG(4) + lab.STG(1.5, WEAK),
    "stg alone": lab.STG(1.5, WEAK),
    "two weak models": lab.CFG(4) + lab.STG(1, WEAK) + lab.STG(-0.5, OTHER),
    "windows": lab.CFG(4, start=0.25, stop=0.75) + lab.STG(1, WEAK, stop=0.5),
    "windows in sigma": lab.CFG(4, sigma=(0.5, 0.95)) + lab.STG(1, WEAK, sigma=(0, 0.9)),
    "schedules": lab.CFG([4, 1, 2, 3]) + lab.STG(lambda share: 1 - share, WEAK),
    "rescale": (lab.CFG(4) + lab.STG(1, WEAK)).rescale(0.7),
    "rescale per batch": (lab.CFG(4) + lab.STG(1, WEAK)).rescale(0.7, per="batch"),
    "rescale in x0": (lab.CFG(4) + lab.STG(1, WEAK)).in_x0().rescale(0.7),
    "orthogonal": (lab.CFG(4) + lab.STG(1, SPACE) + lab.STG(2, TIME)).orthogonalize(),
    "orthogonal per frame in x0": (lab.STG(1, SPACE) + lab.STG(2, TIME))
    .orthogonalize(per="frame")
    .in_x0()
    .rescale(0.3),
    "convention B": lab.convention("B", WEAK, cfg=3),
    "convention C": lab.convention("C", WEAK, cfg=3, scale=2),
    "apg": lab.CFG(4).apg(0.2, norm=3.0),
    "apg with momentum": lab.CFG(4).apg(0.2, norm=3.0, momentum=-0.5),
    "apg with momentum in x0": lab.CFG(4).apg(0.2, norm=3.0, momentum=-0.5).in_x0(),
    "apg on stg": lab.CFG(4) + lab.STG(2, WEAK, start=0.25).apg(momentum=0.6),
    "zero star": lab.CFG(4).zero_star(2),
    "zero star in x0": lab.CFG(4).zero_star(1).in_x0(),
    "tangential": lab.CFG(4).tangential(),
    "magnitude": lab.CFG(4).magnitude(1.0) + lab.STG(1, WEAK).magnitude(0.5),
    "cfg++": lab.CFGpp(0.6),
    "cfg++ and stg": lab.CFGpp([0.2, 0.4, 0.6, 0.8]) + lab.STG(1, WEAK),
    "restart": (lab.CFG(4).apg(momentum=0.5) + lab.STG(1, WEAK)).restart(0.3, 0.8, 2),
    "probe": lab.CFG(4) + lab.Probe(WEAK) + lab.Probe(OTHER, stop=0.5),
}


def equal(reweighted, recording, guidance):
    """To float32 rounding of the prediction; in x0 space of the one-step prediction, which is that times the noise level."""
    noise = recording.ds.sigma if as_guidance(guidance).space == "x0" else 1.0
    off = np.abs(reweighted - recording.prediction("guided")) * noise
    return float((off / (1 + np.abs(reweighted) * noise)).max()) < 1e-5


@pytest.mark.parametrize("name", GUIDANCES)
def test_reweighting_with_the_runs_own_guidance_is_what_it_stepped_with(tiny, name):
    guidance = GUIDANCES[name]
    recording = tiny.sample(guidance, prompt=PROMPTS).recording
    read_back = Guidance.from_dict(recording.settings["guidance"], parse)
    for same in (guidance, read_back):
        assert equal(recording.reweight(same), recording, guidance)
    assert not np.isnan(recording.prediction("guided")).any()
    other = lab.CFG(4) if "uncond" in recording.branches else lab.CFG(1)
    assert equal(recording.reweight(other), recording, other) == (name in ("cfg", "probe"))


def test_one_recording_is_reweighted_to_any_guidance_over_its_branches(tiny):
    """Exact at the first step, where every run starts from the same latents."""
    recorded = tiny.sample(lab.CFG(4) + lab.Probe(WEAK) + lab.Probe(SPACE) + lab.Probe(TIME)).recording
    for name, guidance in GUIDANCES.items():
        if as_guidance(guidance).restarts or not set(map(str, as_guidance(guidance).weak.values())) <= set(
            recorded.weak.values()
        ):
            continue
        run = tiny.sample(guidance).recording
        first = recorded.reweight(guidance).isel(step=0).values
        assert np.allclose(first, run.prediction("guided").isel(step=0).values, rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("scheduler", ["unipc", "dpm"])
def test_multistep_samplers_too(scheduler):
    rig = Rig(tiny_wan(scheduler), SMALL)
    for name in ("windows in sigma", "apg with momentum in x0", "rescale in x0"):
        recording = rig.sample(GUIDANCES[name]).recording
        assert equal(recording.reweight(GUIDANCES[name]), recording, GUIDANCES[name]), name


def test_momentum_begins_anew_in_every_run(tiny):
    """Also when one guidance guides two calls inside one `with`."""
    guidance = lab.CFG(4).apg(momentum=0.9)
    first = tiny.sample(guidance).output.frames
    with lab.attach(tiny.pipe, guidance=guidance):
        again = [tiny.stock(guidance_scale=4.0) for _ in range(2)]
    assert all(np.array_equal(first, frames) for frames in again)


#: One of everything that asks for more than differences of predictions, at the CFG scale that all families here work with.
ASKING = {
    "rescale": (lab.CFG(3) + lab.STG(1, WEAK)).rescale(0.7),
    "rescale in x0": (lab.CFG(3) + lab.STG(1, WEAK)).rescale(0.7).in_x0(),
    "apg": lab.CFG(3).apg(0) + lab.STG(1, WEAK).apg(0.5, norm=3.0),
    "apg in x0": (lab.CFG(3).apg(0, norm=3.0) + lab.STG(1, WEAK)).in_x0(),
    "zero star": lab.CFG(3).zero_star(0) + lab.STG(1, WEAK).zero_star(0),
    "tangential": lab.CFG(3).tangential() + lab.STG(1, WEAK).tangential(),
    "magnitude": lab.CFG(3).magnitude(1.0) + lab.STG(1, WEAK).magnitude(0.5),
    "orthogonal": (lab.CFG(3) + lab.STG(1, SPACE) + lab.STG(2, TIME)).orthogonalize(),
}
GIVEN = ("wan-5b-image", "ltx-image")  # pipelines that throw away what is predicted for their first frame


class Stop(Exception):
    """Ends a run."""


def first_guided(one, guidance):
    """What a run steps with at its first step; there it ends."""
    seen = []

    def stop(step):
        seen.append(step.predictions["guided"]())
        raise Stop

    with pytest.raises(Stop):
        one.sample(guidance, record=False, on_step=stop)
    return seen[0]


def apart(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_family_steps_with_what_one_recording_says_of_each_guidance(name):
    """At the first step, where every run starts from the same latents."""
    one = member(name)
    still = family_of(one.pipe).still  # pictures, in which nothing is temporal
    probes = lab.CFG(3) + lab.Probe(WEAK)
    recording = one.sample(probes if still else probes + lab.Probe(SPACE) + lab.Probe(TIME)).recording
    asking = {n: g for n, g in ASKING.items() if not (still and n == "orthogonal")}
    off = {n: apart(recording.reweight(g).isel(step=0).values, first_guided(one, g)) for n, g in asking.items()}
    assert max(off.values()) < 1e-5, off


@pytest.mark.parametrize("name", GIVEN)
def test_a_given_frame_is_no_part_of_what_guidance_asks_for(name):
    """At every step, also where one step asks for those before."""
    one = member(name)
    momentum = {"apg with momentum": lab.CFG(3).apg(0.2, norm=3.0, momentum=-0.5).in_x0() + lab.STG(1, WEAK)}
    off = {}
    for n, guidance in (ASKING | momentum).items():
        recording = one.sample(guidance).recording
        assert recording.given_frames == 1
        assert (recording.prediction("guided").isel(frame=0) == 0).all()
        assert (recording.reweight(guidance).isel(frame=0) == 0).all()
        off[n] = apart(recording.reweight(guidance).values, recording.prediction("guided").values)
    assert max(off.values()) < 1e-5, off


@pytest.mark.parametrize("name", GIVEN)
def test_rescaling_in_full_gives_the_deviation_of_cond_over_the_frames_that_are_stepped(name):
    recording = member(name).sample((lab.CFG(3) + lab.STG(1, WEAK)).rescale(1.0)).recording
    over = ("channel", "frame", "y", "x")
    guided, cond = (recording.prediction(b).isel(frame=slice(1, None)).std(over) for b in ("guided", "cond"))
    assert np.allclose(guided, cond, rtol=1e-5)
