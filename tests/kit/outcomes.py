"""What the tests of the families found, by family: the cells of the table that `lab.families()` prints."""

from __future__ import annotations

import pytest

from kit.siblings import SIBLINGS
from kit.zoo import ZOO

#: Cell of the table -> the test that fills it.
CELLS = {
    "record": "test_recording_leaves_the_stock_bits",
    "guidance": "test_the_recorded_branches_give_the_prediction_that_was_stepped_with",
    "attention skip": "test_skipping_attention_is_an_attention_whose_map_is_the_identity",
    "spatial and temporal": "test_attention_is_restricted_to_space_or_to_time",
    "negative prompt": "test_a_weak_pass_may_carry_the_negative_prompt",
    "decode": "test_the_last_latents_decode_to_the_pipelines_own_output",
    "preview": "test_sampling_fits_a_preview",
    "batch of two": "test_a_batch_of_two_is_guided_sample_by_sample",
    "bfloat16": "test_bfloat16_keeps_the_stock_dtypes_and_bits",
    "offload": "test_guidance_survives_offloading_and_its_passes_find_the_model_onloaded",
    "Restart": "test_restart_goes_through_the_familys_own_calls_or_says_why_not",
}
#: And those that siblings are put to; `test_siblings.py` has a test of another name for the offload.
SIBLING_CELLS = {
    **{cell: CELLS[cell] for cell in ("record", "guidance", "attention skip", "decode")},
    "offload": "test_guidance_survives_offloading",
}
#: (test, member) -> "yes", or the reason why it was skipped, or "failed".
OUTCOMES: pytest.StashKey[dict[tuple[str, str], str]] = pytest.StashKey()


def note(outcomes: dict[tuple[str, str], str], report: pytest.TestReport) -> None:
    """Keep the outcome of a test of a family."""
    test, bracket, parameters = report.nodeid.partition("::")[2].partition("[")
    if (
        test not in {*CELLS.values(), *SIBLING_CELLS.values()}
        or not bracket
        or (report.when != "call" and report.passed)
    ):
        return
    # Parameters are joined by dashes, and some names have dashes themselves: the longest name that fits is meant.
    fits = [name for name in (*ZOO, *SIBLINGS) if f"-{name}-" in f"-{parameters.removesuffix(']')}-"]
    if fits:
        key = test, max(fits, key=len)
        said = (
            "yes" if report.passed else "failed" if report.failed else str(report.longrepr[2]).removeprefix("Skipped: ")
        )
        outcomes[key] = said if outcomes.get(key, "yes") == "yes" else outcomes[key]


def table(outcomes: dict[tuple[str, str], str]) -> dict[str, dict[str, str]]:
    """The table by member of the zoo and cell."""
    found: dict[str, dict[str, str]] = {}
    for (test, name), said in outcomes.items():
        cells = SIBLING_CELLS if name in SIBLINGS else CELLS
        cell = next(cell for cell, filled_by in cells.items() if filled_by == test)
        found.setdefault(name, {})[cell] = said
    return found
