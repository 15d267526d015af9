"""Blind pairs: a rater's rule comes back within the intervals, nothing is lost, and nothing tells which is which."""

import io
import json
import math
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import minimize
from scipy.stats import beta, binomtest

import stg_lab as lab
from stg_lab.errors import RatingError
from stg_lab.rating import strengths
from stg_lab.rating.pairs import ASPECTS, Pair, paired
from stg_lab.rating.result import Result
from stg_lab.rating.session import Answer
from stg_lab.rating.sources import Clips, Key, gather
from stg_lab.recording import Recording
from stg_lab.sheets import to_bytes
from stg_lab.widgets.page import alone

NAMES = ("Akelei", "Bovist", "Cosmea")
SHADE = {name: (k + 1) / 4 for k, name in enumerate(NAMES)}  # what a setting's videos are painted with


def videos(*names, clips=6, frames=3):
    """Videos of one grey each, by which the rater below knows the settings; nobody else is told."""
    return {name: np.full((clips, frames, 4, 6, 3), SHADE[name], np.float32) for name in names}


def who(question):
    """The settings on the left and on the right, seen from the pictures."""
    near = {round(shade * 255): name for name, shade in SHADE.items()}
    return tuple(near[round(float(video.mean()) * 255)] for video in (question.left, question.right))


def rate_all(rating, say):
    """Answer every question with `say(left, right, question)`."""
    while (question := rating.next()) is not None:
        rating.answer(say(*who(question), question))
    return rating.result()


def preferring(strength, rng):
    """A rater after Bradley and Terry."""
    return lambda left, right, _: (
        "left" if rng.random() < strength[left] / (strength[left] + strength[right]) else "right"
    )


def answers(outcomes, *, a="Akelei", b="Bovist", aspect="overall", captions=None):
    """Answers about two settings, one a clip: "a", "b" or "equal" won; sides by turns."""
    made = []
    for i, won in enumerate(outcomes):
        left, right = (a, b) if i % 2 else (b, a)
        said = "equal" if won == "equal" else "left" if {"a": a, "b": b}[won] == left else "right"
        made.append(Answer(Pair(Key(captions[i] if captions else "x", i), left, right), aspect, said))
    return made


def result(outcomes, **options):
    by = options.pop("by", "pair")
    return Result([answers(outcomes, **options)], ("Akelei", "Bovist"), tuple(ASPECTS), by=by)


@pytest.fixture
def rating(tmp_path):
    return lab.rate(videos("Akelei", "Bovist"), captions=list("uvwxyz"), out=tmp_path / "r.jsonl", rater=1, seed=5)


# ---- statistics ----


def test_a_raters_rule_comes_back_within_the_intervals(tmp_path):
    """From the pictures through file and statistics; over sessions, since of one alone a twentieth may miss."""
    rules = {
        "motion": {"Akelei": 1.0, "Bovist": 2.5, "Cosmea": 0.5},
        "overall": {"Akelei": 3.0, "Bovist": 1.0, "Cosmea": 1.0},
    }
    inside, rng = [], np.random.default_rng(0)
    for session in range(8):
        out = tmp_path / f"{session}.jsonl"
        rating = lab.rate(videos(*NAMES, clips=40), out=out, aspects=list(rules), rater="a", seed=session)
        found = rate_all(rating, lambda left, right, q: preferring(rules[q.aspect], rng)(left, right, q))
        for aspect, rule in rules.items():
            mean = math.prod(rule.values()) ** (1 / 3)
            for name, one in found.strengths[aspect].items():
                inside.append(one.low < rule[name] / mean < one.high)
            for (a, b), share in found.shares[aspect].items():
                inside.append(share.share.low < rule[a] / (rule[a] + rule[b]) < share.share.high)
    assert np.mean(inside) >= 0.9
    together = lab.ratings(tmp_path / "*.jsonl").strengths["motion"]
    for name, one in together.items():  # eight times the answers: near the truth, though the clips are no more
        assert one.value == pytest.approx(rules["motion"][name] / 1.25 ** (1 / 3), rel=0.2)


def test_strengths_are_those_of_a_general_optimiser():
    """Against the likelihood of Bradley and Terry itself, maximised by scipy."""
    rng = np.random.default_rng(1)
    for count in (2, 3, 5):
        wins = rng.integers(1, 30, (count, count)) * (1 - np.eye(count))
        wins[0, 1:] *= 40  # one that nearly always wins

        def loss(log, wins=wins):
            return (wins * np.logaddexp(0, log[None] - log[:, None])).sum()

        expected = minimize(loss, np.zeros(count), method="BFGS", options={"gtol": 1e-9}).x
        found = np.log(strengths.bradley_terry(wins[None].repeat(2, 0)))
        np.testing.assert_allclose(found, np.stack([expected - expected.mean()] * 2), atol=1e-4)
        np.testing.assert_allclose(found.mean(-1), 0, atol=1e-12)


@pytest.mark.parametrize(("won", "lost"), [(7, 3), (12, 12), (20, 0), (1, 0)])
def test_two_settings_have_a_closed_form(won, lost):
    """The share is the ratio of the strengths; the interval is Jeffreys', the quantiles of a beta distribution."""
    found = result(["a"] * won + ["b"] * lost)
    share = found.shares["overall"]["Akelei", "Bovist"]
    assert (share.first, share.second, share.share.count) == (won / (won + lost), lost / (won + lost), won + lost)
    one, other = found.strengths["overall"]["Akelei"], found.strengths["overall"]["Bovist"]
    assert one.value * other.value == pytest.approx(1)
    assert one.value / (one.value + other.value) == pytest.approx((won + 0.5) / (won + lost + 1))
    low, high = beta.ppf([0.025, 0.975], won + 0.5, lost + 0.5)
    assert share.share.low == pytest.approx(low, abs=0.03)
    assert share.share.high == pytest.approx(1.0 if not lost else high, abs=0.03)
    odds = np.sqrt(low / (1 - low))  # of two strengths with product 1
    assert one.low == pytest.approx(odds, rel=0.15)


def test_the_interval_is_near_wilsons():
    found = result(["a"] * 33 + ["b"] * 17).shares["overall"]["Akelei", "Bovist"].share
    other = binomtest(33, 50).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(other.low, abs=0.02), pytest.approx(other.high, abs=0.02))


def test_an_equal_counts_half_for_either():
    halves, split = result(["equal"] * 10 + ["a"] * 4), result(["a"] * 9 + ["b"] * 5)
    share = halves.shares["overall"]["Akelei", "Bovist"]
    assert (share.first, share.equal, share.second) == (4 / 14, 10 / 14, 0)
    assert share.share.value == split.shares["overall"]["Akelei", "Bovist"].share.value == 9 / 14
    assert halves.strengths["overall"]["Akelei"].value == pytest.approx(split.strengths["overall"]["Akelei"].value)
    narrow, wide = (one.shares["overall"]["Akelei", "Bovist"].share for one in (halves, split))
    assert narrow.high - narrow.low < wide.high - wide.low  # equals vary less


@pytest.mark.parametrize(("clips", "raters", "agree"), [(12, 1, 0.0), (25, 1, 0.0), (25, 5, 0.6)])
def test_the_interval_covers_the_truth_as_often_as_it_says(clips, raters, agree):
    """Also where several raters say the same of a clip, for what the clip is: then answers are not so many as they seem."""
    rng = np.random.default_rng(2)
    true, rounds, within = np.log([1.0, 2.0, 0.7]), 200, 0
    chance = 1 / (1 + np.exp(true[None] - true[:, None]))  # [i, j]: i over j
    true_mean = true - true.mean()
    for _ in range(rounds):
        wins = np.zeros((clips, 3, 3))
        for i, j in combinations(range(3), 2):
            own = rng.random((clips, raters)) < chance[i, j]
            copies = rng.random((clips, raters)) < agree
            said = np.where(copies, own[:, :1], own).sum(1)
            wins[:, i, j], wins[:, j, i] = said, raters - said
        low, high = np.percentile(np.log(strengths.bradley_terry(strengths.drawn(wins))), [2.5, 97.5], axis=0)
        within += ((low < true_mean) & (true_mean < high)).mean()
    assert 0.91 <= within / rounds <= 0.99


def test_agreeing_raters_are_one_unit_each_clip():
    """Ten raters who say the same are no more evidence about other clips than one of them."""
    one, ten = (
        Result([answers(["a"] * 8 + ["b"] * 4)] * raters, ("Akelei", "Bovist"), tuple(ASPECTS)) for raters in (1, 10)
    )
    (low, high), (low10, high10) = (
        ((x := r.shares["overall"]["Akelei", "Bovist"].share).low, x.high) for r in (one, ten)
    )
    assert (low10, high10) == (pytest.approx(low), pytest.approx(high))
    assert (ten.raters, ten.answers) == (10, 120)


def test_intervals_over_captions_are_wider_where_seeds_of_a_caption_are_judged_alike():
    outcomes, captions = ["a"] * 20 + ["b"] * 10, [c for c in "uvwxyz" for _ in range(5)]
    pair, caption = (
        result(outcomes, captions=captions, by=by).shares["overall"]["Akelei", "Bovist"].share
        for by in ("pair", "caption")
    )
    assert pair.value == caption.value
    assert caption.high - caption.low > 1.5 * (pair.high - pair.low)
    with pytest.raises(lab.CallError, match="'pair' or 'caption'"):
        result(outcomes, by="rater")


def test_settings_that_nothing_connects_have_no_strengths():
    apart = [*answers(["a"]), *answers(["b"], a="Cosmea", b="Delta")]
    found = Result([apart], ("Akelei", "Bovist", "Cosmea", "Delta"), ("overall",))
    assert found.strengths["overall"] == {}
    assert set(found.shares["overall"]) == {("Akelei", "Bovist"), ("Cosmea", "Delta")}
    assert "strength" not in repr(found)
    assert "Delta" in found._repr_html_()


def test_the_result_shows_itself_and_is_drawn():
    found = result(["a"] * 3 + ["equal"], a="Akelei", b="Bovist")
    assert "88 % (" in repr(found)
    assert "75 / 25 / 0 %" in repr(found)
    figure = lab.plots.strengths(found)
    assert [trace.x[0] for trace in figure.data] == [one.value for one in found.strengths["overall"].values()]
    assert figure.layout.xaxis.type == "log"
    names = ("<b>x</b>", "y & z")
    escaped = Result([answers("a", a=names[0], b=names[1])], names, ("overall",))._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;" in escaped
    assert "y &amp; z" in escaped


# ---- sides and order ----


def clips(count, *names):
    keys = tuple(Key(f"caption {i}", i) for i in range(count))
    return [Clips(name, np.zeros((count, 1, 1, 1, 3), np.uint8), keys, name) for name in names]


def test_sides_are_balanced_and_independent_of_the_setting():
    lefts, total, same = Counter(), 0, 0
    for seed in range(200):
        pairs = paired(clips(9, *NAMES), seed=seed, rater="1")
        for a, b in combinations(NAMES, 2):
            these = [pair for pair in pairs if pair.settings == (a, b)]
            assert len(these) == 9
            assert sum(pair.left == a for pair in these) in (4, 5)  # balanced in every session
        lefts.update(pair.left for pair in pairs)
        same += sum(p.left == q.left for p, q in pairwise(pairs) if p.settings == q.settings)
        total += sum(p.settings == q.settings for p, q in pairwise(pairs))
    shown = sum(lefts.values()) * 2 // 3 // 2 * 2  # how often each setting was shown, either side
    for name in NAMES:
        assert binomtest(lefts[name], shown).pvalue > 0.01
    assert 0.35 < same / total < 0.55  # the last side tells nothing but that halves are equal


def test_raters_of_one_seed_see_other_sides_and_one_rater_the_same_again():
    one, again, other = (paired(clips(20, *NAMES), seed=3, rater=rater) for rater in ("1", "1", "2"))
    assert one == again != other
    assert one == paired(clips(20, *NAMES)[::-1], seed=3, rater="1")  # in whatever order sources are given


# ---- sources ----


@pytest.fixture(scope="module")
def recorded(tiny, tmp_path_factory):
    """Two runs of the same captions and seeds, and one of other seeds in part."""
    folder = tmp_path_factory.mktemp("recorded")
    call = {"prompt": ["a red seven moving left", "a blue two growing"]}
    one = tiny.sample(lab.CFG(4), record=folder / "one.zarr", output_type="np", **call)
    two = tiny.sample(lab.CFG(2), record=folder / "two.zarr", output_type="np", **call)
    off = tiny.sample(lab.CFG(3), record=folder / "off.zarr", output_type="np", prompt="a blue two growing", seed=1)
    return one, two, off


def test_runs_recordings_and_paths_are_one_source(recorded, tmp_path):
    one, two, _ = recorded
    rating = lab.rate(one, two, out=tmp_path / "r.jsonl", rater="a", seed=0)
    assert rating.settings == ("CFG(2)", "CFG(4)")
    assert (rating.pairs, rating.total, rating.left_out) == (2, 8, [])
    rating.answer("equal")
    again = lab.rate(str(one.recording.path), two.recording, out=tmp_path / "r.jsonl")
    assert (again.done, again.rater) == (1, "a")
    question = again.next()
    assert question.caption in ("a red seven moving left", "a blue two growing")
    own = {to_bytes(clip).tobytes() for run in (one, two) for clip in run.video}
    assert {to_bytes(video).tobytes() for video in (question.left, question.right)} < own


def test_an_unrecorded_run_is_known_by_its_seeds(tiny, recorded):
    bare = tiny.sample(
        lab.CFG(1.5), output_type="np", prompt=["a red seven moving left", "a blue two growing"], record=False
    )
    [one, other] = gather(bare, recorded[0])
    assert set(one.keys) == set(other.keys) == {Key("a red seven moving left", 0), Key("a blue two growing", 1)}


def test_what_has_no_partner_is_told(recorded, tmp_path):
    one, _, off = recorded
    rating = lab.rate(one, off, out=tmp_path / "r.jsonl")
    assert rating.left_out == ["CFG(4): a red seven moving left, seed 0"]
    assert rating.pairs == 1
    assert "1 videos without a partner" in repr(rating)
    assert rating.widget.view["note"].startswith("1 video has no partner")
    with pytest.raises(lab.CallError, match="no two videos have the same caption and seed"):
        lab.rate({"a": one, "b": lab.open("repair_both")} and {"a": off, "b": first_of(one)}, out=tmp_path / "n.jsonl")
    assert not (tmp_path / "n.jsonl").exists()


def first_of(run):
    """The recording without its last sample."""
    rec = run.recording
    ds = rec.ds.isel(sample=slice(0, 1))
    return Recording(ds, rec.path, complete=True, planned=rec.planned, preview=rec._preview)


@pytest.mark.parametrize(
    ("sources", "options", "words"),
    [
        (({"a": np.zeros((1, 2, 4, 4, 3))},), {}, "at least two sources, got 1"),
        ((np.zeros((1, 2, 4, 4, 3)),) * 2, {}, r"no name of its own\. Type lab\.rate\(\{"),
        ((3, 4), {}, "got int"),
        (({"a": 3, "b": 4},), {}, "a is a Run.*got int"),
        (({"a": np.zeros((2, 4, 4, 3)), "b": np.zeros((2, 4, 4, 3))},), {}, r"a is float64 of shape \(2, 4, 4, 3\)"),
        (({"a": np.zeros((1, 2, 4, 4, 3), np.uint8), "b": np.zeros((1, 2, 4, 4, 3))},), {}, "a is uint8"),
        (({"a": np.full((1, 2, 4, 4, 3), 7.0), "b": np.zeros((1, 2, 4, 4, 3))},), {}, r"values from 7 to 7"),
        (({"a": np.zeros((1, 2, 4, 4, 3)), "b": np.zeros((1, 2, 8, 4, 3))},), {}, "by the size of their videos"),
        (({"a": np.zeros((3, 2, 4, 4, 3)), "b": np.zeros((3, 2, 4, 4, 3))},), {"captions": ["x"]}, "got 1 captions"),
        ((videos("Akelei", "Bovist"),), {"aspects": ["mood"]}, "'frame quality'.*got 'mood'"),
        ((videos("Akelei", "Bovist"),), {"aspects": []}, "got none"),
        ((videos("Akelei", "Bovist"),), {"rater": "anna"}, "one letter or a number.*'anna'"),
        ((videos("Akelei", "Bovist"),), {"seed": -1}, "whole number from 0"),
        ((videos("Akelei", "Bovist"),), {"fps": 0}, "frames a second"),
    ],
)
def test_what_cannot_be_compared_is_told_and_no_file_is_begun(sources, options, words, tmp_path):
    with pytest.raises(lab.CallError, match=words):
        lab.rate(*sources, out=tmp_path / "r.jsonl", **options)
    assert not (tmp_path / "r.jsonl").exists()


def test_two_of_one_guidance_need_names(recorded, tmp_path):
    with pytest.raises(lab.CallError, match=r"two sources are 'CFG\(4\)'\. Give names"):
        lab.rate(recorded[0], recorded[0].recording, out=tmp_path / "r.jsonl")


def test_rough_previews_are_refused(recorded, tmp_path):
    rough = first_of(recorded[0])
    rough._preview = replace(rough._preview, exact=False)
    with pytest.raises(lab.RecordingError, match="rough linear preview"):
        lab.rate({"a": rough, "b": recorded[1]}, out=tmp_path / "r.jsonl")


def test_no_folder_of_a_checkpoint_gets_into_a_name(recorded, tmp_path):
    rec = first_of(recorded[0])
    rec.settings["guidance_text"] = "CFG(4) + STG(1, checkpoint:/home/anna maria/models/early)"
    rating = lab.rate(rec, recorded[1], out=tmp_path / "r.jsonl")
    assert rating.settings[1] == "CFG(4) + STG(1, checkpoint:early)"
    text = (tmp_path / "r.jsonl").read_text()
    assert "anna" not in text
    assert str(tmp_path) not in text


def test_without_captions_their_match_is_not_asked(tmp_path):
    bare = lab.rate(videos("Akelei", "Bovist"), out=tmp_path / "r.jsonl")
    assert bare.total == 3 * bare.pairs
    rate_all(bare, lambda *_: "left")
    assert "match to caption" not in bare.result().shares


# ---- the file ----


def test_it_goes_on_after_a_kill_at_any_byte_of_the_last_line(rating, tmp_path):
    for said in ("left", "equal", "right"):
        question = rating.next()
        rating.answer(said)
    whole = rating.path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(whole)):
        rating.path.write_bytes(whole[:cut])
        assert lab.ratings(rating.path).answers == 2  # reading changes nothing
        assert rating.path.read_bytes() == whole[:cut]
        again = lab.rate(videos("Akelei", "Bovist"), captions=list("uvwxyz"), out=rating.path)
        assert (again.done, again.next().number, again.next().pair) == (2, question.number, question.pair)
        np.testing.assert_array_equal(again.next().left, question.left)
        again.answer("right")
        assert rating.path.read_bytes() == whole


def test_it_goes_on_after_a_kill_in_the_first_line(rating):
    whole = rating.path.read_bytes()
    for cut in range(len(whole)):
        rating.path.write_bytes(whole[:cut])
        assert lab.rate(videos("Akelei", "Bovist"), captions=list("uvwxyz"), out=rating.path).done == 0
        with pytest.raises(RatingError, match="there is no answer yet"):
            lab.ratings(rating.path)


def test_every_answer_is_on_the_disk_at_once(rating, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda file: synced.append(rating.path.read_bytes()))
    rating.answer("left")
    [text] = synced  # the whole line had left the program when the disk was asked to keep it
    line = json.loads(text.splitlines()[-1])
    assert (line["answer"], line["aspect"], {line["left"], line["right"]}) == (
        "left",
        "frame quality",
        {"Akelei", "Bovist"},
    )


def test_undo_takes_answers_back_one_by_one_also_after_a_restart(rating):
    asked = []
    for said in ("left", "right", "equal"):
        asked.append(rating.next().number)
        rating.answer(said)
    rating.undo()
    assert rating.next().number == asked[2]
    again = lab.rate(videos("Akelei", "Bovist"), captions=list("uvwxyz"), out=rating.path)
    again.undo()
    assert (again.done, again.next().number) == (1, asked[1])
    again.undo()
    with pytest.raises(RatingError, match="no answer to undo"):
        again.undo()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sources": {**videos("Akelei"), "Bovist": videos("Bovist")["Bovist"] * 0.9}}, "other videos of Bovist"),
        ({"sources": videos("Akelei", "Cosmea")}, "other settings, Akelei, Bovist, not Akelei, Cosmea"),
        ({"captions": list("zyxwvu")}, "other videos of Akelei, Bovist"),
        ({"aspects": ["overall"]}, "asks for frame quality"),
        ({"rater": 2}, "of rater 1, not 2"),
        ({"seed": 6}, "of seed 5, not 6"),
    ],
)
def test_a_file_of_something_else_is_refused_and_kept(rating, change, words):
    rating.answer("left")
    before = rating.path.read_bytes()
    given = {"captions": list("uvwxyz"), **change}
    with pytest.raises(RatingError, match=rf"{words}.*\. Type another name"):
        lab.rate(given.pop("sources", videos("Akelei", "Bovist")), out=rating.path, **given)
    assert rating.path.read_bytes() == before


@pytest.mark.parametrize("text", ["notes of mine", '{"a": 1}\n', "x\n"])
def test_a_file_that_is_none_of_ours_is_never_touched(tmp_path, text):
    (tmp_path / "r.jsonl").write_text(text)
    with pytest.raises(RatingError, match="no file of ratings"):
        lab.rate(videos("Akelei", "Bovist"), out=tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_text() == text


@pytest.mark.parametrize(
    "line", ["{}", "nonsense", '{"undo": 0}', '{"caption": "u", "seed": 0, "turn": 0, "left": "X"}']
)
def test_a_damaged_line_is_named(rating, line):
    with rating.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RatingError, match=r"line 2 of .* is damaged"):
        lab.ratings(rating.path)


def test_two_sessions_do_not_write_over_each_other(rating):
    other = lab.rate(videos("Akelei", "Bovist"), captions=list("uvwxyz"), out=rating.path)
    rating.answer("left")
    with pytest.raises(RatingError, match="another session writes to it"):
        other.answer("right")
    assert lab.ratings(rating.path).answers == 1


def test_a_write_that_fails_leaves_whole_lines_and_is_told(rating, monkeypatch):
    rating.answer("left")

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(RatingError, match="cannot be written: No space left on device"):
            rating.answer("right")
    assert rating.done == 1
    rating.answer("equal")
    assert lab.ratings(rating.path).answers == 2


def test_several_raters_are_read_together(tmp_path):
    for rater, said in ((1, "Akelei"), (2, "Akelei"), (3, "Bovist")):
        one = lab.rate(videos("Akelei", "Bovist"), out=tmp_path / f"r{rater}.jsonl", rater=rater, aspects="overall")
        rate_all(one, lambda left, right, _, said=said: "left" if left == said else "right")
    together = lab.ratings(tmp_path / "*.jsonl")
    assert (together.raters, together.answers) == (3, 18)
    assert together.shares["overall"]["Akelei", "Bovist"].share.value == pytest.approx(2 / 3)
    assert lab.ratings([tmp_path / "r1.jsonl", tmp_path / "r?.jsonl"]).answers == 18  # no file counts twice
    (tmp_path / "copy.jsonl").write_bytes((tmp_path / "r1.jsonl").read_bytes())
    with pytest.raises(RatingError, match="same rater and seed: one is a copy"):
        lab.ratings(tmp_path / "*.jsonl")
    lab.rate(videos("Akelei", "Cosmea"), out=tmp_path / "x.jsonl")
    with pytest.raises(RatingError, match="different settings or videos"):
        lab.ratings([tmp_path / "r1.jsonl", tmp_path / "x.jsonl"])
    with pytest.raises(RatingError, match="no file of ratings at"):
        lab.ratings(tmp_path / "none*.jsonl")


# ---- what a rater sees ----


def everything(widget):
    """All that reaches the browser, and what a notebook keeps of the cell, as text."""
    state = {name: value for name, value in widget.get_state().items() if name not in ("_esm", "_css")}
    return "\n".join([repr(state), repr(widget), alone(widget), repr(widget._repr_mimebundle_())])


def test_nothing_tells_which_is_which_before_the_end(tmp_path):
    rating = lab.rate(videos(*NAMES, clips=2), captions=["u", "v"], out=tmp_path / "Akelei.jsonl")
    widget = rating.widget
    shown = set()
    while rating.next() is not None:
        said = everything(widget)
        assert not [name for name in (*NAMES, "jsonl", str(tmp_path)) if name in said]
        assert set(widget.sheets) == {f"{side}/{widget.question['pair']}" for side in ("left", "right")}
        assert not [name for name in NAMES if name in repr(rating.next())]
        shown.add(widget.question["pair"])
        widget.do("equal")
    assert shown == set(range(6))
    assert (widget.sheets, widget.question) == ({}, {})
    assert all(name in widget.result for name in NAMES)


def test_the_widget_shows_the_questions_videos_and_follows_scripts(rating):
    widget, question = rating.widget, rating.next()
    for side in ("left", "right"):
        picture = np.asarray(Image.open(io.BytesIO(widget.sheets[f"{side}/0"])))
        frames = picture.reshape(4, 3, 6, 3).transpose(1, 0, 2, 3)
        np.testing.assert_array_equal(frames, np.round(getattr(question, side) * 255))
    rating.answer("left")
    assert (widget.progress, widget.question["aspect"]) == (1, "motion")
    assert widget.question["words"] == ASPECTS["motion"]
    rating.undo()
    assert (widget.progress, widget.question["aspect"]) == (0, "frame quality")


def test_the_browser_answers_each_question_once(rating):
    widget = rating.widget
    widget.given = {"count": 1, "do": "left", "number": 0}
    assert (widget.heard, rating.done) == (1, 1)
    widget.given = {"count": 2, "do": "left", "number": 0}  # a second press that was already on its way
    assert (widget.heard, rating.done) == (2, 1)
    widget.given = {"count": 3, "do": "undo", "number": 1}
    assert (rating.done, widget.question["number"]) == (0, 0)
    widget.given = {"count": 4, "do": "undo", "number": 0}
    assert (widget.heard, widget.problem) == (4, "there is no answer to undo.")


def test_stop_shows_the_result_at_any_time_and_one_can_go_on(rating):
    rating.widget.do("stop")
    assert "Nothing has been rated" in rating.widget.result
    rating.widget.do("go on")
    rating.widget.do("left")
    rating.widget.do("stop")
    assert "Akelei" in rating.widget.result
    rating.widget.do("go on")
    assert (rating.widget.result, rating.widget.question["number"]) == ("", 1)
    assert "Akelei" not in everything(rating.widget)


def test_at_the_end_there_is_nothing_to_answer(rating):
    rate_all(rating, lambda *_: "left")
    with pytest.raises(lab.CallError, match="all questions are answered"):
        rating.answer("left")
    with pytest.raises(lab.CallError, match="'left', 'right', 'equal', got 'up'"):
        rating.answer("up")
    assert repr(rating) == "Rating(24 of 24 questions about 6 pairs of 2 settings)"
