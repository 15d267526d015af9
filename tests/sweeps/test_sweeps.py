"""Who does the jobs of a sweep: this process, several, a dask cluster. A worker that is lost costs its own job, and is told."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from kit import jobs
from kit.processes import TESTS

import stg_lab as lab
from stg_lab.sweeps import ALONE, WorkerLost, crew
from stg_lab.sweeps.processes import Processes

# Processes take seconds to start: one worker of the tests starts them.
pytestmark = [pytest.mark.xdist_group("sweeps"), pytest.mark.slow]


@pytest.fixture(scope="module")
def two():
    workers = Processes(2, told=lambda sentence: None)
    yield workers
    workers.close()


@pytest.fixture
def said(two, monkeypatch):
    found = []
    monkeypatch.setattr(two, "_told", found.append)
    return found


def test_processes_give_what_this_process_gives(two):
    asked = [(x,) for x in range(6)]
    assert sorted(x for _, x in two.do(jobs.square, asked)) == [x for _, x in ALONE.do(jobs.square, asked)]
    pids = {pid for pid, _ in two.do(jobs.square, asked)}
    assert os.getpid() not in pids
    assert len(pids) <= 2


def test_each_has_one_thread(two):
    assert set(two.do(jobs.threads_and_gpus, [(0,), (1,)])) == {(1, os.environ.get("CUDA_VISIBLE_DEVICES"))}


def test_each_has_a_gpu_of_its_own_where_there_are_gpus(monkeypatch):
    """Set before the process begins, and so before it imports torch."""
    monkeypatch.setattr("stg_lab.sweeps.processes.visible_gpus", lambda: ["4", "7"])
    workers = Processes(2)
    try:
        found = {gpu for _, gpu in workers.do(jobs.threads_and_gpus, [(n,) for n in range(4)])}
    finally:
        workers.close()
    assert found == {"4", "7"}


def test_what_work_raises_is_given_or_raised(two):
    for workers in (two, ALONE):
        assert [str(error) for _, error in workers.outcomes(jobs.fail, [(1,)])] == ["no 1"]
        with pytest.raises(ValueError, match="no 1"):
            list(workers.do(jobs.fail, [(1,), (1,)]))
        assert [x for _, x in workers.do(jobs.square, [(3,)])] == [9]  # and it goes on


def test_a_killed_worker_costs_its_own_job_which_is_done_again(two, said, tmp_path):
    assert sorted(two.do(jobs.die, [(str(tmp_path), x, 1) for x in range(5)])) == [0, 1, 2, 3, 4]
    assert said == ["a worker died (signal 9); its job, number 2, is done again."]


def test_a_job_that_kills_twice_is_given_up_and_no_other(two, said, tmp_path):
    found = dict(two.outcomes(jobs.die, [(str(tmp_path), x, 9) for x in range(5)]))
    assert isinstance(found.pop(2), WorkerLost)
    assert found == {0: 0, 1: 1, 3: 3, 4: 4}
    assert len(said) == 1


def test_a_worker_that_hangs_is_ended(two, said, tmp_path, monkeypatch):
    monkeypatch.setattr(two, "_given_limit", 8.0)
    assert sorted(two.do(jobs.hang, [(str(tmp_path), x) for x in range(3)])) == [0, 1, 2]
    assert "gave no answer for 8 seconds" in said[0]


def test_a_worker_out_of_memory_is_replaced_by_a_new_one(two, said, tmp_path):
    """What CUDA holds after that is not all given back."""
    before = {pid for pid, _ in two.do(jobs.square, [(x,) for x in range(4)])}
    found = {x: pid for pid, x in two.do(jobs.run_out, [(str(tmp_path), x) for x in range(2)])}
    assert found.keys() == {0, 1}
    assert "exit code 12" in said[0]
    assert before - {pid for pid, _ in two.do(jobs.square, [(x,) for x in range(4)])}


def test_what_cannot_be_sent_is_told(two):
    with pytest.raises((AttributeError, TypeError), match=r"[Pp]ickle|[Ll]ocal"):
        list(two.do(lambda x: x, [(1,)]))
    assert [x for _, x in two.do(jobs.square, [(3,)])] == [9]


def test_workers_end_with_a_killed_parent_in_the_middle_of_a_job(tmp_path):
    """And a script needs no `if __name__ == "__main__"`: this one has none."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(TESTS)!r})
        from kit import jobs
        from stg_lab.sweeps import crew
        list(crew(2).do(jobs.wait_for_the_end, [({str(tmp_path)!r},)]))
        """)
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    )
    try:
        began = tmp_path / "began"
        assert _comes(lambda: began.exists() and began.read_text())
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    worker = int(began.read_text())
    assert _comes(lambda: not _runs(worker))


def test_whoever_stops_listening_leaves_no_job_running(two):
    found = two.do(jobs.square, [(x,) for x in range(50)])
    next(found)
    found.close()
    assert not [one for one in two._workers if one.job]
    assert [x for _, x in two.do(jobs.square, [(3,)])] == [9]


@pytest.mark.parametrize("client", [0, -2, "two", True, 2.0])
def test_other_clients_are_refused(client):
    with pytest.raises(lab.CallError, match="client=2"):
        crew(client)


def _comes(happens, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happens():
            return True
        time.sleep(0.05)
    return False


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
