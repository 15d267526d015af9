"""`lab.search`: what it makes is what `lab.sample` makes, what it decides follows from the folder, and the folder survives everything."""

import json
import math
import threading
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from kit.pipelines import PROMPT, SMALL

import stg_lab as lab
from stg_lab.files import write
from stg_lab.search import bench, tasks
from stg_lab.search.budget import budget
from stg_lab.search.states import states
from stg_lab.sheets import to_bytes
from stg_lab.videogrid import CHOSEN, FRESH

CALL = {**SMALL, "num_inference_steps": 2}
PROMPTS = [PROMPT, "a blue two growing"]
SKIPS = [lab.skip([layer]) for layer in range(3)]


def search(pipe, candidates=SKIPS, **options):
    given = {"prompts": PROMPTS, "seeds": range(8), "score": "smoothness", "progress": False, **CALL}
    return lab.search(pipe, candidates, **{**given, **options})


@pytest.fixture
def made_up(monkeypatch):
    """Outcomes out of a table instead of the model: gains by name of the weak model, and noise that all share."""

    world = SimpleNamespace(gains={}, tasks=[], before=lambda task: None)

    def make(task):
        if (there := tasks.kept(task.place)) is not None:
            return there
        world.before(task)
        weak = [term.get("weak") for term in task.guidance["terms"]]
        rng = np.random.default_rng([task.state.seed, len(task.state.caption), *str(weak).encode()])
        value = sum(world.gains.get(name, 0.0) for name in weak) + 0.02 * rng.normal()
        found = {
            "values": {score.name: value for score in task.scores}, "seconds": 0.5, "machine": "made up",
            "caption": task.state.caption, "seed": task.state.seed,
        }  # fmt: skip
        tasks.keep_video(task.place.with_suffix(".npz"), np.full((5, 16, 16, 3), 128, np.uint8))
        write(task.place.with_suffix(".json"), json.dumps(found).encode())
        world.tasks.append(task)
        return found

    monkeypatch.setattr(bench, "make", make)
    return world


def cells(folder):
    return {file.name: json.loads(file.read_text()) for file in (folder / "cells").glob("*.json")}


# ---- videos and scores ----


def test_videos_are_those_of_sample_and_scores_are_measured_on_what_is_kept(tiny, tmp_path):
    found = search(tiny.pipe, SKIPS[:1], seeds=[3], fresh=[9], record=tmp_path / "s", guidance=lab.CFG(3))
    ids = found._folder.ids("skip:block:0 at 1", False)
    for place, prompt in enumerate(PROMPTS):
        guidance = lab.CFG(3) + lab.STG(1, lab.skip([0]))
        run = lab.sample(tiny.pipe, guidance=guidance, prompt=prompt, seed=3, record=False, **CALL)
        kept = np.load(tmp_path / "s" / "cells" / f"{ids[place]}.npz")["video"]
        assert np.array_equal(kept, (run.video[0].clip(0, 1) * 255).round().astype(np.uint8))
        told = cells(tmp_path / "s")[f"{ids[place]}.json"]
        assert (told["caption"], told["seed"]) == (prompt, 3)
        video = kept[None].astype(np.float32) / 255
        assert told["values"]["smoothness"] == pytest.approx(lab.metrics.smoothness(video)[0])
    fresh = found.table[found.table.states == "fresh"]
    assert list(fresh.candidate[:2]) == ["CFG(3)", "no guidance"]
    assert fresh.candidate.iloc[2].startswith("CFG(3) at equal cost (3 steps)")  # 2 steps of 2 + 1 passes; 3 of 2
    assert set(fresh.videos) == {2}
    assert "smoothness gain" in found.table


def test_the_result_is_the_same_in_two_processes_one_of_which_is_killed(digits, tmp_path):
    """And no pipeline need be given: a name is enough."""
    options = {
        "prompts": PROMPTS,
        "seeds": range(3),
        "score": "probability",
        "progress": False,
        "num_inference_steps": 1,
        "cfg": 2,
    }
    one = lab.search("digits-joint", SKIPS[:2], record=tmp_path / "one", **options)

    def kill():
        while not list((tmp_path / "two").glob("cells/*.json")):
            time.sleep(0.01)
        started = psutil.Process.create_time  # process ids begin anew some time
        max(psutil.Process().children(), key=started).kill()  # the last worker

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.warns(UserWarning, match="died .signal 9.; its job, number .*, is done again"):
        two = lab.search("digits-joint", SKIPS[:2], record=tmp_path / "two", client=2, **options)
    killer.join(10)
    assert two.verdict == one.verdict
    assert cells(tmp_path / "two").keys() == cells(tmp_path / "one").keys()
    for column in ("candidate", "probability", "why"):
        assert list(two.table[column].fillna("")) == pytest.approx(list(one.table[column].fillna("")), abs=1e-4)


def test_another_pipeline_under_the_name_is_refused_by_processes(tiny, tmp_path):
    pipe = tiny.copy().pipe
    pipe.save_pretrained(tmp_path / "model")
    loaded = lab.load(tmp_path / "model")
    model = tasks.Model.of(loaded)
    assert tasks._loaded(model) is not loaded
    loaded.transformer.proj_out.bias.data += 0.1  # trained on, in memory
    assert tasks.Model.of(loaded) != model
    with pytest.raises(lab.CallError, match="gives another pipeline than the one that was given"):
        tasks._loaded(tasks.Model.of(loaded))
    with pytest.raises(lab.CallError, match="save_pretrained"):
        search(tiny.pipe, client=2, record=tmp_path / "s")
    assert not (tmp_path / "s").exists()


# ---- what it finds ----


def test_the_best_is_found_and_told_by_fresh_states(tiny, made_up, tmp_path):
    made_up.gains = {"skip:block:1": 0.5, "skip:block:0": -0.5}
    found = search(tiny.pipe, record=tmp_path / "s", scale=[0.5, 1], seeds=range(16))
    assert found.wins
    assert found.verdict.startswith("skip:block:1 at ")
    assert "over no guidance, 32 videos each; CFG(5) at equal cost" in found.verdict
    assert found.best == lab.Guidance() + lab.STG(float(found.verdict.split()[2].rstrip(":")), lab.skip([1]))
    assert found.done
    table = found.table.set_index(["candidate", "states"])
    assert table.loc[("skip:block:0 at 1", "to choose by"), "why"].startswith("worse than skip:block:1")
    assert {"skip:block:1 at 1", "skip:block:1 at 0.5"} & set(found.front)
    seeds = {True: set(), False: set()}
    for task in made_up.tasks:
        seeds[task.state.seed >= 16].add(task.state.seed)
    assert seeds[False] == set(range(16))
    assert seeds[True] == set(range(16, 32))
    assert repr(found).startswith(found.verdict)
    assert "skip:block:1" in found._repr_html_()


def test_where_nothing_is_better_that_is_said_and_best_is_the_guidance_alone(tiny, made_up, tmp_path):
    made_up.gains = dict.fromkeys(map(str, SKIPS), -0.5)
    found = search(tiny.pipe, record=tmp_path / "s", guidance=lab.CFG(2))
    assert found.verdict.startswith("nothing beats CFG(2) alone; the best, skip:block:")
    assert found.best == lab.Guidance() + lab.CFG(2)


@pytest.mark.parametrize("amount", ["60 videos", "200 passes", 60])
def test_a_budget_is_kept(tiny, made_up, amount):
    made_up.gains = {"skip:block:1": 0.02}
    found = search(tiny.pipe, budget=amount, seeds=range(40))
    passes = sum(found._result.candidates[row.candidate].cost * row.videos for row in found.table.itertuples())
    videos = found.table.videos.sum()
    assert 0.8 < (passes / 200 if amount == "200 passes" else videos / 60) <= 1
    assert len(made_up.tasks) == videos


def test_a_time_is_taken_for_passes_by_what_the_first_state_of_each_took(tiny, made_up, tmp_path):
    """Half a second a video, whatever it is: 30 seconds are about 60 videos."""
    found = search(tiny.pipe, budget="30 s", seeds=range(40), record=tmp_path / "s")
    assert 40 <= found.table.videos.sum() <= 66
    told = json.loads((tmp_path / "s" / "search.json").read_text())["budget"]
    assert told["amount"] == pytest.approx(30 / np.mean([0.5 / c for c in (2, 10 / 3, 8 / 3, 2)]))


def test_several_scores_have_a_front_and_the_first_decides(tiny, made_up, tmp_path):
    found = search(tiny.pipe, score=["smoothness", "clipped"], record=tmp_path / "s")
    assert {"smoothness", "clipped", "clipped gain"} <= set(found.table)
    signs = json.loads((tmp_path / "s" / "search.json").read_text())["asked"]["signs"]
    assert signs == [1.0, -1.0]
    kept = cells(tmp_path / "s").values()
    first = found.table[found.table.states == "to choose by"].iloc[0]
    assert first.clipped == -first.smoothness  # the table tells it as it is; the race goes by its negative
    assert all(cell["values"]["clipped"] == cell["values"]["smoothness"] for cell in kept)


def brightness(video):
    brightness.calls += 1
    return video.mean()


def test_a_function_of_the_users_is_called_here_once_a_video(tiny, made_up, tmp_path):
    brightness.calls = 0
    found = search(tiny.pipe, score=brightness, record=tmp_path / "s", seeds=range(2))
    assert brightness.calls == len(made_up.tasks) == found.table.videos.sum()
    assert found.table.brightness.dropna().unique() == pytest.approx([128 / 255])
    search(tiny.pipe, score=brightness, record=tmp_path / "s", seeds=range(2))
    assert brightness.calls == len(made_up.tasks)
    assert lab.open_search(tmp_path / "s").verdict == found.verdict


def test_a_candidate_that_fails_is_dropped_and_told(tiny, made_up, tmp_path):
    def refuse(task):
        if "block:0" in str(task.guidance):
            raise lab.GuidanceError("it changes nothing")

    made_up.before = refuse
    found = search(tiny.pipe, record=tmp_path / "s")
    row = found.table[found.table.candidate == "skip:block:0 at 1"].iloc[0]
    assert row.why == "failed: GuidanceError: it changes nothing"
    assert found.done
    made_up.before = lambda task: (_ for _ in ()).throw(lab.GuidanceError("no"))
    with pytest.raises(lab.GuidanceError, match="no"):
        search(tiny.pipe, record=tmp_path / "other")


def test_all_layers_then_pairs_then_heads(tiny, made_up, tmp_path):
    """Each step a race around the best so far; what is not better by more than a standard error is not taken."""
    made_up.gains = {"skip:attention:1": 0.5, "skip:attention:1,2": 0.9, "skip:attention:1,2:heads=0": 0.2}
    found = search(tiny.pipe, None, record=tmp_path / "s")
    steps = found._folder.steps()
    names = [{one.weak for one in step} for step in steps]
    assert {"skip:block:0", "skip:attention:2", "skip:attention:1@temporal"} <= names[0]
    assert names[1:] == [
        {"skip:attention:0,1", "skip:attention:1,2"},
        {"skip:attention:1,2:heads=0", "skip:attention:1,2:heads=1"},
    ]
    assert found.verdict.startswith("skip:attention:1,2 at 1: ")
    table = found.table.set_index("candidate")
    assert "is better" in table.loc["skip:attention:1 at 1", "why"]
    assert lab.open_search(tmp_path / "s").verdict == found.verdict


# ---- the folder ----


def test_a_search_that_was_stopped_goes_on_and_finds_the_same(tiny, made_up, tmp_path):
    made_up.gains = {"skip:block:1": 0.05}
    whole = search(tiny.pipe, record=tmp_path / "whole", budget="100 videos")
    count = len(made_up.tasks)
    for stop in (0, 1, count // 2, count - 1):
        made_up.tasks.clear()

        def interrupt(task, stop=stop):
            if len(made_up.tasks) == stop:
                raise KeyboardInterrupt

        made_up.before = interrupt
        with pytest.raises(KeyboardInterrupt) as stopped:
            search(tiny.pipe, record=tmp_path / str(stop), budget="100 videos")
        assert ("lab.open_search" in str(getattr(stopped.value, "__notes__", ""))) == (stop > 0)
        early = lab.open_search(tmp_path / str(stop))
        assert not early.done
        assert early.verdict.startswith("not finished: ")
        assert isinstance(repr(early), str)
        made_up.before = lambda task: None
        again = search(tiny.pipe, record=tmp_path / str(stop), budget="100 videos")
        assert len(made_up.tasks) == count
        assert again.table.equals(whole.table)
    assert lab.open_search(tmp_path / "whole").table.equals(whole.table)


def test_more_budget_goes_on_from_what_is_there(tiny, made_up, tmp_path):
    search(tiny.pipe, record=tmp_path / "s", budget="40 videos")
    before = len(made_up.tasks)
    found = search(tiny.pipe, record=tmp_path / "s", budget="80 videos")
    assert 1.5 * before < found.table.videos.sum() <= 80
    assert len(made_up.tasks) < before + 80  # what was made is made use of


def test_a_folder_holds_one_search_and_nothing_foreign_is_deleted(tiny, made_up, tmp_path):
    search(tiny.pipe, record=tmp_path / "s")
    with pytest.raises(lab.RecordingError, match=r"another search: it differs in candidates.*overwrite=True"):
        search(tiny.pipe, SKIPS[:2], record=tmp_path / "s")
    with pytest.raises(lab.RecordingError, match=r"differs in .*call"):
        search(tiny.pipe, record=tmp_path / "s", num_inference_steps=3)
    search(tiny.pipe, SKIPS[:2], record=tmp_path / "s", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(lab.RecordingError, match="holds no search"):
        search(tiny.pipe, record=tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    with pytest.raises(lab.RecordingError, match=r"no search\.json"):
        lab.open_search(tmp_path / "mine")
    (tmp_path / "s" / "search.json").write_text("{")
    with pytest.raises(lab.RecordingError, match="cannot be read"):
        lab.open_search(tmp_path / "s")


def test_two_kinds_of_machines_are_not_mixed(tiny, made_up, tmp_path):
    search(tiny.pipe, record=tmp_path / "s", budget="40 videos")
    told = json.loads((tmp_path / "s" / "search.json").read_text())
    (tmp_path / "s" / "search.json").write_text(json.dumps(told | {"machine": "H200"}))
    with pytest.raises(lab.RecordingError, match="begun on H200, and a worker computes on made up"):
        search(tiny.pipe, record=tmp_path / "s")


def test_the_grid_shows_baselines_first_at_the_same_seeds(tiny, made_up, tmp_path):
    made_up.gains = {"skip:block:1": 0.5}
    found = search(tiny.pipe, record=tmp_path / "s")
    explorer = found.grid(2)
    fresh, chosen = (explorer.grid.of_group(name) for name in (FRESH, CHOSEN))
    assert [one.label for one in fresh.settings][0::2] == ["no guidance", "skip:block:1 at 1"]
    assert [one.label for one in chosen.settings][:2] == ["no guidance", "skip:block:1 at 1"]
    assert [state.seed for state in fresh.states] == [8, 9]
    assert [state.caption for state in fresh.states] == PROMPTS[::-1]
    assert fresh.there.all()
    assert chosen.there.all()
    ids = found._folder.ids("skip:block:1 at 1", True)
    np.testing.assert_array_equal(fresh.video[-1, 0], to_bytes(found._folder.video(ids[0])))
    assert explorer.save(tmp_path / "grid.html").stat().st_size > 10_000
    with pytest.raises(lab.CallError, match=r"\.html, \.pdf, \.png, \.gif or \.mp4"):
        explorer.save(tmp_path / "grid.svg")


def test_people_are_asked_pair_by_pair_and_the_race_goes_by_their_answers(tiny, made_up, tmp_path):
    """Whoever answers prefers brighter videos, and those of block 1 are."""

    def bright(task):
        value = 200 if "block:1" in str(task.guidance) else 100
        tasks.keep_video(task.place.with_suffix(".npz"), np.full((5, 16, 16, 3), value, np.uint8))

    made_up.before = bright
    real, made = tasks.keep_video, []
    tasks.keep_video = lambda file, video: made.append(file) if file in made or file.exists() else real(file, video)
    try:
        for _ in range(20):
            found = search(tiny.pipe, score="ask", record=tmp_path / "s", seeds=range(4))
            if found.done:
                break
            assert "to answer (found.question)" in found.verdict
            while (asked := found.question.next()) is not None:
                left, right = asked.left.mean(), asked.right.mean()
                found.question.answer("left" if left > right else "right" if right > left else "equal")
    finally:
        tasks.keep_video = real
    assert found.verdict.startswith("skip:block:1 at 1: +50 points")
    assert set(found.table.preferred) == {0.5, 1.0}


# ---- what is refused, before anything is made ----


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"candidates": []}, "there is no candidate"),
        ({"candidates": [lab.skip([1]), "skip:block:1"]}, "there twice"),
        ({"candidates": [5]}, "a candidate is a weak model such as"),
        ({"candidates": [lab.skip([7])]}, "layer 7 is out of range"),
        ({"score": "smoothnes"}, "Did you mean 'smoothness'"),
        ({"score": "frechet_distance"}, "not of one video"),
        ({"score": "saturation"}, "not better for being more or less"),
        ({"score": ["smoothness", "smoothness"]}, "several different"),
        ({"score": "right", "prompts": ["a cat"]}, "asks the judge of the digits world"),
        ({"score": ["ask", "smoothness"]}, "stands alone"),
        ({"budget": "soon"}, "budget='20 min'"),
        ({"budget": 0}, "budget='20 min'"),
        ({"budget": "5 apples"}, "budget='20 min'"),
        ({"scale": []}, "scale=\\[0.5, 1, 2\\]"),
        ({"scale": math.nan}, "finite"),
        ({"prompts": []}, "prompts= is a list of captions"),
        ({"prompts": [3]}, "prompts= is a list of captions"),
        ({"seeds": []}, "a list that is not empty"),
        ({"seeds": [1, 1]}, "list of different seeds"),
        ({"seeds": [0.5]}, "a whole number from 0"),
        ({"fresh": [3, 100]}, "3 is among both"),
        ({"error": 1.5}, "chance between 0 and 1"),
        ({"record": False}, "record='out/search'"),
        ({"num_inference_step": 3}, "Did you mean 'num_inference_steps'"),
        ({"client": "gpu"}, "client=2"),
        ({"prompt": "a red seven turning"}, "prompts= says what to show"),
        ({"cfg": 1}, "above 1"),
        ({"record": "s3://bucket/x"}, "Files elsewhere are not reached"),
        ({"progress": "yes"}, "True or False"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(tiny, made_up, tmp_path, options, says):
    with pytest.raises(lab.LabError, match=says):
        search(tiny.pipe, **{"record": tmp_path / "s", **options})
    assert not made_up.tasks
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("given", "amount", "unit"),
    [("20 min", 1200, "seconds"), ("2h", 7200, "seconds"), ("90 s", 90, "seconds"), ("1.5 hours", 5400, "seconds"),
     ("1 pass", 1, "passes"), ("6000 passes", 6000, "passes"), ("400 videos", 400, "videos"), (400, 400, "videos")],
)  # fmt: skip
def test_budgets_are_read(given, amount, unit):
    assert (budget(given).amount, budget(given).unit) == (amount, unit)


def test_states_show_every_prompt_first_and_repeat_no_noise_before_they_must():
    lot = states(["a", "b", "c"], range(4))
    chosen, fresh = ([lot(place, kind) for place in range(12)] for kind in (False, True))
    assert [s.caption for s in chosen[:3]] == ["a", "b", "c"]
    assert len({(s.caption, s.seed) for s in chosen}) == 12
    assert [len({s.seed for s in chosen[k : k + 3]}) for k in (0, 3, 6, 9)] == [3, 3, 3, 3]
    assert [s.caption for s in fresh[:3]] == ["c", "b", "a"]
    assert {s.seed for s in fresh} == {4, 5, 6, 7}
