"""Jobs on a dask cluster of two small processes: the traps of real ones, met."""

import os

import pytest
from kit import jobs

import stg_lab as lab
from stg_lab.sweeps import WorkerLost, crew

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.xdist_group("sweeps")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_cluster_gives_what_this_process_gives(client):
    workers = crew(client)
    found = list(workers.do(jobs.square, [(x,) for x in range(6)]))
    assert sorted(x for _, x in found) == [0, 1, 4, 9, 16, 25]
    assert len({pid for pid, _ in found} | {os.getpid()}) == 3
    assert workers.count == 2


def test_the_same_job_asked_again_is_done_again(client):
    """Dask takes results of equal calls for each other unless told; a folder may have been emptied meanwhile."""
    workers = crew(client)
    before = len(list(workers.do(jobs.square, [(3,), (3,)])))
    assert before == 2


def test_what_work_raises_is_given(client):
    [(place, error)] = crew(client).outcomes(jobs.fail, [(1,)])
    assert (place, str(error)) == (0, "no 1")


@pytest.mark.parametrize(("times", "lost"), [(1, False), (9, True)])
def test_a_killed_worker_costs_its_own_job_which_is_done_again_once(client, tmp_path, times, lost):
    said = []
    found = dict(crew(client, told=said.append).outcomes(jobs.die, [(str(tmp_path), x, times) for x in range(5)]))
    given_up = found.pop(2)
    assert isinstance(given_up, WorkerLost) if lost else given_up == 2
    assert found == {0: 0, 1: 1, 3: 3, 4: 4}
    assert len(said) == 1
    assert "its job, number 2, is done again" in said[0]


def test_a_worker_out_of_memory_is_started_anew(client, tmp_path):
    said = []
    found = {
        x: pid for pid, x in crew(client, told=said.append).do(jobs.run_out, [(str(tmp_path), x) for x in range(3)])
    }
    assert sorted(found) == [0, 1, 2]
    assert "was out of memory" in said[0]


def test_a_worker_that_hangs_is_started_anew(client, tmp_path):
    from stg_lab.sweeps.cluster import Cluster

    said = []
    workers = Cluster(client, told=said.append, limit=6.0)
    assert sorted(workers.do(jobs.hang, [(str(tmp_path), x) for x in range(3)])) == [0, 1, 2]
    assert "gave no answer for 6 seconds; its job, number 1" in said[0]


@pytest.mark.parametrize(("threads", "memory", "why"), [(2, 0, "several threads"), (1, "1GB", "limit of memory")])
def test_workers_that_are_not_fit_are_refused(threads, memory, why):
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=threads, memory_limit=memory, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        pytest.raises(lab.CallError, match=f"{why}.*--nthreads 1 --memory-limit 0"),
    ):
        crew(client)


def test_a_cluster_without_workers_is_told():
    from stg_lab.sweeps.cluster import Cluster

    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        pytest.raises(lab.CallError, match="no worker came"),
    ):
        Cluster(client, come=0.2)
