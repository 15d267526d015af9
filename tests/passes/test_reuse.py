"""Weak passes that begin at the first block that they change: the bits of whole passes, fewer blocks, and nothing left behind."""

import contextlib
import functools
import weakref

import pytest
import torch
from kit.passes import (
    ATTENTION_1,
    BATCH,
    FIRST,
    OWN,
    SKIP_2,
    WHOLE_BATCH,
    WHOLE_OWN,
    blocks,
    close,
    denoiser,
    equal,
    predicted,
    probes,
)
from kit.watch import left_behind
from kit.zoo import ZOO, member
from torch import nn

import stg_lab as lab
from stg_lab import families
from stg_lab.families import family_of
from stg_lab.passes import computes_exactly

# ---- every family ----


def weak_models(one):
    """Of every kind that this family has, at its first, its second and its last layer."""
    family = family_of(one.pipe)
    last = len(family.layers(denoiser(one))) - 1
    models = [lab.skip([0]), lab.skip([last - 1, last]), lab.drop(1, seed=1), lab.skip([1], part="attention")]
    models += [lab.skip([last], part="feedforward"), lab.skip([1], part="feedforward", prompt="negative")]
    return [*models, lab.shuffle([1], restore=False)] if family.axes == ("joint",) else models


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_pass_that_begins_late_predicts_what_the_whole_one_does(name):
    one = member(name)
    guidance = probes(*weak_models(one))
    late, whole = (predicted(one, guidance, passes) for passes in (BATCH, WHOLE_BATCH))
    assert equal(late, whole)
    own = predicted(one, guidance)
    assert close(own, whole) if family_of(one.pipe).batched else equal(own, whole)
    assert left_behind(one.pipe) == []


# ---- which blocks run ----


@contextlib.contextmanager
def running(module, stages):
    """The numbers of the blocks that really compute, one list for each pass through the denoiser."""
    ran = []

    def counting(forward, note):
        @functools.wraps(forward)
        def count(*args, **kwargs):
            note()
            return forward(*args, **kwargs)

        return count

    module.forward = counting(module.forward, lambda: ran.append([]))
    for number, stage in enumerate(stages):
        stage.forward = counting(stage.forward, lambda number=number: ran[-1].append(number))
    try:
        yield ran
    finally:
        for one in (module, *stages):
            del one.forward


def ran(one, name, guidance, passes=None, **call):
    """Of the first step."""
    module = denoiser(one)
    with running(module, blocks(module, name)) as found, lab.attach(one.pipe, guidance=guidance, passes=passes):
        one.stock(num_inference_steps=2, **call)
    assert found[: len(found) // 2] == found[len(found) // 2 :]
    return found[: len(found) // 2]


ALL, FOUR, SIX = [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("name", "models", "expected"),
    [
        ("wan", [SKIP_2], [ALL, [], ALL]),
        ("wan", [lab.skip([0])], [ALL, [1, 2], ALL]),
        ("wan", [ATTENTION_1, SKIP_2, FIRST], [ALL, [1, 2], [], ALL, ALL]),
        ("wan", [lab.skip([0, 2])], [ALL, [1], ALL]),
        ("wan", [lab.skip([1], strength=0.5)], [ALL, [1, 2], ALL]),
        ("wan", [lab.skip([2], part="attention", prompt="negative")], [ALL, ALL, [2]]),
        ("mochi", [ATTENTION_1, SKIP_2], [ALL, [1, 2], []]),
        ("hunyuan", [lab.skip([1]), lab.skip([3], part="attention")], [FOUR, [2, 3], [3], FOUR]),
        ("latte", [lab.skip([1], axis="temporal"), lab.skip([1])], [FOUR, [], []]),
        ("latte", [lab.skip([1], axis="spatial")], [FOUR, [3]]),
        (
            "opensora",
            [lab.skip([1], part="attention", axis=a) for a in ("spatial", "temporal")],
            [SIX, SIX[2:], SIX[3:]],
        ),
        ("opensora", [lab.skip([2], axis="temporal"), lab.skip([1], axis="spatial")], [SIX, [], SIX[3:]]),
        ("svd", [lab.skip([0]), lab.skip([1])], [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [2, 3, 4]]),
    ],
    ids=str,
)
def test_blocks_before_the_first_changed_one_do_not_run(name, models, expected):
    assert ran(member(name), name, probes(*models)) == expected


def test_without_reuse_they_all_run():
    assert ran(member("wan"), "wan", probes(ATTENTION_1, SKIP_2), WHOLE_OWN) == [ALL, ALL, [0, 1], ALL]


def test_one_row_of_a_batched_call_is_enough_in_float32_and_narrower_types_keep_the_batch(monkeypatch):
    one = member("mochi")
    assert [rows(one, passes, probes(SKIP_2)) for passes in (None, OWN, BATCH)] == [[2, 1] * 2, [2, 1] * 2, [2, 2] * 2]
    one.to_bfloat16()
    one.call = {k: v.bfloat16() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in one.call.items()}
    assert [rows(one, passes, probes(SKIP_2)) for passes in (None, OWN, BATCH)] == [[2, 2] * 2, [2, 1] * 2, [2, 2] * 2]
    module = member("mochi").pipe.transformer
    with torch.autocast("cpu", torch.bfloat16):
        assert not computes_exactly(module)
    assert computes_exactly(module.double())
    narrow = member("opensora").pipe.transformer.to(torch.bfloat16)
    narrow.x_embedder.float()  # some keep their first weights in float32
    assert not computes_exactly(narrow)


def rows(one, passes, guidance, **call):
    """Of every pass through the denoiser."""
    found, forward = [], denoiser(one).forward

    @functools.wraps(forward)
    def count(*args, **kwargs):
        found.append(len(args[0] if args else kwargs["hidden_states"]))
        return forward(*args, **kwargs)

    denoiser(one).forward = count
    try:
        predicted(one, guidance, passes, **call)
    finally:
        del denoiser(one).forward
    return found


@pytest.mark.parametrize("name", ["wan", "mochi", "svd", "ltx"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predictions_keep_their_layout_in_memory(name, dtype):
    one = member(name)
    if dtype is torch.bfloat16:
        one.to_bfloat16()
        one.call = {k: v.bfloat16() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in one.call.items()}
    late, whole = (predicted(one, probes(ATTENTION_1), passes) for passes in (BATCH, WHOLE_BATCH))
    assert lying(late["skip"]) == lying(whole["skip"]) == lying(late["cond"])


def lying(predictions):
    return [(p.dtype, p.shape, p.stride()) for p in predictions]


# ---- what is kept, and for how long ----


def test_an_output_is_kept_once_for_all_and_let_go_after_its_last_use():
    one = member("wan")
    module = denoiser(one)
    alive, outputs, forward = [], {}, module.forward

    def note_output(number, block, args, output):
        outputs.setdefault(number, weakref.ref(output))

    def living():
        return {number for number, output in outputs.items() if output() is not None}

    @functools.wraps(forward)
    def count(*args, **kwargs):
        alive.append(living())
        return forward(*args, **kwargs)

    handles = [b.register_forward_hook(functools.partial(note_output, n)) for n, b in enumerate(module.blocks)]
    module.forward = count
    models = [lab.skip([1]), ATTENTION_1, SKIP_2, lab.skip([2], part="feedforward"), lab.skip([0])]
    with lab.attach(one.pipe, guidance=probes(*models)):
        one.stock(num_inference_steps=1)
    for handle in handles:
        handle.remove()
    del module.forward
    #                cond   skip 1  attention 1  skip 2  feedforward 2  skip 0  uncond
    assert alive == [set(), {0, 1}, {0, 1}, {1}, {1}, set(), set()]
    assert living() == set()


def test_what_is_written_into_after_the_block_is_computed_again():
    one = member("wan")
    second = denoiser(one).blocks[1]

    def write(block, args):
        args[0].mul_(1.25)  # the very tensor that the first block returned

    handle = second.register_forward_pre_hook(write)
    try:
        expected = predicted(one, probes(ATTENTION_1, SKIP_2), WHOLE_BATCH)
        assert equal(predicted(one, probes(ATTENTION_1, SKIP_2), BATCH), expected)
        assert ran(one, "wan", probes(ATTENTION_1, SKIP_2)) == [ALL, ALL, [], ALL]
    finally:
        handle.remove()


# ---- where nothing is reused ----


def test_another_checkpoint_and_another_caption_run_whole(tiny):
    rig, other = tiny.copy(), tiny.copy()
    with torch.no_grad():
        other.pipe.transformer.proj_out.weight.mul_(1.5)
    for model, weak in ((lab.checkpoint(other.pipe), []), (lab.skip([2], prompt="none"), [[0, 1]])):
        assert ran(rig, "wan", probes(model)) == [ALL, *weak, ALL]


def test_blocks_whose_weights_are_fetched_in_groups_run_whole():
    one = member("wan")
    expected = predicted(one, probes(SKIP_2))
    cpu = torch.device("cpu")
    denoiser(one).enable_group_offload(cpu, cpu, offload_type="block_level", num_blocks_per_group=1)
    count = []
    handle = denoiser(one).blocks[0].norm1.register_forward_pre_hook(lambda *_: count.append(1))
    assert equal(predicted(one, probes(SKIP_2)), expected)
    handle.remove()
    assert len(count) == 2 * 3


# ---- a family that does not promise its order ----


@pytest.fixture
def strangers(monkeypatch):
    """The lab without its families."""
    monkeypatch.setattr(families, "FAMILIES", ())


def in_order(module, order):
    """Let a denoiser run its blocks in another order than that of its list."""
    forward = module.forward

    @functools.wraps(forward)
    def run(*args, **kwargs):
        listed = module.blocks
        module.blocks = nn.ModuleList([listed[number] for number in order])
        try:
            return forward(*args, **kwargs)
        finally:
            module.blocks = listed

    module.forward = run


@pytest.mark.filterwarnings("ignore:.*is of no family that the lab knows")
@pytest.mark.usefixtures("strangers")
class TestUnknown:
    def test_the_first_pass_from_a_block_on_is_checked_and_later_ones_reuse(self):
        one = member("wan")
        module = denoiser(one)
        with running(module, blocks(module, "wan")) as found, lab.attach(one.pipe, guidance=probes(ATTENTION_1)):
            one.stock()
        assert found == [ALL, [1, 2], ALL, [1, 2], ALL] + [ALL, [1, 2], ALL] * 2

    @pytest.mark.parametrize("order", [[2, 1, 0], [0, 2, 1], [1, 0, 2], [0, 1, 1, 2]], ids=str)
    def test_blocks_that_run_in_another_order_are_found_out(self, order):
        one = member("wan")
        in_order(denoiser(one), order)
        guidance = probes(ATTENTION_1, lab.skip([2], part="attention"), lab.skip([1]), lab.skip([2], strength=0.5))
        expected = predicted(one, guidance, WHOLE_BATCH)
        assert equal(predicted(one, guidance, BATCH), expected)
        assert equal(predicted(one, guidance), expected)

    def test_rows_of_their_own_do_not_stand_in_the_way(self):
        """Passes of one row never equal those of the batch, but reuse is not to be blamed for that."""
        one = member("mochi")
        module = denoiser(one)
        with running(module, blocks(module, "mochi")) as found, lab.attach(one.pipe, guidance=probes(ATTENTION_1)):
            one.stock()
        assert found[-2:] == [ALL, [1, 2]]


# ---- in company ----


def test_restart_and_two_denoisers_are_the_same_with_and_without(wan22):
    weak = lab.STG(1, ATTENTION_1) + lab.Probe(SKIP_2)
    for guidance in (weak, weak.restart(0.3, 0.9, 2)):
        late, whole = (predicted(wan22, guidance, passes, num_inference_steps=4) for passes in (None, WHOLE_OWN))
        assert equal(late, whole)
    assert left_behind(wan22.pipe) == []


def test_the_users_own_hooks_see_the_pipelines_call_and_their_changes_are_reused():
    one = member("wan")
    plain = predicted(one, probes(SKIP_2))
    seen = []
    handles = [
        denoiser(one).blocks[0].register_forward_hook(lambda block, args, output: 1.1 * output),
        denoiser(one).blocks[0].register_forward_hook(lambda block, args, output: seen.append(1)),
    ]
    changed = predicted(one, probes(SKIP_2))
    assert len(seen) == 2 * 2  # cond and uncond, not the weak pass
    assert equal(changed, predicted(one, probes(SKIP_2), WHOLE_OWN))
    assert not any(map(torch.equal, changed["skip"], plain["skip"]))
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("fails_at", [0, 1, 2], ids=["in the pipeline's pass", "in the weak pass", "in the next"])
def test_a_run_that_breaks_off_leaves_nothing(error, fails_at):
    one = member("wan")
    stock = one.stock()
    count = []

    def fail(*_):
        count.append(1)
        if len(count) == fails_at + 1:
            raise error

    handle = denoiser(one).blocks[2].ffn.register_forward_pre_hook(fail)
    with pytest.raises(error), lab.attach(one.pipe, guidance=lab.STG(1, lab.skip([2], part="attention"))):
        one.stock()
    handle.remove()
    assert left_behind(one.pipe) == []
    assert torch.equal(one.stock(), stock)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": "all"}, "rows 'all' is unknown.*Known: "),
    ],
)
def test_unknown_choices_are_told(wrong, message):
    with pytest.raises(lab.GuidanceError, match=message):
        lab.Passes(**wrong)
