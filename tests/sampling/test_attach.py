"""`attach`: what it checks at the pipeline's call, and what one recording keeps."""

import pytest
import torch
from kit.watch import passes

import stg_lab as lab

GUIDANCE = lab.CFG(4) + lab.STG(1, lab.skip([1]))


def test_a_disagreeing_cfg_is_told_before_the_first_pass(tiny):
    with (
        passes(tiny.pipe) as made,
        lab.attach(tiny.pipe, guidance=GUIDANCE),
        pytest.raises(lab.GuidanceError, match=r"CFG\(4\).*guidance_scale=3.*Call it with guidance_scale=4"),
    ):
        tiny.stock(guidance_scale=3.0)
    assert made == []


def test_a_cfg_term_for_a_call_without_cfg_is_told(tiny):
    with lab.attach(tiny.pipe, guidance=GUIDANCE), pytest.raises(lab.GuidanceError, match="guidance_scale=1"):
        tiny.stock(guidance_scale=1.0)


def test_a_second_call_inside_one_recording_is_told(tiny):
    with lab.attach(tiny.pipe, record=True) as trace:
        tiny.stock()
        with pytest.raises(lab.RecordingError, match=r"keeps one pipeline call.*Open a new lab.attach"):
            tiny.stock()
    assert trace.recording.complete


def test_without_recording_one_attach_serves_many_calls(tiny):
    once = tiny.sample(GUIDANCE, record=False).output.frames
    with lab.attach(tiny.pipe, guidance=GUIDANCE):
        assert torch.equal(tiny.stock(guidance_scale=4.0), once)
        assert torch.equal(tiny.stock(guidance_scale=4.0), once)


def test_a_call_after_one_that_broke_off_begins_anew(tiny):
    def broken(pipe, step, timestep, given):
        raise ZeroDivisionError

    once = tiny.sample(GUIDANCE, record=False).output.frames
    with lab.attach(tiny.pipe, guidance=GUIDANCE):
        with pytest.raises(ZeroDivisionError):
            tiny.stock(guidance_scale=4.0, callback_on_step_end=broken)
        assert torch.equal(tiny.stock(guidance_scale=4.0), once)


def test_attach_keeps_the_settings_that_it_is_given(tiny):
    with lab.attach(tiny.pipe, record=True, settings={"note": "by hand", "captions": ["mine"], "seed": 3}) as trace:
        tiny.stock(seed=3)
    recording = trace.recording
    assert recording.settings["note"] == "by hand"
    assert recording.captions == ["mine"]
    assert recording.ds.seed.values.tolist() == [3]


def test_attach_without_recording_says_so(tiny):
    with lab.attach(tiny.pipe) as trace:
        tiny.stock()
    with pytest.raises(lab.RecordingError, match="Pass record=True"):
        _ = trace.recording


def test_a_run_without_recording_says_so(tiny):
    with pytest.raises(lab.RecordingError, match="Sample with record=True"):
        _ = tiny.sample(GUIDANCE, record=False).recording


@pytest.mark.parametrize("guidance", ["CFG(4)", 4.0, lab.skip([1])], ids=str)
def test_what_is_no_guidance_is_refused(tiny, guidance):
    with pytest.raises(lab.GuidanceError, match=r"guidance must be a sum such as lab.CFG\(4\)"):
        tiny.sample(guidance)
