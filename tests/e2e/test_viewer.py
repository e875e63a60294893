"""The viewer as its users have it: in a browser, with mouse, keyboard and phone, on a real service."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.exchange import netcdf
from restore_dit.data.simulation import simulate_tile
from restore_dit.reconstruction.dates import dates_wanted
from restore_dit.reconstruction.model_description import locate_model
from tests.serving.running_service import ANN, running_service, save

TOKEN = ANN
SECONDS = 60_000

pytestmark = [
    pytest.mark.ray,
    pytest.mark.browser,
    pytest.mark.timeout(280),
]


@pytest.fixture(scope="module")
def browser(address):
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(ray_cluster, small_model, tmp_path_factory):
    models = tmp_path_factory.mktemp("viewer")
    save(small_model, models / "small")
    shutil.copytree(locate_model("default").path, models / "default")
    with running_service(models, tmp_path_factory.mktemp("state"), "default_model=small") as service:
        yield service.address


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(SECONDS)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: wrong.append(request.url) if not _is_ours(request.url, address) else None)
    opened.goto(address)
    yield opened
    context.close()
    assert wrong == []  # no error in a script, and nothing fetched from elsewhere


def _is_ours(url: str, address: str) -> bool:
    return url.startswith((address, "blob:", "data:"))


def let_in(page: Page) -> None:
    expect(page.locator("#token")).to_be_focused()
    page.fill("#token", TOKEN)
    page.press("#token", "Tab")
    expect(page.locator("#status")).to_have_text("Choose a series.")


def take_a_picture(page: Page, name: str) -> None:
    """Kept where somebody wants to look at it."""
    folder = os.environ.get("RESTORE_DIT_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_upload_watch_look_click_and_download(page, tmp_path):
    series = simulate_tile(SimulationConfig(height=40, width=48, days=120, field_hectares=0.8), 3, 0)
    (tmp_path / "series.nc").write_bytes(netcdf.encode(series))
    let_in(page)
    take_a_picture(page, "start")
    page.set_input_files("#file", tmp_path / "series.nc")
    page.fill("#steps", "3")
    page.click("#start")
    expect(page.locator("#progress")).to_be_visible()
    expect(page.locator("#status")).to_have_text(f"Done: {len(series.optical)} dates.", timeout=SECONDS)

    expect(page.locator("#clear")).to_have_js_property("naturalWidth", 48)
    page.locator("#date").fill("2")
    expect(page.locator("#shown-date")).to_contain_text(str(series.optical.dates[2]))
    page.get_by_label("false colour").check()
    expect(page.locator("#layer")).to_be_hidden()
    page.get_by_label("provenance").check()
    expect(page.locator("#layer")).to_be_visible()
    for estimated in (page.get_by_label("uncertainty"), page.locator("#band-legend")):
        expect(estimated).to_be_hidden()  # this network does not estimate it
    page.locator("#swipe").fill("30")
    assert page.locator("#stage").evaluate("stage => stage.style.getPropertyValue('--swipe')") == "30%"

    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 10.5 / 48, box["y"] + box["height"] * 20.5 / 40)
    expect(page.locator("#pixel")).to_have_text("row 20, column 10")
    gaps = int(series.missing()[:, 20, 10].sum())
    expect(page.locator("#chart .gap")).to_have_count(gaps)
    expect(page.locator("#chart .seen")).to_have_count(len(series.optical) - gaps)
    take_a_picture(page, "result")

    with page.expect_download() as download:
        page.click("#download")
    found = netcdf.decode(Path(download.value.path()).read_bytes(), "download")
    assert found.optical.values.shape == series.optical.values.shape
    assert download.value.suggested_filename == f"{series.tile_id}.nc"


def test_a_date_without_acquisition_its_provenance_and_its_interval(page, tmp_path):
    """With the shipped model, which estimates its uncertainty."""
    series = simulate_tile(SimulationConfig(height=40, width=48, days=120, field_hectares=0.8), 3, 0)
    (tmp_path / "series.nc").write_bytes(netcdf.encode(series))
    first, last = (series.optical.dates[index].astype("datetime64[D]") for index in (0, -1))
    between = first + (series.optical.dates[1].astype("datetime64[D]") - first) // 2
    let_in(page)
    page.set_input_files("#file", tmp_path / "series.nc")
    page.select_option("#model", "default")
    page.fill("#dates", f"{last + 20} {between}, {first}")
    page.click("#start")
    expect(page.locator("#status")).to_have_text("Done: 3 dates.", timeout=2 * SECONDS)
    page.locator("#date").fill("1")
    expect(page.locator("#shown-date")).to_have_text(f"{between}, 100 % reconstructed")
    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 10.5 / 48, box["y"] + box["height"] * 20.5 / 40)
    expect(page.locator("#pixel")).to_have_text("row 20, column 10")
    expect(page.locator("#chart .likely")).to_have_count(0)  # a vegetation index has none
    page.select_option("#band", "B08")
    expect(page.locator("#chart .likely")).to_have_count(1)
    heights = page.locator("#chart .likely").evaluate(
        "shape => { const y = shape.getAttribute('points').split(' ').map(p => Number(p.split(',')[1]));"
        " return [0, 1, 2].map(i => y[5 - i] - y[i]); }"
    )
    assert heights[1] > 1
    assert heights[2] > 1
    for name in ("provenance", "uncertainty"):
        page.get_by_label(name).check()
        expect(page.locator("#layer")).to_be_visible()
        expect(page.locator("#layer")).to_have_js_property("naturalWidth", 48)
        expect(page.locator("#layer")).to_have_class("gaps" if name == "provenance" else name)
        take_a_picture(page, name)
    page.fill("#dates", "month")
    page.click("#start")
    expect(page.locator("#status")).not_to_contain_text("Done")
    months = dates_wanted(series.optical.dates, every="month")
    expect(page.locator("#status")).to_have_text(f"Done: {len(months)} dates.", timeout=2 * SECONDS)
    assert len(months) in (3, 4)
    page.fill("#dates", "2040-01-01")
    page.click("#start")
    expect(page.locator("#status.error")).to_contain_text("2040-01-01", timeout=SECONDS)


def test_by_keyboard_alone(page):
    let_in(page)
    page.focus("#sample")
    page.keyboard.press("Enter")
    expect(page.locator("#drop")).to_contain_text("simulated.nc", timeout=SECONDS)
    page.focus("#start")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Done:", timeout=2 * SECONDS)
    page.focus("#date")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#date")).to_have_value("1")
    page.focus("#stage")
    for key in ("ArrowDown", "ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    expect(page.locator("#pixel")).to_have_text("row 23, column 33")
    expect(page.locator("#chart .clear")).to_be_visible()


def test_on_a_phone_nothing_is_cut_off(browser, address):
    context = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.goto(address)
    let_in(page)
    page.click("#sample")
    expect(page.locator("#drop")).to_contain_text("simulated.nc", timeout=SECONDS)
    page.click("#start")
    expect(page.locator("#status")).to_contain_text("Done:", timeout=2 * SECONDS)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    take_a_picture(page, "phone")
    context.close()


def test_a_wrong_token_and_a_bad_file_are_said(page, tmp_path):
    page.fill("#token", "wrong")
    page.press("#token", "Tab")
    expect(page.locator("#status.error")).to_contain_text("Authorization: Bearer")
    page.fill("#token", TOKEN)
    page.press("#token", "Tab")
    (tmp_path / "bad.nc").write_bytes(b"hello")
    page.set_input_files("#file", tmp_path / "bad.nc")
    expect(page.locator("#start")).to_be_enabled()
    page.click("#start")
    expect(page.locator("#status.error")).to_have_text("upload.nc: not a NetCDF 4 file")


def test_the_page_about_the_interface_shows_it_and_its_example_works(page, address):
    """`/docs`, without a request to elsewhere."""
    page.goto(f"{address}/docs")
    page.click("button.authorize")
    page.fill("section input", TOKEN)
    page.click("button.modal-btn.authorize")
    page.click("button.btn-done")
    operation = page.locator("#operations-reconstructions-reconstruct_v1_reconstructions_post")
    operation.locator("button.opblock-summary-control").click()
    operation.locator("button.try-out__btn").click()
    operation.locator("select[aria-label='Request content type']").select_option("application/json")
    operation.locator("tr[data-param-name='wait'] select").select_option("false")
    operation.locator("button.execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("202", timeout=SECONDS)
    take_a_picture(page, "docs")
