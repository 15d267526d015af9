"""Tests that share what takes long to make are run by one worker."""

from types import SimpleNamespace

import pytest

schedule = pytest.importorskip("kit.schedule", reason="pytest-xdist is not installed")


class Worker:
    """Notes what it is sent."""

    shutting_down = False

    def __init__(self, number):
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.sent = []

    def send_runtest_some(self, indices):
        self.sent += indices

    def shutdown(self):
        pass


def runs(files):
    """The files that each of two workers runs, in order, as if each test took equally long; `files` has their numbers of tests."""
    nodeids = [f"{file}::test_{n}[a@b]" for file, tests in files.items() for n in range(tests)]
    config = SimpleNamespace(getvalue=lambda name: ["popen", "popen"], option=SimpleNamespace())
    scheduler, workers = schedule.FilesTogether(config), [Worker(0), Worker(1)]
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, nodeids)
    scheduler.schedule()
    done = [0, 0]
    while any(len(worker.sent) > n for worker, n in zip(workers, done, strict=True)):
        for number, worker in enumerate(workers):
            if len(worker.sent) > done[number]:
                scheduler.mark_test_complete(worker, worker.sent[done[number]])
                done[number] += 1
    assert sum(done) == len(nodeids)
    return [list(dict.fromkeys(nodeids[index].partition("::")[0] for index in worker.sent)) for worker in workers]


def test_one_worker_runs_a_file_and_one_a_group():
    group = [f"tests/families/test_{name}.py" for name in ("families", "families_in_use", "families_table", "siblings")]
    others = [f"tests/guidance/test_guidance_{name}.py" for name in ("axes", "bands", "state", "rules", "vectors")]
    first, second = runs(dict.fromkeys([group[0], *others[:3], *group[1:], *others[3:]], 4))
    assert sorted(first + second) == sorted(group + others)
    assert set(group) <= set(first) or set(group) <= set(second)


def test_files_are_begun_in_the_order_of_collection_and_not_by_their_numbers_of_tests():
    files = {
        f"tests/guidance/test_guidance_{name}.py": n for n, name in enumerate(("axes", "bands", "rules", "state"), 3)
    }
    assert [worker[0] for worker in runs(files)] == list(files)[:2]
