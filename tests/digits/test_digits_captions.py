"""The language of the digits world: 400 captions, and an error for everything else that says what may stand there."""

import pytest
import torch

from stg_lab.digits.captions import COLOURS, DIGITS, MOTION_PHRASES, WORDS, CaptionError, all_labels, parse
from stg_lab.digits.pipeline import MAX_TOKENS, build_tokenizer

LABELS = list(all_labels())


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_all_four_hundred_labels_are_read_back_from_their_captions():
    assert len(set(LABELS)) == 400
    assert len({label.caption for label in LABELS}) == 400
    assert [parse(label.caption) for label in LABELS] == LABELS


def test_case_and_spaces_are_free():
    assert parse("  A Red  SEVEN\tmoving   left ") == parse("a red seven moving left")


@pytest.mark.parametrize(
    ("caption", "names", "allows"),
    [
        ("", "it ends before the article", "a"),
        ("the red seven moving left", "'the' is not a article", "a"),
        ("a", "it ends before the colour", "red, green"),
        ("a purple seven moving left", "'purple' is not a colour", ", ".join(COLOURS)),
        ("a red", "it ends before the digit", "zero, one"),
        ("a red eleven moving left", "'eleven' is not a digit", ", ".join(DIGITS)),
        ("a red seven", "it ends before the motion", "moving left"),
        ("a red seven flying", "'flying' is not a motion", ", ".join(MOTION_PHRASES.values())),
        ("a red seven moving", "'moving' is not a motion", "moving left"),
        ("a red seven left", "'left' is not a motion", "moving left"),
        ("a red seven moving left quickly", "'moving left quickly' is not a motion", "moving left"),
        ("seven red", "'seven' is not a article", "a"),
    ],
)
def test_a_bad_caption_names_the_word_and_what_is_allowed(caption, names, allows):
    with pytest.raises(CaptionError) as error:
        parse(caption)
    assert repr(caption) in str(error.value)
    assert names in str(error.value)
    assert allows in str(error.value).split("Allowed there: ")[1]


@pytest.mark.parametrize(
    ("caption", "hint"),
    [("a rad seven turning", "red"), ("a red sevn turning", "seven"), ("a red seven movin left", "moving left")],
)
def test_a_misspelt_word_gets_a_hint(caption, hint):
    with pytest.raises(CaptionError, match=f"Did you mean '{hint}'"):
        parse(caption)


def test_the_tokenizer_knows_every_caption(tokenizer):
    captions = [label.caption for label in LABELS]
    ids = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
    assert (ids.input_ids != tokenizer.unk_token_id).all()
    assert ids.input_ids.shape == (400, MAX_TOKENS)  # none is longer
    assert len({tuple(row) for row in ids.input_ids.tolist()}) == 400
    real = ids.attention_mask.sum(1)
    assert torch.equal(real, torch.tensor([len(c.split()) + 1 for c in captions]))
    last = ids.input_ids.gather(1, real[:, None] - 1)
    assert (last == tokenizer.eos_token_id).all()


def test_the_tokenizer_knows_every_word_and_no_other(tokenizer):
    assert set(tokenizer.get_vocab()) == {"<pad>", "</s>", "<unk>", *WORDS}
    assert tokenizer("purple").input_ids == [tokenizer.unk_token_id, tokenizer.eos_token_id]
    assert tokenizer("A Red SEVEN").input_ids == tokenizer("a red seven").input_ids
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]
