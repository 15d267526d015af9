"""Recording beside the sampling loses nothing, grows nowhere, and leaves no thread behind."""

import errno
import os
import signal
import threading
import time
import uuid
import warnings

import numpy as np
import pytest
import torch
from kit.processes import run_python
from kit.watch import stopping

import stg_lab as lab
from stg_lab.recording import BackgroundRecorder, Recorder, seal
from stg_lab.recording.chunks import ChunkFiles, lay_out
from stg_lab.recording.planned import Planned
from stg_lab.sampling import host_copy

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([1]))
SHAPE = (2, 3, 2, 4, 5)  # sample, channel, frame, y, x
BRANCHES = ("cond", "skip", "guided")
LEVEL = {"timestep": 900.0, "sigma": 0.9, "x0_sample": 1.0, "x0_prediction": -0.9}
WAIT = 20  # seconds after which a test has failed


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert threads() == []


def threads():
    return [t.name for t in threading.enumerate() if t.name.startswith("stg_lab")]


class Disk:
    """A fake recorder whose writes take as long as the test likes; `log` holds the steps that it wrote, in order."""

    def __init__(self, fail_at=None):
        self.log, self.fail_at = [], fail_at
        self.begun, self.free = threading.Semaphore(0), threading.Semaphore(0)

    @property
    def written(self):
        return len(self.log)

    def write(self, level, x_t, predictions, watched):
        assert watched == {}
        self.begun.release()
        assert self.free.acquire(timeout=WAIT)
        if len(self.log) == self.fail_at:
            self.fail_at = None  # the next write would be possible again
            raise lab.RecordingError("the disk is full")
        self.log.append((level["step"], x_t, predictions))

    def finish(self, final):
        self.log.append(final)

    def give_up(self):
        pass


def steps_given_to(recorder, count, given):
    for k in range(count):
        recorder.write({"step": k}, np.full(2, k), {})
        given.append(k)


def in_thread(work, *args):
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread


def wait_until(true):
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


# ---- the queue ----


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_a_slow_disk_holds_the_sampler_up_instead_of_filling_the_memory(ahead):
    disk, given = Disk(), []
    with BackgroundRecorder(disk, ahead=ahead) as recorder:
        sampler = in_thread(steps_given_to, recorder, 6, given)
        for k in range(6):
            assert disk.begun.acquire(timeout=WAIT)  # step k is being written
            wait_until(lambda k=k: len(given) == min(k + ahead, 6))
            time.sleep(0.02)  # in which a sampler that nothing holds up would go on
            assert (len(given), disk.written) == (min(k + ahead, 6), k)
            disk.free.release()
        sampler.join(WAIT)
    assert [step for step, *_ in disk.log] == [0, 1, 2, 3, 4, 5]


def test_the_sampler_goes_on_while_the_disk_is_busy():
    """Events, not times: the sampler reaches a point that it could not reach if it waited for the write."""
    disk = Disk()
    with BackgroundRecorder(disk) as recorder:
        recorder.write({"step": 0}, np.zeros(2), {})
        assert disk.begun.acquire(timeout=WAIT)
        assert recorder.written == 0  # and here we are, while step 0 is half written
        disk.free.release()


def test_computing_and_writing_take_as_long_as_the_longer_of_them():
    pause, count = 0.05, 8

    class Slow(Disk):
        def write(self, *step):
            time.sleep(pause)
            self.log.append(step)

    disk, began = Slow(), time.perf_counter()
    with BackgroundRecorder(disk) as recorder:
        for k in range(count):
            time.sleep(pause)  # the model computes
            recorder.write({"step": k}, np.zeros(2), {})
    assert len(disk.log) == count
    assert time.perf_counter() - began < 0.8 * 2 * count * pause


def test_compressing_lets_the_interpreter_go_on(tmp_path, monkeypatch):
    """The thread would be of no use if it held the interpreter's lock while it works."""
    recorder = Recorder(tmp_path / "a.zarr")
    big = np.random.default_rng(0).standard_normal((1, 16, 21, 60, 104)).astype(np.float32)
    recorder.start(steps=2, branches=("cond",), shape=big.shape, settings={}, samples={"caption": [""]})
    ticks, passed, done = [0], [], threading.Event()

    def watched(encode):
        def one(data):
            before = ticks[0]
            code = encode(data)
            passed.append(ticks[0] - before)
            return code

        return one

    for name in ("x_t", "prediction"):
        monkeypatch.setattr(recorder._arrays[name], "_encode", watched(recorder._arrays[name]._encode))
    with BackgroundRecorder(recorder) as background:
        for _ in range(2):
            background.write(LEVEL, big, {"cond": big})
        watch = in_thread(lambda: (background.flush(), done.set()))
        while not done.is_set():
            ticks[0] += 1
        watch.join(WAIT)
    assert recorder.written == 2
    assert sum(count > 0 for count in passed) >= len(passed) / 2 == 2, passed


def test_arrays_may_come_later():
    disk = Disk()
    disk.free.release()
    with BackgroundRecorder(disk) as recorder:
        recorder.write({"step": 0}, lambda: np.full(2, 7), {"cond": lambda: np.full(2, 8), "skip": np.full(2, 9)})
    [(_, x_t, predictions)] = disk.log
    assert (x_t.tolist(), predictions["cond"].tolist(), predictions["skip"].tolist()) == ([7, 7], [8, 8], [9, 9])


def test_finishing_comes_after_every_step():
    disk = Disk()
    for _ in range(2):
        disk.free.release()
    with BackgroundRecorder(disk) as recorder:
        steps_given_to(recorder, 2, [])
        recorder.finish("final")
        assert [disk.log[0][0], disk.log[1][0], disk.log[2]] == [0, 1, "final"]


# ---- failures ----


def sampled(disk, then, ahead=2):
    """A run of two steps, and what the sampler does `then` with the recorder; its writes may go on only from there."""
    with BackgroundRecorder(disk, ahead=ahead) as recorder:
        steps_given_to(recorder, 2, [])
        for _ in range(6):
            disk.free.release()
        then(recorder)


def next_step(recorder):
    recorder.flush()  # the failure has happened; flushing itself tells nothing
    recorder.write({"step": 2}, np.zeros(2), {})
    pytest.fail("the next step went through")


def finish(recorder):
    recorder.finish("final")
    pytest.fail("finishing went through")


@pytest.mark.parametrize("then", [next_step, finish, lambda recorder: None])
@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_failed_write_stops_the_run_and_nothing_is_written_after_it(fail_at, then):
    """The step that waits behind a failed one must not take its place."""
    disk = Disk(fail_at)
    with pytest.raises(lab.RecordingError, match="the disk is full"):
        sampled(disk, then)
    assert [step for step, *_ in disk.log] == [0, 1][:fail_at]


def test_a_failure_that_the_sampler_has_met_is_not_raised_again_at_the_end():
    def meet(recorder):
        with pytest.raises(lab.RecordingError):
            recorder.finish(None)

    sampled(Disk(fail_at=0), meet)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("fail_at", [None, 0])
def test_steps_that_were_handed_over_are_written_whatever_ends_the_sampling(error, fail_at):
    """And it is the sampler's own error that comes out, even where the disk has one too."""

    def end(recorder):
        raise error

    disk = Disk(fail_at)
    with pytest.raises(error):
        sampled(disk, end)
    assert [step for step, *_ in disk.log] == ([0, 1] if fail_at is None else [])


# ---- real recordings ----


def arrays():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1 + len(BRANCHES), *SHAPE)).astype(np.float32) for _ in range(5)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_recording_in_the_background_is_the_synchronous_one_byte_for_byte(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=7))  # every recording has an id of its own
    places = tmp_path / "now.zarr", tmp_path / "later.zarr"
    now, later = Recorder(places[0], dtype=dtype), BackgroundRecorder(Recorder(places[1], dtype=dtype))
    with later:
        for recorder in (now, later):
            recorder.start(steps=5, branches=BRANCHES, shape=SHAPE, settings={}, samples={"caption": ["", ""]})
            for k, (x_t, *predictions) in enumerate(arrays()):
                given = {b: p for b, p in zip(BRANCHES, predictions, strict=True) if (b, k) != ("skip", 3)}
                recorder.write({**LEVEL, "sigma": 1 - k / 5}, x_t, given)
            recorder.finish(np.ones(SHAPE))
    files = [{str(f.relative_to(p)): f.read_bytes() for f in p.rglob("*") if f.is_file()} for p in places]
    assert files[0] == files[1]
    assert len(files[0]) > 5 * (1 + len(BRANCHES))


def test_chunks_are_those_that_zarr_itself_writes(tmp_path):
    """The same numbers assigned to the zarr arrays give the same files, but for the checksum behind each of ours."""
    import zarr

    place = tmp_path / "a.zarr"
    recorder = Recorder(place)
    recorder.start(steps=1, branches=BRANCHES, shape=SHAPE, settings={}, samples={"caption": ["", "a red seven"]})
    x_t, *predictions = arrays()[0]
    recorder.write(LEVEL, x_t, dict(zip(BRANCHES, predictions, strict=True)))
    recorder.finish(x_t)
    ours = {f: f.read_bytes()[: -seal.SIZE] for f in place.rglob("c.*")}
    for f in ours:
        f.unlink()
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(place, mode="r+", use_consolidated=False)
        group["x_t"][0], group["prediction"][0], group["final"][...] = x_t, np.stack(predictions), x_t
        later = {
            "run_step": np.nan,
            "restart": 0.0,
            "next_weight": np.nan,
            "noise": np.nan,
            "guidance_scale": np.nan,
            "x0_kept": 0.0,
            "edited": 0.0,
            "x0_guided": 1.0,
        }
        for name, value in {**LEVEL, **later}.items():
            group[name][0] = value
        group["progress"][:] = [1, 1]
        group["step"][...], group["branch"][...], group["caption"][...] = [0], list(BRANCHES), ["", "a red seven"]
    assert {f: f.read_bytes() for f in place.rglob("c.*")} == ours


def test_a_store_reads_like_one_that_xarray_laid_out(tmp_path):
    """Names, dimensions, coordinates, types, texts and attributes; what was not written is NaN."""
    import xarray as xr

    known = {
        "numbers": (("b", "a"), np.arange(6, dtype=np.int64).reshape(3, 2)),
        "scalar": ((), np.float64(0.5)),
    }
    coords = {
        "a": np.array([4, 5]),
        "b": np.array(["x", "", "a longer tail"], object),
        "beside": ("b", np.array([0.5, np.nan, 1])),
        "texts": (("a", "b"), np.array([["", "1"], ["é", "2"], ["三", "3"]], object).T),
    }
    expected = xr.Dataset(
        {**known, "empty": (("a",), np.full(2, np.nan, np.float32))}, coords, attrs={"mark": {"n": [1]}}
    )
    plan = {name: Planned.of(dims, values, coordinate=False) for name, (dims, values) in known.items()}
    plan |= {name: Planned.of(v.dims, v.values) for name, v in expected.coords.items()}
    plan["empty"] = Planned(("a",), (2,), "float32", chunks=(1,), fill=float("nan"))
    lay_out(tmp_path / "ours.zarr", plan, {"mark": {"n": [1]}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's notes on strings
        expected.to_zarr(tmp_path / "theirs.zarr", zarr_format=3, consolidated=False)
    ours, theirs = (xr.open_zarr(tmp_path / f"{n}.zarr", consolidated=False).load() for n in ("ours", "theirs"))
    assert ours.identical(theirs)
    assert {n: v.dtype for n, v in ours.variables.items()} == {n: v.dtype for n, v in theirs.variables.items()}
    assert set(ours.coords) == {"a", "b", "beside", "texts"}


def test_a_chunk_of_the_wrong_shape_is_refused(tmp_path):
    recorder = Recorder(tmp_path / "a.zarr")
    recorder.start(steps=1, branches=BRANCHES, shape=SHAPE, settings={}, samples={"caption": ["", ""]})
    with pytest.raises(ValueError, match="broadcast"):
        recorder.write(LEVEL, np.zeros((3, *SHAPE[1:])), {})


def test_the_recording_is_up_to_date_inside_the_with(tiny):
    seen = []

    def look(pipe, step, timestep, given):
        seen.append(trace.recording.steps)
        return {}

    with warnings.catch_warnings(), lab.attach(tiny.pipe, record=True) as trace:
        warnings.simplefilter("ignore", lab.IncompleteRecordingWarning)
        tiny.stock(callback_on_step_end=look)
    assert seen == [1, 2, 3, 4]
    assert trace.recording.complete


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_run_that_ends_on_the_way_keeps_every_step_that_it_made(tiny, tmp_path, monkeypatch, error):
    slowly(monkeypatch, 0.02)

    with pytest.raises(error):
        tiny.sample(GUIDANCE, record=tmp_path / "cut.zarr", callback_on_step_end=stopping(2, error))
    with pytest.warns(lab.IncompleteRecordingWarning, match="3 of 4"):
        assert lab.open(tmp_path / "cut.zarr").steps == 3


def slowly(monkeypatch, seconds):
    write = ChunkFiles.write

    def slow(self, *args):
        if self.name == "x_t":
            time.sleep(seconds)
        write(self, *args)

    monkeypatch.setattr(ChunkFiles, "write", slow)


def test_a_folder_that_is_removed_on_the_way_stops_the_run(tiny, tmp_path):
    import shutil

    steps = []

    def remove(pipe, step, timestep, given):
        steps.append(step)
        if step == 0:
            trace.recorder.flush()
            shutil.rmtree(trace.recorder.path)
        return {}

    with (
        pytest.raises(
            lab.RecordingError, match=r"gone.zarr could not be written at step 1: No such file.*1 whole steps"
        ),
        lab.attach(tiny.pipe, guidance=lab.STG(1, lab.skip([1])), record=tmp_path / "gone.zarr") as trace,
    ):
        tiny.stock(num_inference_steps=12, callback_on_step_end=remove)
    assert steps[-1] <= 3, "the run went on for longer than the queue is"


def test_a_failure_in_the_last_step_is_told_though_no_step_follows(tiny, tmp_path, monkeypatch):
    write = ChunkFiles.write

    def full(self, values, *index):
        if self.name == "x_t" and index == (3,):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, values, *index)

    monkeypatch.setattr(ChunkFiles, "write", full)
    with pytest.raises(lab.RecordingError, match=r"step 3: No space left on device. 3 whole steps are kept") as caught:
        tiny.sample(GUIDANCE, record=tmp_path / "full.zarr")
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_the_interpreter_exits_though_a_recording_was_left_open(tmp_path):
    """What was handed over is written first; an idle thread holds nobody up."""
    code = """
        import os, time
        import numpy as np
        from stg_lab.recording import BackgroundRecorder, Recorder
        from stg_lab.recording.chunks import ChunkFiles
        write = ChunkFiles.write
        ChunkFiles.write = lambda self, *args: (time.sleep(0.01), write(self, *args))
        recorder = BackgroundRecorder(Recorder(os.environ["PLACE"]))
        recorder.start(steps=3, branches=("cond",), shape=(1, 1, 1, 1, 1), settings={}, samples={"caption": [""]})
        level = dict.fromkeys(("timestep", "sigma", "x0_sample", "x0_prediction"), 0.5)
        for _ in range(2):
            recorder.write(level, np.ones((1, 1, 1, 1, 1)), {})
    """
    done = run_python(code, PLACE=str(tmp_path / "open.zarr"))
    assert done.returncode == 0, done.stderr
    with pytest.warns(lab.IncompleteRecordingWarning, match="2 of 3"):
        assert lab.open(tmp_path / "open.zarr").steps == 2


def test_a_kill_between_chunks_leaves_whole_steps(tmp_path):
    """At whatever chunk of the second step it comes, the first one opens."""
    code = """
        import os, signal
        import numpy as np
        from stg_lab.recording import Recorder
        real, count = os.replace, []
        def replace(*args):
            count.append(1)
            if len(count) == int(os.environ["AT"]):
                os.kill(os.getpid(), signal.SIGKILL)  # the file is there under another name only
            real(*args)
        recorder = Recorder(os.environ["PLACE"])
        recorder.start(steps=2, branches=("cond",), shape=(1, 1, 1, 1, 1), settings={}, samples={"caption": [""]})
        os.replace = replace
        level = dict.fromkeys(("timestep", "sigma", "x0_sample", "x0_prediction"), 0.5)
        for _ in range(2):
            recorder.write(level, np.ones((1, 1, 1, 1, 1)), {"cond": np.ones((1, 1, 1, 1, 1))})
    """
    for at in (15 + 2, 15 + 5, 15 + 15):  # a prediction, a coordinate and the progress of the second step
        place = tmp_path / f"killed-{at}.zarr"
        assert run_python(code, PLACE=str(place), AT=str(at)).returncode == -signal.SIGKILL
        with pytest.warns(lab.IncompleteRecordingWarning, match="1 of 2"):
            assert lab.open(place).steps == 1


# ---- copies ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_copy_is_of_the_tensor_as_it_was(dtype):
    x = torch.arange(6, dtype=dtype).reshape(2, 3).T
    expected = x.float().numpy().copy()
    copy = host_copy.host_copy(x)
    x.fill_(-1)
    assert copy().dtype == np.float32
    assert np.array_equal(copy(), expected)


def test_a_copy_from_cuda_waits_in_the_right_order(monkeypatch):
    """A stand-in for CUDA that only notes who waits for whom: the caller waits for nothing, the reader for the copy."""
    log = []

    class Event:
        def synchronize(self):
            log.append("reader waits for the copy")

    class Side:
        def wait_stream(self, stream):
            log.append(f"side waits for {stream}")

        def record_event(self):
            log.append("event")
            return Event()

        def __enter__(self):
            log.append("on the side")

        def __exit__(self, *_):
            log.append("off the side")

    side = Side()
    monkeypatch.setattr(host_copy, "_side_stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the sampler")
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: log.append("kept for the side"))
    empty = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *shape, pin_memory, **rest: log.append(f"pinned {pin_memory}") or empty(*shape, **rest)
    )
    x = torch.arange(3.0)
    array = host_copy._from_cuda(x)
    x.zero_()
    assert log == [
        "pinned True", "side waits for the sampler", "on the side", "event", "off the side", "kept for the side",
    ]  # fmt: skip
    assert array().tolist() == [0, 1, 2]
    assert log[-1] == "reader waits for the copy"
