"""Work in the background: one piece at a time, told as it goes, stopped when asked, errors shown in place."""

import threading

import pytest

import stg_lab as lab
from stg_lab.widgets.base import module, style
from stg_lab.widgets.in_background import Stopped, Working, no_progress_bar


class Worker(Working):
    _esm, _css = module("working"), style("working")


@pytest.fixture
def worker():
    widget = Worker({})
    yield widget
    widget.close()
    assert widget.wait(10)


def test_work_runs_beside_the_caller_and_says_how_far_it_is(worker):
    reached, go_on, told = threading.Event(), threading.Event(), []
    worker.observe(lambda change: told.append((change["name"], change["new"])), ["status", "progress", "running"])

    def work(job):
        assert threading.current_thread() is not threading.main_thread()
        job.tell("half of it", 0.5)
        reached.set()
        assert go_on.wait(10)
        job.tell(status="done")

    worker.start(work)
    assert reached.wait(10)
    assert (worker.running, worker.status, worker.progress) == (True, "half of it", 0.5)
    go_on.set()
    assert worker.wait(10)
    assert (worker.running, worker.status, worker.progress, worker.problem) == (False, "done", -1.0, "")
    assert told == [
        ("running", True), ("status", "starting"), ("status", "half of it"), ("progress", 0.5), ("status", "done"),
        ("running", False), ("progress", -1.0),
    ]  # fmt: skip


def test_one_piece_at_a_time(worker):
    go_on = threading.Event()
    worker.start(lambda job: go_on.wait(10))
    with pytest.raises(lab.CallError, match=r"still at work.*widget\.wait"):
        worker.start(lambda job: None)
    assert not worker.wait(0)
    go_on.set()
    assert worker.wait(10)
    worker.start(lambda job: job.tell("again"))
    assert worker.wait(10)
    assert worker.status == "again"


def test_a_stop_ends_the_work_where_it_looks_for_one(worker):
    kept, reached = [], threading.Event()

    def work(job):
        for k in range(1000):
            kept.append(k)
            reached.set()
            threading.Event().wait(0.005)
            job.check()

    worker.start(work)
    assert reached.wait(10)
    worker.set_state({"stop": True})  # as the browser does
    assert worker.wait(10)
    assert 0 < len(kept) < 1000
    assert (worker.problem, worker.stop, worker.running) == ("", False, False)
    worker.start(lambda job: kept.append(job.stopping))  # an old stop does not reach new work
    assert worker.wait(10)
    assert kept[-1] is False


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (lab.CallError("say which layer."), "say which layer."),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_an_error_is_shown_in_place_with_its_notes(worker, error, shown):
    def work(job):
        error.add_note("Two steps are kept.")
        raise error

    worker.start(work)
    assert worker.wait(10)
    assert worker.problem == f"{shown}\nTwo steps are kept."
    assert (worker.running, worker.status) == (False, "failed")
    worker.start(lambda job: None)
    assert worker.wait(10)
    assert worker.problem == ""


def test_many_updates_from_both_sides_all_arrive(worker):
    def work(job):
        for k in range(200):
            job.tell(f"{k}", k / 200)

    worker.start(work)
    for k in range(200):
        worker.set_state({"problem": str(k)})
    assert worker.wait(10)
    assert (worker.status, worker.problem) == ("199", "199")


def test_closing_stops_the_work(worker):
    reached = threading.Event()

    def work(job):
        reached.set()
        while True:
            job.check()
            threading.Event().wait(0.005)

    worker.start(work)
    assert reached.wait(10)
    worker.close()
    assert worker.wait(10)


def test_stopped_is_no_error_of_the_labs():
    assert not issubclass(Stopped, lab.LabError)


def test_a_pipelines_progress_bar_is_off_inside_alone(tiny):
    before = dict(tiny.pipe._progress_bar_config)
    tiny.pipe._progress_bar_config = {"leave": False}
    with no_progress_bar(tiny.pipe):
        assert tiny.pipe._progress_bar_config == {"leave": False, "disable": True}
    assert tiny.pipe._progress_bar_config == {"leave": False}
    del tiny.pipe._progress_bar_config
    with no_progress_bar(tiny.pipe):
        assert tiny.pipe._progress_bar_config == {"disable": True}
    assert not hasattr(tiny.pipe, "_progress_bar_config")
    tiny.pipe._progress_bar_config = before
