"""Attention edited by place is attention with an explicit mask over all tokens, made by loops over frame, y and x."""

import pytest
import torch
from kit import explicit
from torch.nn.functional import scaled_dot_product_attention

import stg_lab as lab
from stg_lab.families import Grid
from stg_lab.weak import places
from stg_lab.weak.attention import Attention, mixed

GRID = (3, 2, 4)
BATCH, HEADS, DIM, WORDS = 2, 6, 8, 5
VIDEO = 3 * 2 * 4
TEXTS = ["none", "first", "last"]

#: Edit -> the rule that says which video token sees which.
RULES = {
    "within_frames": (places.within_frames, explicit.same_frame),
    "within_positions": (places.within_positions, explicit.same_position),
    "diagonal": (places.diagonal, explicit.itself),
    "sliding 0": (lambda a: places.sliding(a, 0), explicit.near(0)),
    "sliding 1": (lambda a: places.sliding(a, 1), explicit.near(1)),
    "sliding 2": (lambda a: places.sliding(a, 2), explicit.near(2)),
}


def words(text):
    return 0 if text == "none" else WORDS


def tokens(text):
    return explicit.places(GRID, text, words(text))


def is_video(text):
    return torch.tensor([place is not None for place in tokens(text)])


def hidden_keys(text, kind, *, video=True):
    """Keys that a mask hides, other ones in each sample, `(batch, 1, 1, token)`; every group of tokens keeps some."""
    if kind is None:
        return None
    draw = torch.Generator().manual_seed(1)
    hide = torch.rand(BATCH, len(tokens(text)), generator=draw) < 0.3
    keep = torch.arange(VIDEO) >= VIDEO - 8  # of the last frame nothing is hidden, so each position is seen somewhere
    keep |= torch.arange(VIDEO) % 4 == 0  # and each frame
    hide[:, is_video(text)] &= ~keep if video else torch.zeros(VIDEO, dtype=torch.bool)
    if kind == "bool":
        return ~hide[:, None, None]
    bias = torch.rand(hide.shape, generator=draw) * (is_video(text) <= video)  # a bias of its own for each key
    return torch.where(hide, -torch.inf, bias)[:, None, None]


def attention(text="none", mask=None, kv_heads=HEADS, **options):
    draw = torch.Generator().manual_seed(0)
    count = len(tokens(text))
    q, k, v = (
        torch.randn(BATCH, h, count, DIM, generator=draw, dtype=torch.float64) for h in (HEADS, kv_heads, kv_heads)
    )
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    options = {"dropout_p": 0.0, "is_causal": False, "enable_gqa": kv_heads != HEADS, **options}
    return Attention(q, k, v, mask, options, scaled_dot_product_attention, Grid(*GRID), text)


def close(a, b):
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kv_heads", [HEADS, 2], ids=["a key for each head", "shared keys"])
@pytest.mark.parametrize("mask", [None, "bool", "additive"])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", RULES)
def test_an_edit_by_place_is_attention_under_an_explicit_mask(name, text, mask, kv_heads):
    edit, rule = RULES[name]
    if name == "diagonal" and text == "none" and mask:
        pytest.skip("a video token always sees itself, so there is nothing to hide")
    a = attention(text, hidden_keys(text, mask, video=name != "diagonal"), kv_heads)
    expected = explicit.attend(a.query, a.key, a.value, rule=explicit.seen(tokens(text), rule), mask=a.mask)
    assert expected.isfinite().all()
    assert close(edit(a), expected)


@pytest.mark.parametrize("kv_heads", [HEADS, 2], ids=["a key for each head", "shared keys"])
@pytest.mark.parametrize("text", TEXTS)
def test_identity_is_the_value_of_every_token(text, kv_heads):
    a = attention(text, kv_heads=kv_heads)
    identity = torch.eye(len(tokens(text)), dtype=torch.float64).expand(BATCH, HEADS, -1, -1)
    assert close(places.identity(a), identity @ explicit.each_head(a.value, HEADS))


@pytest.mark.parametrize("kv_heads", [HEADS, 2], ids=["a key for each head", "shared keys"])
@pytest.mark.parametrize("mask", [None, "bool", "additive"])
@pytest.mark.parametrize("text", TEXTS)
def test_identity_of_the_video_leaves_the_rows_of_the_text(text, mask, kv_heads):
    a = attention(text, hidden_keys(text, mask), kv_heads)
    map_ = explicit.attention_map(a.query, a.key, mask=a.mask)
    video = is_video(text)
    map_[:, :, video] = torch.eye(len(video), dtype=torch.float64)[video]
    assert close(places.identity_video(a), map_ @ explicit.each_head(a.value, HEADS))


@pytest.mark.parametrize("name", [*RULES, "identity_video"])
def test_a_scale_of_the_models_own_is_kept(name):
    a = attention("last", scale=0.2)
    if name == "identity_video":
        map_ = explicit.attention_map(a.query, a.key, scale=0.2)
        map_[:, :, :VIDEO] = torch.eye(VIDEO + WORDS, dtype=torch.float64)[:VIDEO]
        assert close(places.identity_video(a), map_ @ a.value)
        return
    edit, rule = RULES[name]
    expected = explicit.attend(a.query, a.key, a.value, rule=explicit.seen(tokens("last"), rule), scale=0.2)
    assert close(edit(a), expected)


def test_own_frame_and_own_position_together_leave_a_token_itself():
    """Skipping space and time both is the joint skip, since the two restrictions meet in the identity."""
    frame, position = (explicit.seen(tokens("none"), r) for r in (explicit.same_frame, explicit.same_position))
    both = frame & position
    assert torch.equal(both, torch.eye(VIDEO, dtype=torch.bool))
    assert frame.sum() == 3 * 8 * 8
    assert position.sum() == 8 * 3 * 3
    a = attention()
    assert close(explicit.attend(a.query, a.key, a.value, rule=both), places.identity(a))
    assert close(places.diagonal(a), places.identity(a))


@pytest.mark.parametrize("text", TEXTS)
def test_a_window_grows_from_the_own_frame_to_the_whole_video(text):
    a = attention(text)
    assert close(places.sliding(a, 0), places.within_frames(a))
    assert not close(places.sliding(a, 1), places.within_frames(a))
    assert not close(places.sliding(a, 1), a())
    for whole in (2, 3, 99):
        assert torch.equal(places.sliding(a, whole), a())


@pytest.mark.parametrize(("edit", "grid"), [(places.within_frames, (1, 4, 6)), (places.within_positions, (24, 1, 1))])
def test_a_restriction_that_restricts_nothing_gives_the_very_bits_of_attention(edit, grid):
    a = attention()
    whole = Attention(a.query, a.key, a.value, None, a.options, a.kernel, Grid(*grid))
    assert torch.equal(edit(whole), a())


PLACED = {name: edit for name, (edit, _) in RULES.items() if name != "sliding 2"}


@pytest.mark.parametrize("name", PLACED)
@pytest.mark.parametrize(
    "shape", [(VIDEO, VIDEO), (BATCH, 1, VIDEO, VIDEO), (BATCH, HEADS, 1, VIDEO), (BATCH, 1, VIDEO, 1)], ids=str
)
def test_a_mask_that_differs_between_queries_or_heads_is_refused(name, shape):
    with pytest.raises(lab.GuidanceError, match=r"mask of shape .* that differs between queries or heads"):
        PLACED[name](attention(mask=torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.3))


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("text", ["first", "last"])
@pytest.mark.parametrize("name", [*RULES, "identity_video"])
def test_rows_of_the_text_may_have_a_mask_of_their_own(name, text, kind):
    """As in HunyuanVideo 1.5, which hides all keys from words that are padding."""
    row = hidden_keys(text, kind, video=name != "diagonal")
    own = torch.rand(BATCH, 1, VIDEO + WORDS, VIDEO + WORDS, generator=torch.Generator().manual_seed(2))
    own = own > 0.3 if kind == "bool" else own
    video = is_video(text)
    a = attention(text, torch.where(video[:, None], row, own), kv_heads=2)
    if name == "identity_video":
        map_ = explicit.attention_map(a.query, a.key, mask=a.mask)
        map_[:, :, video] = torch.eye(len(video), dtype=torch.float64)[video]
        assert close(places.identity_video(a), map_ @ explicit.each_head(a.value, HEADS))
        return
    edit, rule = RULES[name]
    expected = explicit.attend(a.query, a.key, a.value, rule=explicit.seen(tokens(text), rule), mask=a.mask)
    assert close(edit(a), expected)


@pytest.mark.parametrize(
    "shape", [(VIDEO,), (1, VIDEO), (1, 1, VIDEO), (1, 1, 1, VIDEO), (BATCH, 1, 1, VIDEO)], ids=str
)
@pytest.mark.parametrize("name", [n for n in PLACED if n != "diagonal"])
def test_a_row_of_keys_is_a_mask_in_every_shape_that_the_kernel_takes(name, shape):
    hide = hidden_keys("none", "bool")[0, 0, 0].expand(shape)
    edit, rule = RULES[name]
    a = attention(mask=hide)
    expected = explicit.attend(a.query, a.key, a.value, rule=explicit.seen(tokens("none"), rule), mask=a.mask)
    assert close(edit(a), expected)


@pytest.mark.parametrize("name", PLACED)
def test_a_mask_of_one_number_for_all_keys_changes_nothing(name):
    a, plain = attention(mask=torch.full((BATCH, 1, 1, 1), 0.7)), attention()
    assert close(PLACED[name](a), PLACED[name](plain))


@pytest.mark.parametrize("name", PLACED)
def test_causal_attention_is_refused(name):
    with pytest.raises(lab.GuidanceError, match="causal"):
        PLACED[name](attention(is_causal=True))


def cut(a, queries, keys):
    return Attention(
        a.query[:, :, :queries], a.key[:, :, :keys], a.value[:, :, :keys], None, a.options, a.kernel, a.grid, a.text
    )


@pytest.mark.parametrize("name", [*PLACED, "identity_video", "blur"])
def test_tokens_that_the_grid_does_not_account_for_are_refused(name):
    edit = {**PLACED, "identity_video": places.identity_video, "blur": lambda a: lab.blur([0]).edit(a, None)}[name]
    says = r"cannot be edited by place: the video has 24 tokens \(3 frames of 2 x 4\)"
    for a in (
        cut(attention(), 20, 20),  # fewer
        cut(attention("last"), 20, 20),
        cut(attention("last"), 29, 24),  # not as many keys as queries
        Attention(**{**vars(attention("last")), "text": "none"}),  # more, where there is no text
    ):
        with pytest.raises(lab.GuidanceError, match=says):
            edit(a)


def test_identity_needs_a_value_for_every_token():
    with pytest.raises(lab.GuidanceError, match="24 tokens and 20 values"):
        places.identity(cut(attention(), 24, 20))


# ---- some heads, part of the way (HeadHunter, SoftPAG) ----


@pytest.mark.parametrize("heads", [None, (0,), (1, 4), tuple(range(HEADS))], ids=str)
@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("text", TEXTS)
def test_some_heads_go_part_of_the_way_to_the_identity(text, heads, strength):
    a = attention(text)
    map_, eye = explicit.attention_map(a.query, a.key), torch.eye(len(tokens(text)), dtype=torch.float64)
    for h in range(HEADS) if heads is None else heads:
        map_[:, h] = (1 - strength) * map_[:, h] + strength * eye
    assert close(mixed(a, places.identity(a), heads, strength), map_ @ a.value)


def test_what_the_kernel_was_given_is_left_as_it_was():
    a = attention("last", hidden_keys("last", "additive", video=False))
    before = [x.clone() for x in (a.query, a.key, a.value, a.mask)]
    edits = [*PLACED.values(), places.identity, places.identity_video, lambda a: lab.blur([0]).edit(a, None)]
    for edit in edits:
        mixed(a, edit(a), (1,), 0.5)
    assert all(torch.equal(x, y) for x, y in zip((a.query, a.key, a.value, a.mask), before, strict=True))
