"""The page in a real browser: clicks, pixels, console and network."""

import json
import re

import nibabel as nib
import numpy as np
import pytest

from scripts.geometry.affine import spacing_mm
from scripts.organ.palette import structure_colours
from scripts.report.case_page import load_case
from scripts.report.html import write_page
from scripts.report.run_folder import Run
from tests.helpers.browser import (
    console_errors,
    open_page,
    pixels,
    requests,
    set_scheme,
    settled_pixels,
    start_browser,
    until,
)
from tests.helpers.made_run import NAMES, write_crowd, write_run
from tests.helpers.volumes import OBLIQUE

CYAN, ORANGE = (0x22, 0xD3, 0xEE), (0xFF, 0x8A, 0x3D)

ARABIC = "حالة_03"  # "case"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write_page(Run.open(write_run(folder, OBLIQUE), folder / "truth"))
    return folder


@pytest.fixture(scope="module")
def page(folder):
    """The page, opened once; at the end no error may have been logged and nothing asked for but the page."""
    driver = start_browser(1280, 900)
    try:
        file = folder / "run" / "report.html"
        open_page(driver, file)
        yield driver
        assert console_errors(driver) == []
        assert {url.split("#")[0] for url in requests(driver)} == {file.resolve().as_uri()}
    finally:
        driver.quit()


def by_id(driver, name):
    return driver.find_element("id", name)


def drawn(picture):
    """Return which pixels differ from the picture's upper left corner, the background."""
    return np.abs(picture - picture[2, 2]).max(axis=-1) > 12


def coloured(picture, colour):
    return np.abs(picture - colour).max(axis=-1) < 40


def test_clicks_change_what_is_drawn(page, folder):
    scene = by_id(page, "solid")
    both = settled_pixels(scene, folder)
    page.save_screenshot(str(folder / "page.png"))
    assert (folder / "page.png").stat().st_size > 50_000
    half = both.shape[0] // 2  # the shapes are wider than high: one pane above the other
    upper, lower = drawn(both)[:half], drawn(both)[half:]
    assert 0.02 < upper.mean() < lower.mean()  # initial and, 2 mm larger, refined
    red = both[..., 0] > both[..., 2] + 40
    assert red[half:][lower].mean() > 0.5  # moved outward

    by_id(page, "stage-initial").click()
    alone = settled_pixels(scene, folder, both)
    by_id(page, "structure-ball").click()
    fewer = settled_pixels(scene, folder, alone)
    assert drawn(fewer).mean() < 0.8 * drawn(alone).mean()

    by_id(page, "colouring").find_element("css selector", "option[value=error]").click()
    by_id(page, "range").find_element("css selector", 'option[value="10"]').click()
    grey = settled_pixels(scene, folder, fewer)
    assert (grey[..., 0] > grey[..., 2] + 60)[drawn(grey)].mean() < 0.2  # the truth is the refined shape
    by_id(page, "colouring").find_element("css selector", "option[value=place]").click()
    places = settled_pixels(scene, folder, grey)
    assert (places[..., 2] > places[..., 1] + 60).any()  # only the pill has colours of places
    cyan = (places[..., 2] > places[..., 0] + 60) & (places[..., 1] > places[..., 0] + 60)
    assert cyan[drawn(places)].mean() > 0.6  # the egg has the refined stage's
    below = [b for b in page.find_elements("css selector", "#cameras button") if b.text == "below"][0]
    below.click()
    settled_pixels(scene, folder, places)
    by_id(page, "structure-ball").click()


def test_uncertainty_has_a_scale_from_zero(page, folder):
    scene = by_id(page, "solid")
    choose(page, "colouring", "moved")
    assert by_id(page, "range").text.startswith("± 0.5 mm")
    seen = settled_pixels(scene, folder)
    choose(page, "colouring", "uncertainty")
    assert by_id(page, "bar-ticks").text.split() == ["0", "0.5", "mm", "1", "mm", "1.5", "mm", "2", "mm"]
    assert by_id(page, "range").text.split("\n")[:2] == ["0 to 0.5 mm", "0 to 1 mm"]
    uncertain = settled_pixels(scene, folder, seen)
    red = uncertain[..., 0] > uncertain[..., 2] + 90
    assert 0.005 < (red & drawn(uncertain)).mean() < 0.5 * drawn(uncertain).mean()  # the pill's upper half
    choose(page, "colouring", "moved")
    settled_pixels(scene, folder, uncertain)
    assert by_id(page, "bar-ticks").text.startswith("−")


def test_panes_turn_together(page, folder):
    scene = by_id(page, "solid")
    by_id(page, "stage-initial").click()
    before = settled_pixels(scene, folder)
    corner = (scene.rect["x"] + 300, scene.rect["y"] + 80)
    for kind, x, y in (
        ("mouseMoved", 0, 0),
        ("mousePressed", 0, 0),
        ("mouseMoved", 60, 20),
        ("mouseReleased", 120, 40),
    ):
        place = {"type": kind, "x": corner[0] + x, "y": corner[1] + y, "button": "left", "buttons": 1, "clickCount": 1}
        page.execute_cdp_cmd("Input.dispatchMouseEvent", place)
    after = settled_pixels(scene, folder, before)
    half = len(before) // 2
    assert (before[:half] != after[:half]).mean() > 0.05 and (before[half:] != after[half:]).mean() > 0.05
    one, other = page.execute_script(
        "return ['scene', 'scene2'].map((n) => JSON.stringify(byId('solid')._fullLayout[n].camera.eye))"
    )
    assert one == other


def choose(page, select, value):
    by_id(page, select).find_element("css selector", f'option[value="{value}"]').click()


def hue_shares(picture, colours):
    """Return for each colour the share of the drawn pixels whose direction from grey is the colour's."""
    lit = picture[drawn(picture)].astype(float)
    lit -= lit.mean(axis=-1, keepdims=True)
    lit /= np.linalg.norm(lit, axis=-1, keepdims=True) + 1e-9
    wanted = np.array(colours, float)
    wanted -= wanted.mean(axis=-1, keepdims=True)
    wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
    return (lit @ wanted.T > 0.95).mean(axis=0)


def test_no_colouring_is_black(page, folder):
    """Of every colouring the pixels are bright; stages and structures have the colours that the page names."""
    scene = by_id(page, "solid")
    keys = [option.get_attribute("value") for option in page.find_elements("css selector", "#colouring option")]
    assert keys == ["moved", "error", "uncertainty", "place", "structure", "stage"]
    seen = settled_pixels(scene, folder)
    for key in [*keys[1:], keys[0]]:
        choose(page, "colouring", key)
        seen = settled_pixels(scene, folder, seen)
        shapes = seen[drawn(seen)].max(axis=-1)  # brightest channel
        assert (shapes > 90).mean() > 0.9, key
        if key == "structure":
            assert (hue_shares(seen, structure_colours(3)) > 0.08).all()
        if key == "stage":
            both = hue_shares(seen, [(0xFF, 0x8A, 0x3D), (0x22, 0xB8, 0xD1)])
            assert (both > 0.25).all() and both.sum() > 0.9


def test_structures_fill_slices_with_their_colours_and_slices_their_panels(page, folder):
    canvas = by_id(page, "slice-axial")
    filled = settled_pixels(canvas, folder)
    by_id(page, "filled").click()
    bare = settled_pixels(canvas, folder, filled)
    by_id(page, "filled").click()
    settled_pixels(canvas, folder, bare)
    tint = (filled - bare)[np.abs(filled - bare).max(axis=-1) > 8]
    assert len(tint) > 200
    for view in ("axial", "coronal", "sagittal"):
        width, height, drawn_width, drawn_height = page.execute_script(
            "const v = current.slices.views.find((v) => v.name === arguments[0]), p = current.slices.placement(v);"
            "return [v.canvas.parentElement.clientWidth, v.canvas.clientHeight, p.width * p.scale, p.height * p.scale]",
            view,
        )
        assert drawn_width == pytest.approx(width, abs=2) and drawn_height == pytest.approx(height, abs=2)


def test_slices_come_closer_where_something_was_removed_far_away(tmp_path):
    """An island 170 mm beside the organs would make the panels tiny; it is shown on request, or where a click asks."""
    run = write_run(tmp_path, OBLIQUE)
    for file in (run / "a" / "a_initial.nii.gz", run / "a" / "a_refined.nii.gz", tmp_path / "truth" / "a.nii.gz"):
        image = nib.load(file)
        values = np.pad(np.asarray(image.dataobj), [(0, round(150 / spacing_mm(OBLIQUE)[0])), (0, 0), (0, 0)])
        if "initial" in file.name:
            values[-4:-2, 10:14, 10:14] = 1
        nib.save(nib.Nifti1Image(values, OBLIQUE), file)
    write_page(Run.open(run, tmp_path / "truth"))
    driver = start_browser(1280, 900)
    try:
        open_page(driver, run / "report.html")

        def seen():
            return driver.execute_script("""
                const { views, window, volumes } = current.slices, { canvas } = views[0];
                const { scale, width, height } = current.slices.placement(views[0]);
                return [window.map(([from, to], a) => (to - from) / volumes.shape[a]),
                        Math.abs(width * scale - canvas.clientWidth), Math.abs(height * scale - canvas.clientHeight)];
            """)

        near, *gaps = seen()
        assert min(near) < 0.6 and max(gaps) <= 2
        canvas = by_id(driver, "slice-axial")
        close = settled_pixels(canvas, tmp_path)
        driver.execute_script("arguments[0].dispatchEvent(new MouseEvent('click'))", by_id(driver, "closer"))
        whole, *gaps = seen()
        assert whole == [1, 1, 1] and max(gaps) <= 2 and not by_id(driver, "closer").is_selected()
        wide = settled_pixels(canvas, tmp_path)
        assert coloured(close, CYAN).any(axis=0).mean() > 1.5 * coloured(wide, CYAN).any(axis=0).mean() > 0
        by_id(driver, "closer").click()
        assert seen()[0] == near
        for view in ("axial", "coronal", "sagittal"):  # a click moves the cross there
            across, up = driver.execute_script(
                "const v = current.slices.views.find((v) => v.name === arguments[0]), s = current.slices;"
                "v.canvas.dispatchEvent(new MouseEvent('click', {clientX: v.canvas.getBoundingClientRect().left + 1,"
                "clientY: v.canvas.getBoundingClientRect().top + 1})); return [v.across, v.up].map((a) =>"
                "s.window[a][1] - 1 - s.position[a])",
                view,
            )
            assert (across, up) == (0, 0)
        far = nib.load(run / "a" / "a_initial.nii.gz")
        point = (far.affine @ [far.shape[0] - 3, 12, 12, 1])[:3]
        driver.execute_script("current.slices.moveToWorld(arguments[0])", point.tolist())
        assert seen()[0] == [1, 1, 1] and not by_id(driver, "closer").is_selected()
        assert console_errors(driver) == []
    finally:
        driver.quit()


def luminance(colour):
    """Return the relative luminance of a colour as WCAG 2 defines it; of colours (..., 3), 0 to 255."""
    share = np.asarray(colour, float) / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out_from_their_ground_in_light_and_in_dark(page, dark):
    """All texts have a contrast of 4.5 to 1, the least that WCAG 2 asks for."""
    set_scheme(page, "dark" if dark else "light")
    try:
        found = page.execute_script(r"""
            const ground = (e) => {
              for (; e; e = e.parentElement) {
                const colour = getComputedStyle(e).backgroundColor;
                if (!/^rgba.*, 0\)$/.test(colour)) return colour;
              }
              return "rgb(255, 255, 255)";
            };
            return [...document.querySelectorAll("body *")].filter((e) => !e.closest("svg, script, #solid")
              && e.getClientRects().length && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
              .map((e) => [e.tagName + " " + e.textContent.slice(0, 30), getComputedStyle(e).color, ground(e)]);
        """)
    finally:
        set_scheme(page)
    assert len(found) > 50
    grounds = set()
    for text, *colours in found:
        numbers = [[int(n) for n in re.findall(r"\d+", colour)[:3]] for colour in colours]
        bright, faint = sorted((luminance(numbers[0]), luminance(numbers[1])), reverse=True)
        assert (bright + 0.05) / (faint + 0.05) >= 4.5, (text, colours)
        grounds.add(luminance(numbers[1]) > 0.5)
    assert (True in grounds) != dark


def test_a_phone_is_told_of_columns_beside_the_screen(page, folder):
    hint = page.find_element("css selector", ".scroll-hint")
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        until(hint.is_displayed)
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        page.execute_script("const b = byId('cases').parentElement; b.scrollLeft = b.scrollWidth")
        until(lambda: not hint.is_displayed())
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    settled_pixels(by_id(page, "solid"), folder)


def test_slider_and_regions_move_the_slices(page, folder):
    canvas, slider = by_id(page, "slice-axial"), by_id(page, "slider-axial")
    before = pixels(canvas, folder)
    assert coloured(before, CYAN).sum() > 50 and coloured(before, ORANGE).sum() > 50
    place = int(slider.get_attribute("value"))
    slider.send_keys("\ue012")  # arrow left
    until(lambda: int(slider.get_attribute("value")) == place - 1)
    assert not np.array_equal(settled_pixels(canvas, folder), before)
    for _ in range(place):
        slider.send_keys("\ue012")
    empty = settled_pixels(canvas, folder)
    assert slider.get_attribute("value") == "0" and coloured(empty, CYAN).sum() == 0
    page.find_element("css selector", ".finding button.place").click()  # centre of the ball
    until(lambda: slider.get_attribute("value") != "0")
    assert coloured(settled_pixels(canvas, folder), CYAN).sum() > 50


def test_contours_are_exact_to_the_voxel(page, folder):
    """What the page traces is counted against the edges between voxels, found with numpy."""
    run = Run.open(folder / "run")
    labels = load_case(run, run.report["cases"][0]).slices.labels["refined"]
    traced = page.execute_script("""
        const { members, views } = current.slices, lengths = [], path = window.Path2D;
        for (const view of views) {
          let length = 0, at = null;
          window.Path2D = class {
            moveTo(x, y) { at = [x, y]; }
            lineTo(x, y) { length += Math.abs(x - at[0]) + Math.abs(y - at[1]); }
          };
          for (const member of members) current.slices.outline(view, "refined", member, 1, 1);
          lengths.push([view.through, current.slices.position[view.through], length]);
        }
        window.Path2D = path;
        return lengths;
    """)
    for through, position, length in traced:
        plane = np.pad(np.take(labels, position, through), 1)
        edges = sum(
            np.count_nonzero(np.diff((plane == n).astype(int), axis=axis))
            for n in range(1, len(NAMES) + 1)
            for axis in (0, 1)
        )
        assert length == edges > 20


def test_rows_open_cases_by_mouse_and_keyboard(page, folder):
    row_b, row_a = page.find_elements("css selector", "#cases tbody tr")  # the failed one comes first
    row_b.click()
    until(lambda: by_id(page, "case-name").text == "b")
    assert "cannot be read" in by_id(page, "case-notes").text and not by_id(page, "views").is_displayed()
    assert row_b.get_attribute("aria-selected") == "true"
    row_b.send_keys("\ue015")  # arrow down
    assert page.switch_to.active_element == row_a
    row_a.send_keys("\ue007")  # enter
    until(lambda: page.find_element("tag name", "body").get_attribute("data-shown") == "a")
    assert drawn(settled_pixels(by_id(page, "solid"), folder)).mean() > 0.02
    heads = page.find_elements("css selector", "#cases thead button")
    heads[0].click()
    heads[0].click()
    names = [row.get_attribute("data-case") for row in page.find_elements("css selector", "#cases tbody tr")]
    assert names == ["b", "a"]


def test_texts_are_shown_as_they_are_and_legible(page):
    findings = by_id(page, "findings").text
    assert "<b>2 mm</b>" in findings and "1 of 1 hole filled." in findings and "not added" in findings
    assert "not commercial" in by_id(page, "provenance").text
    small = page.execute_script("""
        return [...document.querySelectorAll("body *")].filter((e) => e.innerText && !e.closest("svg")
          && parseFloat(getComputedStyle(e).fontSize) < 12).map((e) => e.tagName + e.innerText);
    """)
    assert small == []
    times = page.find_element("css selector", ".seconds").text
    assert times == "the image's two readers agree with a Dice of 0.93, fit 1.5 s." and " · " not in findings


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_overlaps_or_sticks_out(page, folder, width):
    page.set_window_size(width, 900)
    settled_pixels(by_id(page, "solid"), folder)
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    boxes = page.execute_script("""
        return [...document.querySelectorAll("#surfaces, .slice, .key, .finding, #case h2, #cases")].map((e) => {
          const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; });
    """)
    for n, (left, top, right, bottom) in enumerate(boxes):
        for other_left, other_top, other_right, other_bottom in boxes[n + 1 :]:
            assert (
                right <= other_left + 1 or other_right <= left + 1 or bottom <= other_top + 1 or other_bottom <= top + 1
            )
    page.set_window_size(1280, 900)


def test_a_fit_that_cannot_be_right_is_a_red_flag_and_what_was_not_changed_no_refined_structure(tmp_path):
    run = write_run(tmp_path, OBLIQUE)
    report = json.loads((run / "report.json").read_text())
    first, second, _ = report["cases"][0]["structures"]
    first["quality"]["doubtful"] = True
    second["status"] = "unchanged"
    (run / "report.json").write_text(json.dumps(report))
    write_page(Run.open(run))
    driver = start_browser(1280, 900)
    try:
        open_page(driver, run / "report.html")
        assert by_id(driver, "case-status").text == "refined"
        assert by_id(driver, "case-status").get_attribute("class") == "chip bad"
        row = driver.find_element("css selector", "#cases tbody tr[data-case=a]").text
        assert f"{first['name']}: fit cannot be right" in row and "2 of 3" in row
    finally:
        driver.quit()


def test_an_address_that_is_none_opens_the_first_case(folder):
    driver = start_browser(1280, 900)
    try:
        open_page(driver, folder / "run" / "report.html", "%E0%A4%A")
        assert by_id(driver, "case-name").text == "a" and console_errors(driver) == []
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """The page of many cases, of which two are drawn: case_07, of which least is predicted, and one in Arabic."""
    folder = tmp_path_factory.mktemp("crowd")
    names = [ARABIC if n == 3 else f"case_{n:02d}" for n in range(30)]
    lowest = {"case_07": 60.0, ARABIC: 70.0}
    run = write_crowd(folder, OBLIQUE, {name: lowest.get(name, 80.0 + n / 10) for n, name in enumerate(names)})
    write_page(Run.open(run), most=3)  # of which one is the failed one
    driver = start_browser(1280, 900)
    try:
        open_page(driver, run / "report.html")
        yield driver
        assert console_errors(driver) == []
    finally:
        driver.quit()


def rows_seen(driver):
    rows = driver.find_elements("css selector", "#cases tbody tr")
    return [row.get_attribute("data-case") for row in rows if row.is_displayed()]


def test_the_worst_of_many_cases_come_first_and_are_drawn(crowd):
    assert rows_seen(crowd)[:4] == ["b", "case_07", ARABIC, "case_00"]
    assert by_id(crowd, "case-name").text == "case_07" and by_id(crowd, "views").is_displayed()
    crowd.find_element("css selector", "#cases tr[data-case=case_00]").click()
    until(lambda: by_id(crowd, "case-name").text == "case_00")
    assert "html_cases" in by_id(crowd, "case-notes").text and not by_id(crowd, "views").is_displayed()
    assert "added" in by_id(crowd, "findings").text


def test_unusual_sizes_of_many_masks_are_named_above_all_cases(crowd, page):
    said = by_id(crowd, "sizes").text
    assert said.startswith("ball: the masks are larger than usual, by 2.4 standard deviations (median of ")
    assert not by_id(page, "sizes").is_displayed()  # one mask alone says nothing


def test_each_case_has_a_small_picture(crowd):
    sizes = crowd.execute_script("""
        return [...document.querySelectorAll("#cases img")].map((e) => { e.loading = "eager"; return e; })
          .slice(0, 5).map((e) => [e.alt, e.src.slice(0, 15), e.clientWidth]);
    """)
    assert sizes == [["", "data:image/webp", 40]] * 5
    assert len(crowd.find_elements("css selector", "#cases img")) == 30  # the failed case has none


def test_one_row_is_reached_by_tab_and_the_others_by_keys(crowd):
    rows = crowd.find_elements("css selector", "#cases tbody tr")
    rows[0].click()
    reached = "return [...document.querySelectorAll('#cases tbody tr')].map((r) => r.tabIndex).indexOf(0)"
    count = "return [...document.querySelectorAll('#cases tbody tr')].filter((r) => r.tabIndex === 0).length"
    for key, expected in (("\ue010", 30), ("\ue00e", 20), ("\ue011", 0), ("\ue00f", 10), ("\ue015", 11)):
        crowd.switch_to.active_element.send_keys(key)  # End, Page Up, Home, Page Down, Arrow Down
        assert crowd.switch_to.active_element == rows[expected]
        assert crowd.execute_script(reached) == expected and crowd.execute_script(count) == 1
    crowd.switch_to.active_element.send_keys("\ue007")
    until(lambda: by_id(crowd, "case-name").text == rows[11].get_attribute("data-case"))


def test_cases_are_found_by_their_texts(crowd):
    box = by_id(crowd, "find")
    box.send_keys("CASE_1")
    assert rows_seen(crowd) == [f"case_{n}" for n in range(10, 20)] and by_id(crowd, "found").text == "10 of 31 cases"
    crowd.find_element("css selector", "#cases tr[data-case=case_10]").send_keys("\ue010")
    assert crowd.switch_to.active_element.get_attribute("data-case") == "case_19"
    box.clear()
    box.send_keys("failed")
    assert rows_seen(crowd) == ["b"]
    box.clear()
    box.send_keys(" ")
    assert len(rows_seen(crowd)) == 31


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_runs_from_right_to_left_too(crowd, width):
    """As a translation would have it: nothing sticks out, scales and slices stay as they are."""
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    crowd.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    crowd.find_element("css selector", f"#cases tr[data-case='{ARABIC}']").click()
    until(lambda: crowd.find_element("tag name", "body").get_attribute("data-shown") == ARABIC)
    try:
        ticks = by_id(crowd, "bar-ticks").text
        crowd.execute_script("document.documentElement.dir = 'rtl'")
        assert crowd.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        name, status = crowd.execute_script(
            "const row = document.querySelector('#cases tbody tr[data-case=case_07]');"
            "return [0, 1].map((n) => row.cells[n].getBoundingClientRect().left)"
        )
        assert name > status  # columns run to the left
        places = crowd.execute_script("""
            const heads = [...byId("cases").tHead.rows[0].cells], range = document.createRange();
            const row = document.querySelector("#cases tr[data-case=case_07]");
            const text = row.cells[heads.findIndex((c) => c.textContent === "pieces")].firstChild;
            return [...text.data].map((letter, n) => {
              range.setStart(text, n); range.setEnd(text, n + 1);
              return range.getBoundingClientRect().left;
            });
        """)
        assert len(places) == len("4 → 3") and places == sorted(places)  # before stands before after
        left, right = crowd.execute_script(
            "const t = byId('bar-ticks').children;"
            "return [t[0], t[t.length - 1]].map((e) => e.getBoundingClientRect().left)"
        )
        assert left < right and by_id(crowd, "bar-ticks").text == ticks
        hint = crowd.find_element("css selector", ".scroll-hint")
        if width == 390:
            until(hint.is_displayed)
            crowd.execute_script("const b = byId('cases').parentElement; b.scrollLeft = -b.scrollWidth")
            until(lambda: not hint.is_displayed())
    finally:
        crowd.execute_script("document.documentElement.dir = 'ltr'")
        crowd.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_names_from_right_to_left_leave_the_rest_in_its_order(crowd):
    found = crowd.execute_script("""
        const row = document.querySelector("#cases tbody tr:nth-child(3)"), name = row.querySelector("bdi");
        return [name.textContent, getComputedStyle(name).unicodeBidi, byId("case-name").tagName];
    """)
    assert found == [ARABIC, "isolate", "BDI"]
