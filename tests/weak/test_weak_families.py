"""Weak models in every family against the same thing written out on a copy of its denoiser."""

import contextlib
import copy

import pytest
import torch
from kit import explicit
from kit.watch import branch, captured, left_behind
from kit.zoo import STEPS, member
from torch.overrides import TorchFunctionMode

import stg_lab as lab
from stg_lab.families import Grid, family_of

LAYER = 1
#: One pipeline of each family: how its video tokens lie, and where its words lie among them.
GRIDS = {
    "wan": ((3, 4, 4), "none"),
    "wan-image": ((3, 2, 4), "none"),
    "mochi": ((2, 1, 2), "last"),
    "cogvideox": ((3, 1, 2), "first"),
    "ltx": ((3, 4, 8), "none"),
    "ltx2": ((3, 4, 8), "none"),
    "hunyuan": ((3, 2, 4), "last"),
    "hunyuan15": ((3, 2, 4), "last"),
    "flux": ((1, 4, 6), "first"),
    "sd3": ((1, 4, 6), "last"),
    "skyreels": ((3, 2, 4), "none"),
    "allegro": ((3, 2, 4), "none"),
    "kandinsky": ((3, 2, 4), "none"),
    "sana": ((3, 2, 4), "none"),
    "cosmos": ((3, 2, 4), "none"),
    "latte": ((3, 2, 4), "none"),
    "opensora": ((5, 2, 4), "none"),
    "svd": ((3, 2, 4), "none"),
}
FACTORISED = ("latte", "opensora", "svd")
JOINT = sorted(set(GRIDS) - set(FACTORISED))
KERNEL = [name for name in JOINT if name != "sana"]  # whose attention is linear: test_linear_attention.py
TEXTED = [name for name in JOINT if GRIDS[name][1] != "none"]


def run(one, weak):
    """A recorded run with one weak model: the recording, and the calls that predict the conditional branch."""
    with captured(one.pipe) as calls, lab.attach(one.pipe, guidance=lab.Probe(weak), record=True) as trace:
        one.stock()
    return trace.recording, calls.made[:: len(calls) // STEPS]


def predict(one, oracle, args, kwargs, at):
    family = family_of(one.pipe)
    with torch.no_grad():
        pieces = family.prediction(oracle(*args, **kwargs)).chunk(2 if family.batched else 1)
    return one.at_step(pieces[-1], *at)


def check(one, weak, change, tolerance=1e-3):
    """The recorded branch is what a copy of the denoiser predicts once its layer has been changed."""
    recording, calls = run(one, weak)
    for step, (module, args, kwargs) in enumerate(calls[: one.telling]):
        oracle = copy.deepcopy(module)
        change(oracle, step, (args, kwargs))
        expected, given = predict(one, oracle, args, kwargs, (recording, step)), branch(recording, weak.name, step)
        off = (expected - branch(recording, "cond", step)).abs().max()
        assert off > 1e-4
        assert (given - expected).abs().max() <= tolerance * off
    assert left_behind(one.pipe) == []


# ---- attention ----


class Written(TorchFunctionMode):
    """Attention kernels answered by attention written out."""

    def __init__(self, attend):
        super().__init__()
        self.attend = attend

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
        q, k, v = (given[name] for name in ("query", "key", "value"))
        out = self.attend(q, k, v, mask=given.get("attn_mask"), scale=given.get("scale"))
        return torch.nan_to_num(out).to(q.dtype)  # a row that sees nothing is zero, as the kernel has it


def attentions(one, denoiser, axis=None):
    """The self-attentions of the layer, by the names that diffusers gives them."""
    blocks = family_of(one.pipe).layers(denoiser)[LAYER]
    chosen = [block for native, block in blocks.items() if axis is None or native in ("joint", axis)]
    names = ("attn", "attn1", "audio_attn1", "self_attention")
    return [getattr(block, name) for block in chosen for name in names if hasattr(block, name)]


def answered(attention, attend):
    forward = attention.forward

    def inside(*args, **kwargs):
        with Written(attend):
            return forward(*args, **kwargs)

    attention.forward = inside


def tokens_of(name, count, axis):
    """Where each of the tokens that one attention sees stands."""
    (frames, height, width), text = GRIDS[name]
    grid = {"spatial": (1, height, width), "temporal": (frames, 1, 1)}.get(axis, (frames, height, width))
    size = grid[0] * grid[1] * grid[2]
    if name == "ltx2" and count != size:  # sound
        return explicit.places((count, 1, 1))
    if name == "svd" and axis == "spatial":
        return explicit.places(next(g for g in ((1, 8, 16), (1, 4, 8)) if g[1] * g[2] == count))
    return explicit.places(grid, text, count - size)


def by_rule(rule):
    def make(name, axis):
        def attend(q, k, v, **how):
            return explicit.attend(q, k, v, rule=explicit.seen(tokens_of(name, q.shape[2], axis), rule), **how)

        return attend

    return make


def by_blur(sigma, over):
    def make(name, axis):
        def attend(q, k, v, **how):
            tokens = tokens_of(name, q.shape[2], axis)
            video = torch.tensor([place is not None for place in tokens])
            matrix = torch.eye(len(tokens), dtype=torch.float64)
            matrix[video.outer(video)] = explicit.gaussian([p for p in tokens if p], sigma, over).flatten()
            return explicit.attend(matrix @ q.double(), k, v, **how)

        return attend

    return make


def by_map(changed):
    def make(name, axis):
        def attend(q, k, v, **how):
            tokens = tokens_of(name, q.shape[2], axis)
            map_ = torch.nan_to_num(explicit.attention_map(q, k, **how))
            return changed(map_, torch.tensor([place is not None for place in tokens])) @ v.double()

        return attend

    return make


def identity_of_video(map_, video):
    map_[:, :, video] = torch.eye(len(video), dtype=torch.float64)[video]
    return map_


def half_identity_of_head_1(map_, video):
    map_[:, 1] = 0.4 * map_[:, 1] + 0.6 * torch.eye(len(video), dtype=torch.float64)
    return map_


L = [LAYER]
EDITS = {
    "within frames": (lab.skip(L, part="attention", axis="temporal"), by_rule(explicit.same_frame)),
    "within positions": (lab.skip(L, part="attention", axis="spatial"), by_rule(explicit.same_position)),
    "window": (lab.window(L, frames=0), by_rule(explicit.near(0))),
    "window of 1": (lab.window(L, frames=1), by_rule(explicit.near(1))),
    "blur in space": (lab.blur(L, sigma=0.9), by_blur(0.9, "spatial")),
    "blur without end": (lab.blur(L, axis="joint"), by_blur(1e9, "joint")),
    "one head in part": (
        lab.skip(L, part="attention", heads=[1], strength=0.6),
        by_map(half_identity_of_head_1),
    ),
}
OF_TEXT = {
    "attention_video": (lab.skip(L, part="attention_video"), by_map(identity_of_video)),
    "attention_diagonal": (lab.skip(L, part="attention_diagonal"), by_rule(explicit.itself)),
}


def edited(one, name, weak, attend, axes):
    def change(oracle, step, call):
        for axis in axes:
            for attention in attentions(one, oracle, axis):
                answered(attention, attend(name, axis))

    check(one, weak, change)


@pytest.mark.parametrize("case", EDITS)
@pytest.mark.parametrize("name", KERNEL)
def test_joint_attention_is_edited_as_written_out(name, case):
    if (name, case) == ("mochi", "window of 1"):
        pytest.skip("its tiny pipeline has two frames, so this window is the whole video")
    if family_of(member(name).pipe).still and EDITS[case][0].axis == "temporal":
        with pytest.raises(lab.GuidanceError, match="make pictures, videos of one frame"):
            run(member(name), EDITS[case][0])
        return
    edited(member(name), name, *EDITS[case], axes=[None])


@pytest.mark.parametrize("case", OF_TEXT)
@pytest.mark.parametrize("name", TEXTED)
def test_the_text_in_joint_attention_is_treated_as_written_out(name, case):
    edited(member(name), name, *OF_TEXT[case], axes=[None])


def identity(name, axis):
    return lambda q, k, v, **how: v


ALONG = {
    "skip spatial": (lab.skip(L, part="attention", axis="spatial"), identity, ["spatial"]),
    "skip temporal": (lab.skip(L, part="attention", axis="temporal"), identity, ["temporal"]),
    "skip both": (lab.skip(L, part="attention"), identity, ["spatial", "temporal"]),
    "window": (lab.window(L, frames=1), by_rule(explicit.near(1)), ["temporal"]),
    "blur spatial": (lab.blur(L, sigma=0.9), by_blur(0.9, "spatial"), ["spatial"]),
    "blur temporal": (lab.blur(L, sigma=0.9, axis="temporal"), by_blur(0.9, "temporal"), ["temporal"]),
    "one head in part": (
        lab.skip(L, part="attention", heads=[1], strength=0.6, axis="spatial"),
        by_map(half_identity_of_head_1),
        ["spatial"],
    ),
}


@pytest.mark.parametrize("case", ALONG)
@pytest.mark.parametrize("name", FACTORISED)
def test_factorised_attention_is_edited_along_its_axis_alone(name, case):
    weak, attend, axes = ALONG[case]
    edited(member(name), name, weak, attend, axes)


# ---- branches and blocks left out ----

MODULES = {
    "attention_zero": ("attn", "attn1", "audio_attn1", "self_attention"),
    "cross_attention_zero": ("attn2", "audio_attn2", "cross_attention", "cross_attn"),
    "feedforward": ("ff", "ffn", "ff_context", "audio_ff", "act_mlp", "feed_forward", "mlp"),
}


@pytest.mark.parametrize(("part", "share"), [*((part, 1.0) for part in MODULES), ("attention_zero", 0.4)])
@pytest.mark.parametrize("name", sorted(GRIDS))
def test_a_part_is_left_out_of_every_stream_that_has_it(name, part, share):
    one = member(name)
    if part not in family_of(one.pipe).parts:
        pytest.skip("the family has no such part")
    if name == "mochi" and share != 1:  # it normalises what its parts give, so a share of it is as good as all
        with pytest.raises(lab.GuidanceError, match=r"changed nothing: .* up to rounding"):
            run(one, lab.skip(L, part=part, strength=share))
        return

    def scaled(module, given, output):
        return tuple((1 - share) * x for x in output) if isinstance(output, tuple) else (1 - share) * output

    def change(oracle, step, call):
        found = 0
        for block in family_of(one.pipe).layers(oracle)[LAYER].values():
            for attribute in MODULES[part]:
                if getattr(block, attribute, None) is not None:
                    getattr(block, attribute).register_forward_hook(scaled)
                    found += 1
        assert found

    check(one, lab.skip(L, part=part, strength=share), change)


@pytest.mark.parametrize("name", FACTORISED)
@pytest.mark.parametrize("axis", ["spatial", "temporal"])
def test_a_block_is_left_out_along_one_axis(name, axis):
    one = member(name)

    def change(oracle, step, call):
        block = family_of(one.pipe).layers(oracle)[LAYER][axis]
        block.forward = lambda hidden_states, *args, **kwargs: hidden_states

    check(one, lab.skip(L, axis=axis), change)


def test_a_part_that_the_layer_lacks_along_an_axis_is_refused():
    """In Latte only the spatial block has cross-attention."""
    with pytest.raises(lab.GuidanceError, match=r"these layers have no such part along this axis.*leave the axis out"):
        run(member("latte"), lab.skip(L, part="cross_attention_zero", axis="temporal"))


STREAMS = {"ltx2": ("hidden_states", "audio_hidden_states")} | dict.fromkeys(
    ("flux", "sd3"), ("encoder_hidden_states", "hidden_states")
)


@pytest.mark.parametrize("name", JOINT)
def test_a_block_is_left_out_by_a_share_in_every_stream(name):
    one = member(name)
    streams = STREAMS.get(name, ("hidden_states", "encoder_hidden_states"))

    def mixed(block, args, kwargs, output):
        given = dict(zip(streams, args, strict=False)) | kwargs
        outputs = output if isinstance(output, tuple) else (output,)
        new = tuple(0.6 * x + 0.4 * given[stream] for x, stream in zip(outputs, streams, strict=False))
        return new if isinstance(output, tuple) else new[0]

    def change(oracle, step, call):
        block = family_of(one.pipe).layers(oracle)[LAYER]["joint"]
        block.register_forward_hook(mixed, with_kwargs=True)

    check(one, lab.skip(L, strength=0.4), change)


# ---- shuffled, dropped ----


def shuffled(block, order, restore=True, at=0):
    forward = block.forward

    def inside(hidden_states, *args, **kwargs):
        output = forward(hidden_states[:, order], *args, **kwargs)
        if not restore:
            return output
        video = output[at] if isinstance(output, tuple) else output
        back = torch.empty_like(video).index_copy_(1, order, video)
        return (*output[:at], back, *output[at + 1 :]) if isinstance(output, tuple) else back

    block.forward = inside


TOLD = [name for name in JOINT if name not in ("cogvideox", "sd3")]  # blocks get positions, as rotary embeddings


@pytest.mark.parametrize("axis", ["joint", "spatial", "temporal"])
@pytest.mark.parametrize("name", TOLD)
def test_video_tokens_are_shuffled_and_the_other_stream_is_not(name, axis):
    one = member(name)
    weak, family = lab.shuffle(L, axis=axis), family_of(one.pipe)
    if family.still and axis == "temporal":
        pytest.skip("pictures have one frame")

    def change(oracle, step, call):
        order = torch.tensor(weak.order(Grid(*GRIDS[name][0]), step, LAYER))
        shuffled(family.layers(oracle)[LAYER]["joint"], order, at=1 if name == "flux" else 0)

    check(one, weak, change)


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("cogvideox", "joint"),
        ("sd3", "joint"),
        ("latte", "joint"),
        ("latte", "temporal"),
        ("opensora", "joint"),
        ("opensora", "spatial"),
        ("svd", "spatial"),
    ],
)
def test_where_blocks_are_told_no_positions_shuffling_and_restoring_is_nothing_and_is_refused(name, axis):
    one = member(name)
    with pytest.raises(lab.GuidanceError, match=r"block 1 of this model is told no positions.*or restore=False"):
        run(one, lab.shuffle(L, axis=axis))
    assert left_behind(one.pipe) == []


@pytest.mark.parametrize("axis", ["joint", "spatial", "temporal"])
def test_tokens_of_factorised_blocks_are_shuffled_along_their_axis(axis):
    one = member("latte")
    weak, (frames, height, width) = lab.shuffle(L, axis=axis, restore=False), GRIDS["latte"][0]
    lying = {"spatial": Grid(1, height, width), "temporal": Grid(frames, 1, 1)}

    def change(oracle, step, call):
        for native, block in family_of(one.pipe).layers(oracle)[LAYER].items():
            if axis in ("joint", native):
                shuffled(block, torch.tensor(weak.order(lying[native], step, LAYER)), restore=False)

    check(one, weak, change)


@pytest.mark.parametrize("axis", ["joint", "spatial", "temporal"])
def test_blocks_that_get_the_whole_video_are_shuffled_along_their_axis_too(axis):
    one, grid = member("opensora"), Grid(*GRIDS["opensora"][0])
    weak = lab.shuffle(L, axis=axis, restore=axis == "temporal")  # only temporal blocks are told positions

    def change(oracle, step, call):
        places = torch.arange(grid.size).view(grid.frames, -1)
        for native, block in family_of(one.pipe).layers(oracle)[LAYER].items():
            if axis in ("joint", native):
                along = 0 if native == "temporal" else 1
                order = torch.tensor(weak.order(Grid(1, 1, places.shape[along]), step, LAYER, "spatial"))
                shuffled(block, places.index_select(along, order).flatten(), restore=weak.restore)

    check(one, weak, change)


def test_in_a_u_net_the_positions_of_each_level_are_shuffled():
    one = member("svd")
    weak = lab.shuffle([0, 1], axis="spatial", restore=False)

    def change(oracle, step, call):
        for layer, grid in enumerate(levels(one)[:2]):
            block = family_of(one.pipe).layers(oracle)[layer]["spatial"]
            shuffled(block, torch.tensor(weak.order(grid, step, layer)), restore=False)

    check(one, weak, change)


def levels(one):
    """The grid of every layer's spatial tokens, from how many there are; a picture of 8 x 16."""
    counts, layers = [], family_of(one.pipe).layers(one.pipe.unet)
    with contextlib.ExitStack() as stack:
        for layer in layers:
            note = layer["spatial"].register_forward_pre_hook(lambda _, given: counts.append(given[0].shape[1]))
            stack.callback(note.remove)
        one.stock(num_inference_steps=1)
    sizes = {128: Grid(1, 8, 16), 32: Grid(1, 4, 8), 8: Grid(1, 2, 4)}
    return [sizes[count] for count in counts[: len(layers)]]


def test_frames_that_a_u_nets_block_keeps_in_its_batch_cannot_be_shuffled_and_it_says_so():
    one = member("svd")
    with pytest.raises(lab.GuidanceError, match=r"block 1 got \d+ tokens where the video has 3.*cannot be shuffled"):
        run(one, lab.shuffle(L, axis="temporal", restore=False))
    assert left_behind(one.pipe) == []


@pytest.mark.parametrize("name", ["wan", "flux", "latte", "svd"])
def test_dropping_is_skipping_what_was_drawn(name):
    one = member(name)
    denoiser = next(iter(family_of(one.pipe).denoisers(one.pipe).values()))
    weak = lab.drop(1, seed=4)
    drawn = [weak.drawn(step, len(family_of(one.pipe).layers(denoiser))) for step in range(STEPS)]
    recording, _ = run(one, weak)
    for step, layers in enumerate(drawn):
        skipped, _ = run(one, lab.skip(layers))
        assert torch.equal(branch(recording, "drop", step), branch(skipped, "skip", step))


def test_two_weak_models_of_one_call_do_not_touch_each_other():
    for name in ("mochi", "latte"):
        one = member(name)
        weak = [lab.blur([0]), lab.window(L, frames=0), lab.skip([0], part="attention_zero"), lab.drop(1)]
        guidance = sum((lab.Probe(w) for w in weak), start=lab.Guidance())
        with lab.attach(one.pipe, guidance=guidance, record=True) as trace:
            one.stock()
        for w in weak:
            alone, _ = run(one, w)
            for step in range(STEPS):
                assert torch.equal(branch(trace.recording, w.name, step), branch(alone, w.name, step))
