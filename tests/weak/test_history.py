"""History hidden from models that hold given frames in their latents, against the same on a copy of the denoiser."""

import copy

import pytest
import torch
from kit.siblings import sibling
from kit.watch import branch, captured, left_behind
from kit.zoo import member

import stg_lab as lab
from stg_lab.families import family_of
from stg_lab.weak.history import SEED

#: Pipelines, where they hold latent frames (dimension of the input), and how many of how many are given.
HELD = {
    "wan-5b-image": (member, 2, 1, 3),
    "ltx-image": (member, 1, 1, 3),
    "ltx2-image": (sibling, 1, 1, 3),
    "skyreels-forcing-video": (sibling, 2, 2, 5),
    "skyreels-forcing-image": (sibling, 2, 1, 3),
}


def run(one, guidance, **changes):
    with captured(one.pipe) as calls, lab.attach(one.pipe, guidance=guidance, record=True) as trace:
        one.stock(**changes)
    return trace.recording, calls.made


def by_hand(one, module, args, kwargs, dim, given, frames, noise, keep):
    x, t = kwargs["hidden_states"].clone(), kwargs["timestep"].clone()
    first = x.shape[dim] // frames * (given - keep)
    eps = torch.randn(x.narrow(dim, 0, first).shape[1:], generator=torch.Generator().manual_seed(SEED))
    x.narrow(dim, 0, first).mul_(1 - noise).add_(noise * eps)
    t[:, : t.shape[1] // frames * (given - keep)] = int(1000 * noise)
    with torch.no_grad():
        out = copy.deepcopy(module)(*args, **{**kwargs, "hidden_states": x, "timestep": t})
    return family_of(one.pipe).prediction(out)


@pytest.mark.parametrize("weak", [lab.history(), lab.history(0.5)], ids=str)
@pytest.mark.parametrize("name", HELD)
def test_the_given_frames_are_noised_and_the_model_is_told(name, weak):
    make, *place = HELD[name]
    one = make(name)
    recording, calls = run(one, lab.Probe(weak))
    rows = 2 if family_of(one.pipe).batched else 1
    expected = one.at_step(by_hand(one, *calls[0], *place, weak.noise, weak.keep).chunk(rows)[-1], recording, 0).float()
    cond = branch(recording, "cond", 0)
    assert torch.allclose(branch(recording, "history", 0), expected, atol=1e-4 * float(cond.abs().max()))
    assert (expected - cond).norm() > 1e-4 * cond.norm()
    assert left_behind(one.pipe) == []


def test_a_shorter_history_keeps_the_last_frames():
    one = sibling("skyreels-forcing-video")
    recording, calls = run(one, lab.Probe(lab.history(keep=1)) + lab.Probe(lab.history()))
    names = {spec: name for name, spec in recording.weak.items()}
    expected = one.at_step(by_hand(one, *calls[0], 2, 2, 5, 1.0, 1), recording, 0).float()
    got = branch(recording, names["history:keep=1"], 0)
    assert torch.allclose(got, expected, atol=1e-5 * float(expected.abs().max()))
    assert not torch.allclose(got, branch(recording, names["history"], 0), atol=1e-5)


def test_as_an_edit_it_leaves_the_rows_without_a_caption_alone():
    one = member("ltx-image")
    plain, _ = run(one, lab.Probe(lab.history(0.5)))
    edited, _ = run(one, lab.Edit(lab.history(0.5)) + lab.Probe(lab.plain()))
    assert torch.allclose(branch(edited, "cond", 0), branch(plain, "history", 0), atol=1e-5)
    assert torch.allclose(branch(edited, "plain", 0), branch(plain, "cond", 0), atol=1e-5)
    assert torch.allclose(branch(edited, "uncond", 0), branch(plain, "uncond", 0), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.* began a second loop of steps")
def test_the_sections_of_a_long_video_have_one_from_the_second_on():
    one = sibling("skyreels-forcing")
    call = {"num_frames": 17, "base_num_frames": 9, "overlap_history": 5, "num_inference_steps": 2}
    with lab.attach(one.pipe, guidance=lab.STG(1, lab.history()), record=True) as trace:
        one.stock(**call)
    first, second, *_ = trace.recordings
    assert torch.equal(branch(first, "history", 0), branch(first, "cond", 0))
    assert not torch.allclose(branch(second, "history", 0), branch(second, "cond", 0), atol=1e-4)


def test_it_is_read_back_and_says_where_there_is_none(tiny):
    for weak in (lab.history(), lab.history(0.25, keep=2), lab.history(prompt="negative")):
        assert lab.weak.parse(str(weak)) == weak
        assert eval(repr(weak), {"lab": lab}) == weak
    with pytest.raises(lab.GuidanceError, match="no history to hide"):
        tiny.sample(lab.Probe(lab.history()))
    one = sibling("skyreels-forcing")
    with (
        pytest.raises(lab.GuidanceError, match="no frames to go on from"),
        lab.attach(one.pipe, guidance=lab.Probe(lab.history())),
    ):
        one.stock()
    for wrong in (
        lambda: lab.history(0),
        lambda: lab.history(1.5),
        lambda: lab.history(keep=-1),
        lambda: lab.history("a"),
    ):
        with pytest.raises(lab.GuidanceError):
            wrong()
