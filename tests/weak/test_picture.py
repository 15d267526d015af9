"""The picture of image-to-video models low-passed or dropped, against the same on a copy of the model."""

import copy

import pytest
import torch
from kit.watch import branch, captured
from kit.zoo import member

import stg_lab as lab
from stg_lab.families import family_of
from stg_lab.guidance.bands import filtered

#: The module that gets the picture, its picture's and its mask's channels, in pipelines of the zoo.
ENTRIES = {
    "wan-image": lambda m: (
        m.patch_embedding,
        slice(-m.config.out_channels, None),
        slice(m.config.out_channels, -m.config.out_channels),
    ),
    "svd": lambda m: (m.conv_in, slice(m.config.out_channels, None), slice(0, 0)),
}


def run(one, guidance):
    with captured(one.pipe) as calls, lab.attach(one.pipe, guidance=guidance, record=True) as trace:
        one.stock()
    return trace.recording, calls.made


def predicted(one, module, args, kwargs, change, *, rows):
    """What a copy predicts for the rows under the caption once the picture is changed."""
    oracle = copy.deepcopy(module)
    entry, picture, mask = ENTRIES[one.name](oracle)

    def changed(block, given):
        x = given[0].clone()
        change(x, picture, mask)
        return (x, *given[1:])

    entry.register_forward_pre_hook(changed)
    with torch.no_grad():
        return family_of(one.pipe).prediction(oracle(*args, **kwargs)).chunk(rows)[-1]


def smooth(x, picture, mask):
    x[:, picture] = filtered(x[:, picture], (0.0, 1.0), (x.ndim - 2, x.ndim - 1))


def drop(x, picture, mask):
    x[:, picture], x[:, mask] = 0, 0


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize(
    ("weak", "change"), [(lab.picture(1), smooth), (lab.picture("dropped"), drop)], ids=["smooth", "dropped"]
)
def test_a_weak_model_with_another_picture_is_written_out(name, weak, change):
    one = member(name)
    recording, calls = run(one, lab.Probe(weak))
    rows = 2 if family_of(one.pipe).batched else 1
    expected = one.at_step(predicted(one, *calls[0], change, rows=rows), recording, 0)
    cond = branch(recording, "cond", 0)
    assert torch.allclose(branch(recording, "picture", 0), expected.float(), atol=1e-4 * float(cond.abs().max()))
    assert not torch.allclose(expected.float(), cond, atol=1e-4 * float(cond.abs().max()))


@pytest.mark.parametrize("name", ENTRIES)
def test_low_passing_the_main_pass_in_the_first_step_alone(name):
    one = member(name)
    plain, _ = run(one, lab.Probe(lab.picture(1)))
    edited, _ = run(one, lab.Edit(lab.picture(1), stop=0.4) + lab.Probe(lab.plain()))
    assert torch.allclose(branch(edited, "cond", 0), branch(plain, "picture", 0), atol=1e-5)
    assert torch.allclose(branch(edited, "plain", 0), branch(plain, "cond", 0), atol=1e-5)
    if "uncond" in plain.branches:
        assert torch.allclose(branch(edited, "uncond", 0), branch(plain, "uncond", 0), atol=1e-5)
    last = edited.steps - 1
    assert torch.allclose(
        branch(edited, "cond", last), branch(edited, "plain", last), atol=1e-5
    )  # a batch of its own rounds


def test_a_scale_of_its_own_for_the_picture_is_the_sum_of_instruct_pix2pix():
    """u + t (c - c') + i (c' - u): c' has the picture alone, u neither."""
    from stg_lab.guidance import Moment, as_guidance, combine

    g = torch.Generator().manual_seed(0)
    c, pictured, neither = (torch.randn(1, 2, 3, 4, 4, generator=g, dtype=torch.float64) for _ in range(3))
    t, i = 7.5, 1.5
    total = as_guidance(lab.CFG(t - i + 1) + lab.STG(i - 1, lab.picture("dropped", prompt="negative")))
    ours = combine(total, {"cond": c, "uncond": pictured, "picture": neither}, Moment(0, 2))
    assert torch.allclose(ours, neither + t * (c - pictured) + i * (pictured - neither))


def test_it_is_read_back_and_models_without_a_picture_say_so(tiny):
    for weak in (lab.picture(2), lab.picture("dropped", prompt="negative")):
        assert lab.weak.parse(str(weak)) == weak
        assert eval(repr(weak), {"lab": lab}) == weak
    with pytest.raises(lab.GuidanceError, match="no encoded picture"):
        tiny.sample(lab.Probe(lab.picture(1)))
    with pytest.raises(lab.GuidanceError, match="how"):
        lab.picture("blurred")
