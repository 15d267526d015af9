"""Every weak model inside a real run gives what the same thing written out on a copy of the transformer gives."""

import copy
import itertools
import math
from functools import partial

import pytest
import torch
from diffusers import FirstBlockCacheConfig
from diffusers.hooks import LayerSkipConfig, apply_layer_skip
from diffusers.models.transformers import transformer_wan
from kit import explicit
from kit.watch import branch, captured, left_behind, passes, predict
from kit.watch import recorded as recorded_in

import stg_lab as lab
from stg_lab.families import Grid
from stg_lab.weak import KINDS

pytestmark = pytest.mark.slow

STEPS = 2
PAIR = ["a red seven moving left", "a blue two growing"]


recorded = partial(recorded_in, steps=STEPS)


def grid_of(module, kwargs):
    frames, height, width = kwargs["hidden_states"].shape[2:]
    return frames, height // module.config.patch_size[1], width // module.config.patch_size[2]


def agree(given, oracle, cond):
    """The same up to rounding, and far from what the model itself predicts."""
    off = (oracle - cond).abs().max()
    assert off > 1e-3
    assert (given - oracle).abs().max() < 1e-3 * off


def skipping(module, layers):
    oracle = copy.deepcopy(module)
    apply_layer_skip(oracle, LayerSkipConfig(indices=list(layers), fqn="auto"))
    return oracle


# ---- attention edited by place, and blurred ----


def with_attention(module, layers, attend):
    oracle = copy.deepcopy(module)
    for layer in layers:
        oracle.blocks[layer].attn1.register_forward_hook(
            lambda attn, args, output: explicit.wan_attention(attn, args[0], args[3], attend)
        )
    return oracle


def by_rule(rule, grid):
    mask = explicit.seen(explicit.places(grid), rule)
    return lambda q, k, v: explicit.attend(q, k, v, rule=mask)


def blurred(sigma, axis, grid):
    blur = explicit.gaussian(explicit.places(grid), sigma, axis)
    return lambda q, k, v: explicit.attend(blur @ q, k, v)


def towards(share, edited, heads=None):
    def attend(q, k, v):
        true, other = explicit.attend(q, k, v), edited(q, k, v)
        chosen = range(q.shape[1]) if heads is None else heads
        return torch.stack(
            [(1 - share) * true[:, h] + share * other[:, h] if h in chosen else true[:, h] for h in range(q.shape[1])],
            dim=1,
        )

    return attend


def values(q, k, v):
    return v


ATTENTION = {
    "attention": (lambda n: lab.skip(n, part="attention"), lambda grid: values),
    "within frames": (
        lambda n: lab.skip(n, part="attention", axis="temporal"),
        lambda grid: by_rule(explicit.same_frame, grid),
    ),
    "within positions": (
        lambda n: lab.skip(n, part="attention", axis="spatial"),
        lambda grid: by_rule(explicit.same_position, grid),
    ),
    "window of 0": (lambda n: lab.window(n, frames=0), lambda grid: by_rule(explicit.same_frame, grid)),
    "window of 1": (lambda n: lab.window(n), lambda grid: by_rule(explicit.near(1), grid)),
    "window in space": (
        lambda n: lab.window(n, axis="spatial"),
        lambda grid: by_rule(lambda a, b: max(abs(a[1] - b[1]), abs(a[2] - b[2])) <= 1, grid),
    ),
    "window of 0 in space and time": (
        lambda n: lab.window(n, axis="joint", frames=1, reach=0),
        lambda grid: by_rule(lambda a, b: abs(a[0] - b[0]) <= 1 and a[1:] == b[1:], grid),
    ),
    "hotter": (lambda n: lab.temper(n, temperature=2.5), lambda grid: lambda q, k, v: explicit.attend(q / 2.5, k, v)),
    "a mean": (
        lambda n: lab.temper(n, temperature=math.inf),
        lambda grid: lambda q, k, v: v.mean(2, keepdim=True).expand_as(v),
    ),
    "blur without end": (lambda n: lab.blur(n), lambda grid: blurred(1e9, "spatial", grid)),
    "blur": (lambda n: lab.blur(n, sigma=0.8), lambda grid: blurred(0.8, "spatial", grid)),
    "blur over time": (lambda n: lab.blur(n, sigma=0.8, axis="temporal"), lambda grid: blurred(0.8, "temporal", grid)),
    "blur over both": (lambda n: lab.blur(n, sigma=2, axis="joint"), lambda grid: blurred(2, "joint", grid)),
    "one head, in part": (
        lambda n: lab.skip(n, part="attention", heads=[0], strength=0.3),
        lambda grid: towards(0.3, values, [0]),
    ),
    "one head": (lambda n: lab.skip(n, part="attention", heads=1), lambda grid: towards(1, values, [1])),
    "in part": (lambda n: lab.skip(n, part="attention", strength=0.6), lambda grid: towards(0.6, values)),
    "window in part": (
        lambda n: lab.window(n, frames=0, heads=[1], strength=0.5),
        lambda grid: towards(0.5, by_rule(explicit.same_frame, grid), [1]),
    ),
    "blur of one head": (
        lambda n: lab.blur(n, heads=[0]),
        lambda grid: towards(1, blurred(1e9, "spatial", grid), [0]),
    ),
}


def test_the_written_out_attention_is_the_stock_one(small_and_trained):
    """Else the tests below would prove nothing."""
    with captured(small_and_trained.pipe) as calls:
        small_and_trained.stock(num_inference_steps=1)
    module, args, kwargs = calls.made[0]
    oracle = with_attention(module, range(len(module.blocks)), explicit.attend)
    assert torch.allclose(predict(oracle, args, kwargs), predict(module, args, kwargs), atol=1e-5)


@pytest.mark.parametrize("layers", [[0], [1, 2]], ids=str)
def test_attention_edited_in_a_run_is_the_written_out_attention(small_and_trained, layers):
    """All that edits attention, in one run."""
    recording, calls = recorded(small_and_trained, *(make(layers) for make, _ in ATTENTION.values()))
    branches = {text: name for name, text in recording.weak.items()}
    for step, (module, args, kwargs) in enumerate(calls):
        cond = branch(recording, "cond", step)
        for make, oracle_attention in ATTENTION.values():
            oracle = with_attention(module, layers, oracle_attention(grid_of(module, kwargs)))
            agree(branch(recording, branches[str(make(layers))], step), predict(oracle, args, kwargs), cond)


@pytest.mark.parametrize("name", ["within frames", "within positions", "window of 1", "blur", "one head, in part"])
def test_attention_is_edited_for_every_sample_of_a_batch(tiny, name):
    make, oracle_attention = ATTENTION[name]
    weak = make([1])
    recording, calls = recorded(tiny, weak, prompt=PAIR)
    for step, (module, args, kwargs) in enumerate(calls):
        oracle = with_attention(module, [1], oracle_attention(grid_of(module, kwargs)))
        expected, cond = predict(oracle, args, kwargs), branch(recording, "cond", step)
        for sample in range(2):
            agree(branch(recording, weak.name, step)[sample], expected[sample], cond[sample])


def test_attention_is_edited_in_bfloat16_too(tiny):
    rig = tiny.copy()
    rig.pipe.to(torch.bfloat16)
    weak = [lab.window([1]), lab.blur([1]), lab.skip([1], part="attention", axis="spatial")]
    recording, calls = recorded(rig, *weak)
    makers = [ATTENTION[name][1] for name in ("window of 1", "blur without end", "within positions")]
    for w, make in zip(weak, makers, strict=True):
        module, args, kwargs = calls[0]
        oracle = predict(with_attention(module, [1], make(grid_of(module, kwargs))), args, kwargs)
        cond = branch(recording, "cond", 0)
        assert (branch(recording, w.name, 0) - oracle).abs().mean() < 0.25 * (oracle - cond).abs().mean()


def test_the_temporal_skip_is_a_window_of_no_frames(tiny):
    temporal = lab.skip([1], part="attention", axis="temporal")
    recording, _ = recorded(tiny, temporal, lab.window([1], frames=0))
    assert torch.allclose(branch(recording, "skip", 0), branch(recording, "window", 0), atol=1e-5)


def test_the_native_backend_in_another_implementation_is_edited_alike(tiny):
    rig, weak = tiny.copy(), lab.window([1])
    plain = branch(recorded(rig, weak)[0], "window", 0)
    rig.pipe.transformer.set_attention_backend("_native_math")
    assert torch.allclose(branch(recorded(rig, weak)[0], "window", 0), plain, atol=1e-5)


# ---- blocks and branches left out in part ----

SUBLAYERS = {"attention_zero": "attn1", "cross_attention_zero": "attn2", "feedforward": "ffn"}


@pytest.mark.parametrize("share", [0.25, 0.9])
@pytest.mark.parametrize("part", ["block", *SUBLAYERS])
def test_a_strength_leaves_a_part_out_by_that_share(small_and_trained, part, share):
    weak = lab.skip([0, 2], part=part, strength=share)
    recording, calls = recorded(small_and_trained, weak)

    def mixed(module, given, output):
        return (1 - share) * output + (share * given[0] if part == "block" else 0)

    for step, (module, args, kwargs) in enumerate(calls):
        oracle = copy.deepcopy(module)
        for layer in (0, 2):
            block = oracle.blocks[layer]
            (block if part == "block" else getattr(block, SUBLAYERS[part])).register_forward_hook(mixed)
        agree(branch(recording, "skip", step), predict(oracle, args, kwargs), branch(recording, "cond", step))


# ---- shuffled tokens ----


@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("axis", ["joint", "spatial", "temporal"])
def test_shuffling_permutes_what_a_block_gets_and_puts_it_back(small_and_trained, axis, restore):
    weak = lab.shuffle([0, 2], axis=axis, seed=3, restore=restore)
    recording, calls = recorded(small_and_trained, weak)
    for step, (module, args, kwargs) in enumerate(calls):
        oracle = copy.deepcopy(module)
        for layer in (0, 2):
            order = torch.tensor(weak.order(Grid(*grid_of(module, kwargs)), step, layer))

            def before(block, given, order=order):
                return (given[0][:, order], *given[1:])

            def after(block, given, output, order=order):
                return torch.empty_like(output).index_copy_(1, order, output) if restore else None

            oracle.blocks[layer].register_forward_pre_hook(before)
            oracle.blocks[layer].register_forward_hook(after)
        assert torch.equal(branch(recording, "shuffle", step), predict(oracle, args, kwargs))
        assert not torch.equal(branch(recording, "shuffle", step), branch(recording, "cond", step))


GRID = Grid(3, 4, 5)


def orders(axis, **options):
    weak = lab.shuffle([0, 1], axis=axis, **options)
    return [weak.order(GRID, step, layer) for step in range(4) for layer in range(2)]


@pytest.mark.parametrize("axis", ["joint", "spatial", "temporal"])
def test_an_order_is_a_permutation_that_is_drawn_anew_and_can_be_drawn_again(axis):
    drawn = orders(axis)
    assert all(sorted(order) == list(range(60)) for order in drawn)
    assert all(order != list(range(60)) for order in drawn)
    assert drawn == orders(axis)
    assert drawn != orders(axis, seed=1)
    if axis != "temporal":
        assert all(a != b for a, b in itertools.combinations(drawn, 2))
    else:  # there are five orders of three frames that are not the first one
        assert len({tuple(order) for order in drawn}) > 2


def test_a_spatial_order_moves_positions_alike_in_every_frame():
    for order in orders("spatial"):
        frames = torch.tensor(order).reshape(3, 20)
        assert torch.equal(frames // 20, torch.arange(3)[:, None].expand(3, 20))
        assert torch.equal(frames % 20, (frames % 20)[:1].expand(3, 20))


def test_a_temporal_order_moves_whole_frames():
    for order in orders("temporal"):
        frames = torch.tensor(order).reshape(3, 20)
        assert torch.equal(frames % 20, torch.arange(20).expand(3, 20))
        assert torch.equal(frames // 20, (frames // 20)[:, :1].expand(3, 20))


def test_a_joint_order_moves_tokens_across_frames():
    assert any((torch.tensor(order).reshape(3, 20) // 20).unique(dim=1).shape[1] > 1 for order in orders("joint"))


@pytest.mark.parametrize("seed", range(8))
def test_no_draw_leaves_the_order_as_it_was(tiny, seed):
    """Three frames have six orders, so chance would soon draw the first one and end the run."""
    for frames in (2, 3):
        weak = lab.shuffle([0], axis="temporal", seed=seed)
        for step in range(20):
            assert weak.order(Grid(frames, 1, 2), step, 0) != list(range(2 * frames))


# ---- dropped blocks ----


def test_dropping_skips_the_blocks_that_were_drawn_for_the_step(small_and_trained):
    weak = lab.drop(2, seed=5)
    count = len(small_and_trained.pipe.transformer.blocks)
    drawn = [weak.drawn(step, count) for step in range(STEPS)]
    skips = [lab.skip(layers) for layers in dict.fromkeys(drawn)]
    recording, calls = recorded(small_and_trained, weak, *skips)
    for step, (module, args, kwargs) in enumerate(calls):
        dropped = branch(recording, "drop", step)
        assert torch.equal(dropped, predict(skipping(module, drawn[step]), args, kwargs))
        skip = lab.skip(drawn[step])
        assert torch.equal(dropped, branch(recording, "skip" if len(skips) == 1 else str(skip), step))


def test_blocks_are_drawn_anew_at_every_step_and_never_the_first():
    weak = lab.drop(3)
    drawn = [weak.drawn(step, 30) for step in range(200)]
    assert all(len(set(layers)) == 3 and list(layers) == sorted(layers) for layers in drawn)
    assert len(set(drawn)) > 180
    assert {layer for layers in drawn for layer in layers} == set(range(1, 30))
    assert drawn == [lab.drop(3).drawn(step, 30) for step in range(200)]
    assert drawn != [lab.drop(3, seed=1).drawn(step, 30) for step in range(200)]


def test_blocks_are_drawn_among_the_ones_that_are_given():
    weak = lab.drop(2, among=[0, 4, 7])
    drawn = [weak.drawn(step, 30) for step in range(50)]
    assert {layer for layers in drawn for layer in layers} == {0, 4, 7}
    assert len(set(drawn)) == 3


# ---- another model at each step ----


def test_a_schedule_takes_the_model_of_the_step(tiny):
    weak = lab.per_step(lab.skip([1]), None, (2, lab.drop(1, seed=2)))
    recording, calls = recorded(tiny, weak, num_inference_steps=4)
    oracles = [(1,), None, *(lab.drop(1, seed=2).drawn(step, 3) for step in (2, 3))]
    for step, layers in enumerate(oracles):
        module, args, kwargs = calls[step]
        given = branch(recording, "per_step", step)
        if layers is None:
            assert given.isnan().all()
        else:
            assert torch.equal(given, predict(skipping(module, layers), args, kwargs))


def test_a_schedule_guides_where_it_has_a_model_and_leaves_the_other_steps(tiny):
    weak = lab.per_step(None, (3, lab.window([1])))
    with passes(tiny.pipe) as count:
        recording = tiny.sample(lab.CFG(4) + lab.STG(2, weak)).recording
    assert len(count) == 4 * 2 + 3
    for step in range(4):
        c, u, guided = (branch(recording, name, step) for name in ("cond", "uncond", "guided"))
        cfg = u + 4 * (c - u)
        if step == 0:
            assert torch.allclose(guided, cfg, atol=1e-5)
        else:
            assert torch.allclose(guided, cfg + 2 * (c - branch(recording, "window", step)), atol=1e-4)


def test_a_schedule_of_another_length_is_told_before_any_weak_pass(tiny):
    with passes(tiny.pipe) as count, pytest.raises(lab.GuidanceError, match="holds 3 weak models for a run of 4 steps"):
        tiny.sample(lab.STG(1, lab.per_step((3, lab.skip([1])))))
    assert len(count) <= 1
    assert left_behind(tiny.pipe) == []


# ---- what the weak pass carries ----

WITH_PROMPT = {
    "skip": lambda prompt: lab.skip([1], prompt=prompt),
    "drop": lambda prompt: lab.drop(1, among=[1], prompt=prompt),
    "per_step": lambda prompt: lab.per_step((STEPS, lab.skip([1], prompt=prompt))),
}


@pytest.mark.parametrize("negative", [None, "a blue two growing"])
@pytest.mark.parametrize("kind", WITH_PROMPT)
def test_a_weak_pass_can_carry_the_negative_prompt(tiny, kind, negative):
    weak = WITH_PROMPT[kind]("negative")
    with captured(tiny.pipe) as calls:
        guidance = lab.CFG(4) + lab.STG(1, weak)
        recording = tiny.sample(guidance, negative_prompt=negative, num_inference_steps=STEPS).recording
    for step, (module, args, kwargs) in enumerate(calls.made[1::2]):
        given = branch(recording, weak.name, step)
        assert torch.equal(given, predict(skipping(module, [1]), args, kwargs))
        assert not torch.equal(given, predict(skipping(module, [1]), *calls.made[2 * step][1:]))


@pytest.mark.parametrize("prompt", ["a red seven moving left", PAIR], ids=["one", "two"])
@pytest.mark.parametrize("kind", WITH_PROMPT)
def test_a_weak_pass_can_carry_the_empty_caption(tiny, kind, prompt):
    weak = WITH_PROMPT[kind]("none")
    with captured(tiny.pipe) as calls:
        tiny.stock(prompt="", num_inference_steps=1, guidance_scale=1.0)
    empty = calls.made[0][2]["encoder_hidden_states"]
    recording, made = recorded(tiny, weak, prompt=prompt)
    for step, (module, args, kwargs) in enumerate(made):
        text = kwargs["encoder_hidden_states"]
        kwargs = {**kwargs, "encoder_hidden_states": empty.expand_as(text)}
        assert torch.equal(branch(recording, weak.name, step), predict(skipping(module, [1]), args, kwargs))
        assert not torch.equal(text, kwargs["encoder_hidden_states"])


def test_the_empty_caption_is_encoded_once_a_run_and_anew_in_the_next(tiny, monkeypatch):
    """With another text encoder in the second run, so that what an old run kept would show."""
    rig = tiny.copy()
    weak, encode, encoded = lab.skip([1], prompt="none"), rig.pipe.encode_prompt, []

    def counting(prompt, *args, **kwargs):
        made = encode(prompt, *args, **kwargs)
        if prompt == "" and not kwargs["do_classifier_free_guidance"]:
            encoded.append(made[0])
        return made

    monkeypatch.setattr(rig.pipe, "encode_prompt", counting)
    for run in (1, 2):
        recording, calls = recorded(rig, weak, lab.blur([2], prompt="none"))
        assert len(encoded) == run
        for step, (module, args, kwargs) in enumerate(calls):
            text = encode(
                "", do_classifier_free_guidance=False, max_sequence_length=kwargs["encoder_hidden_states"].shape[1]
            )
            with torch.no_grad():
                expected = skipping(module, [1])(*args, **{**kwargs, "encoder_hidden_states": text[0]})[0]
            assert torch.equal(branch(recording, weak.name, step), expected.float())
        with torch.no_grad():
            next(rig.pipe.text_encoder.parameters()).mul_(1.5)
    assert not torch.equal(*encoded)
    monkeypatch.undo()
    assert left_behind(rig.pipe) == []


@pytest.mark.parametrize("kind", WITH_PROMPT)
def test_without_cfg_there_is_no_negative_prompt_to_carry(tiny, kind):
    with passes(tiny.pipe) as count, pytest.raises(lab.GuidanceError, match=r"needs the unconditional.*Add lab.CFG"):
        tiny.sample(lab.STG(1, WITH_PROMPT[kind]("negative")), num_inference_steps=STEPS)
    assert len(count) <= 1  # the pipeline's own call, and no weak pass
    assert left_behind(tiny.pipe) == []


# ---- together ----

MANY = [
    lab.skip([1]),
    lab.skip([0, 2], part="attention", axis="temporal"),
    lab.skip([1], part="cross_attention_zero", strength=0.5),
    lab.window([1], frames=1, heads=[0]),
    lab.blur([0, 1]),
    lab.shuffle([1], axis="spatial"),
    lab.drop(2),
    lab.per_step((STEPS, lab.blur([2], sigma=1))),
    lab.skip([2], prompt="none"),
    lab.skip([2], prompt="negative"),
]


def test_many_weak_models_in_one_run_do_not_touch_each_other(tiny):
    negative = {"negative_prompt": "a blue two growing"}  # else it is the empty caption
    together, _ = recorded(tiny, *MANY, **negative)
    names = list((sum((lab.Probe(w) for w in MANY), start=lab.Guidance())).weak)
    assert len(names) == len(set(names)) == len(MANY)
    for name, weak in zip(names, MANY, strict=True):
        alone, _ = recorded(tiny, weak, **negative)
        for step in range(STEPS):
            assert torch.equal(branch(together, name, step), branch(alone, weak.name, step))
    seen = [branch(together, name, 0) for name in names]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(seen, 2))
    assert left_behind(tiny.pipe) == []


def test_every_kind_leaves_the_pipelines_own_bits_where_it_only_records(tiny):
    recording, _ = recorded(tiny, *MANY)
    final = torch.from_numpy(recording.ds.final.values)
    assert torch.equal(final, tiny.stock(num_inference_steps=STEPS, guidance_scale=4.0))


# ---- errors of a pass ----

NOTHING = {
    "a window as long as the video": lab.window([1], frames=2),
    "a window longer than the video": lab.window([0, 1, 2], frames=50, heads=[0]),
    "a blur of no width": lab.blur([1], sigma=0.01),
    "next to no strength": lab.skip([1], part="attention", strength=1e-30),
    "next to no strength on a block": lab.skip([1], strength=1e-30),
    "a schedule of it": lab.per_step((4, lab.window([1], frames=2))),
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_changes_nothing_is_an_error(tiny, case):
    weak = NOTHING[case]
    with pytest.raises(lab.GuidanceError, match=r"weak model .* changed nothing") as caught:
        tiny.sample(lab.CFG(4) + lab.STG(1, weak))
    assert str(weak) in str(caught.value)
    assert left_behind(tiny.pipe) == []


def test_what_changes_no_more_than_rounding_is_an_error(tiny):
    with pytest.raises(lab.GuidanceError, match=r"changed nothing: its prediction equals .* up to rounding"):
        tiny.sample(lab.STG(1, lab.skip([1], part="attention", strength=1e-6)))
    tiny.sample(lab.STG(1, lab.skip([1], part="attention", strength=1e-3)), num_inference_steps=1, record=False)


def test_shuffling_one_frame_in_time_is_an_error(tiny):
    with pytest.raises(lab.GuidanceError, match="changed nothing"):
        tiny.sample(lab.STG(1, lab.shuffle([1], axis="temporal")), num_frames=1)


def test_a_blur_of_one_frame_in_time_is_an_error(tiny):
    with pytest.raises(lab.GuidanceError, match="changed nothing"):
        tiny.sample(lab.STG(1, lab.blur([1], axis="temporal")), num_frames=1)


EDITING = [
    lab.skip([1], part="attention"),
    lab.skip([1], part="attention", axis="temporal"),
    lab.window([1]),
    lab.blur([1]),
    lab.per_step((4, lab.blur([1]))),
]


@pytest.mark.parametrize("weak", EDITING, ids=str)
def test_attention_that_is_not_computed_by_the_kernel_is_an_error(tiny, monkeypatch, weak):
    def by_hand(query, key, value, **rest):
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return ((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2)

    monkeypatch.setattr(transformer_wan, "dispatch_attention_fn", by_hand)
    with pytest.raises(lab.GuidanceError, match=r"attention 1 was never reached.*another attention backend\?"):
        tiny.sample(lab.STG(1, weak))
    assert left_behind(tiny.pipe) == []
    tiny.sample(lab.STG(1, lab.skip([1])), num_inference_steps=1, record=False)  # blocks are skipped all the same


BYPASSED = [lab.shuffle([1]), lab.skip([1], part="cross_attention_zero"), lab.window([1]), lab.blur([1])]


@pytest.mark.parametrize("weak", BYPASSED, ids=str)
def test_a_block_that_has_no_use_for_its_parts_is_an_error(tiny, weak):
    rig = tiny.copy()
    if weak.name == "shuffle":  # the model itself goes past the block
        rig.pipe.transformer.blocks[1].__class__ = type("Bypass", (type(rig.pipe.transformer.blocks[1]),), {})
        type(rig.pipe.transformer.blocks[1]).__call__ = lambda self, x, *_: 1.1 * x
    else:
        rig.pipe.transformer.blocks[1].forward = lambda hidden_states, *_: 1.1 * hidden_states
    with pytest.raises(lab.GuidanceError, match=r"1 was never reached"):
        rig.sample(lab.STG(1, weak))


def test_every_new_kind_is_refused_while_a_step_cache_is_active(tiny):
    rig = tiny.copy()
    rig.pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    for weak in MANY:
        with pytest.raises(lab.GuidanceError, match="a step cache is active"):
            rig.sample(lab.CFG(4) + lab.STG(1, weak))


def test_an_error_inside_an_edit_leaves_nothing_behind(tiny, monkeypatch):
    for kind in ("window", "blur"):
        monkeypatch.setattr(KINDS[kind], "edit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tiny.sample(lab.STG(1, KINDS[kind]([1])))
        assert left_behind(tiny.pipe) == []
