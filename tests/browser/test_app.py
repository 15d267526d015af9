"""The app in a browser: a real voila behind its token, and no request to anybody else."""

import pytest
from kit.app import running_app

pytestmark = [pytest.mark.browser, pytest.mark.slow]

READOUT = "() => document.querySelector('.stg-x0 .stg-readout b')?.textContent"


@pytest.fixture(scope="module")
def address(recorded, tmp_path_factory):
    pytest.importorskip("voila", reason="voila is not installed")
    given = [str(run.recording.path) for run in recorded]
    with running_app(tmp_path_factory.mktemp("app"), *given, cwd=tmp_path_factory.mktemp("cwd")) as url:
        yield url


def come(visit, address, **options):
    """Open the app. Its page is whole only when the notebook behind it has run."""
    return visit(address, allowed=(address.partition("?")[0],), wait_until="commit", **options)


@pytest.fixture
def app(visit, address):
    seen = come(visit, address, color_scheme="light")
    seen.page.wait_for_selector(".stg-x0[data-ready]", timeout=90_000)
    return seen


def test_it_answers_without_an_error_and_asks_nobody_else(app, tmp_path):
    page = app.page
    before, step = app.tile("cond", 0), page.evaluate(READOUT)
    page.locator(".stg-step").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"() => ({READOUT})() === '{int(step) + 1}'")
    assert (app.tile("cond", 0) != before).any()
    page.screenshot(path=tmp_path / "app.png", full_page=True)
    assert (app.faults, app.outside) == ([], [])


def test_tabs_and_recordings_can_be_chosen(app):
    page = app.page
    page.locator(".lm-TabBar-tab", has_text="Guidance").click()
    page.locator(".stg-lab:not(.stg-x0)[data-ready]").first.wait_for(timeout=60_000)
    page.locator(".lm-TabBar-tab", has_text="Settings").click()
    page.locator("summary", has_text="All settings").wait_for()
    page.locator(".stg-bench select").first.select_option(label="baseline")
    page.wait_for_function(
        "() => document.querySelector('.stg-x0 .stg-guidance')?.textContent === 'CFG(4)'", timeout=60_000
    )
    assert (app.faults, app.outside) == ([], [])


def test_the_given_recordings_are_rated_in_blind_pairs(app, tmp_path):
    page = app.page
    page.locator(".stg-bench select").first.select_option(label="Blind pairs of the first 2")
    page.wait_for_selector(".stg-blind[data-ready]", timeout=60_000)
    page.locator(".stg-blind").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.querySelector('.stg-status').textContent.includes('1 of 8')")
    page.screenshot(path=tmp_path / "pairs.png")
    page.locator(".stg-stop").click()
    page.locator(".stg-blind-result").wait_for()
    assert "1 answer of 1 rater" in page.locator(".stg-blind-result").inner_text()
    assert (app.faults, app.outside) == ([], [])


def test_videos_are_sampled_from_a_form_and_seen_together(app):
    page = app.page
    page.locator("select").first.select_option(label="New videos: sample")
    steps = page.get_by_label("Steps")
    steps.fill("2")
    steps.press("Tab")
    page.get_by_role("button", name="Sample", exact=True).click()
    layers = page.get_by_label("Layers")
    layers.fill("2")
    layers.press("Tab")
    page.get_by_role("button", name="Sample", exact=True).click()
    page.wait_for_function("() => document.querySelectorAll('.stg-videos .stg-video').length === 2")
    page.get_by_role("button", name="Fork").click()
    page.wait_for_selector(".stg-fork[data-ready]")
    assert app.faults == []


def test_the_token_leaves_the_address_and_a_reload_still_works(app):
    page = app.page
    assert "token" not in page.url
    page.reload(wait_until="commit")
    page.wait_for_selector(".stg-x0[data-ready]", timeout=90_000)
    assert (app.faults, app.outside) == ([], [])


def test_a_stranger_sees_no_recording(visit, address):
    base = address.partition("?")[0]
    seen = visit(base, allowed=(base,))
    assert "/login" in seen.page.url
    assert seen.page.locator(".stg-bench").count() == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_it_follows_the_systems_look_and_fits(visit, address, scheme, width, tmp_path):
    seen = come(visit, address, color_scheme=scheme)
    seen.page.set_viewport_size({"width": width, "height": 900})
    seen.page.wait_for_selector(".stg-x0[data-ready]", timeout=90_000)
    seen.page.wait_for_timeout(300)  # for the resize observer
    assert seen.page.evaluate("() => document.documentElement.scrollWidth") <= width
    for what in (".stg-x0", "body"):
        red = seen.page.evaluate(
            f"() => +getComputedStyle(document.querySelector('{what}')).backgroundColor.match(/\\d+/)[0]"
        )
        assert (red > 200) == (scheme == "light")
    bottom = "() => document.querySelector('.stg-x0').getBoundingClientRect().bottom <= document.documentElement.scrollHeight"
    assert seen.page.evaluate(bottom)  # as long as what it shows
    seen.page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
