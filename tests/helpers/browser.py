"""A headless Chromium for tests, with WebGL drawn in software.

`python -m tests.helpers.browser PAGE [SCREENSHOT] [WIDTH HEIGHT] [dark]` says how heavy a page is and how long it takes
to show its first case, another one, and its table sorted and searched; and takes a screenshot, of the page's dark
colours where so asked.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REMEDY = "apt-get install -y --no-install-recommends chromium chromium-driver; pip install -r requirements-dev.txt"


def start_browser(width: int = 1280, height: int = 900):
    """Return a driver, or skip the test and say what to install.

    The driver logs the console and every request of the page.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason=f"no selenium: {REMEDY}")
    browser, driver = (shutil.which(n) for n in ("chromium", "chromedriver"))
    if not browser or not driver:
        pytest.skip(f"no chromium and chromedriver: {REMEDY}")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
    ):
        options.add_argument(argument)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.set_window_size(width, height)
    started.set_page_load_timeout(240)
    started.set_script_timeout(240)
    return started


def set_scheme(driver, scheme: str = "") -> None:
    """Let a page have its "light" or "dark" colours, or "" for the system's."""
    features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def open_page(driver, page: Path, case: str = "") -> None:
    """Open a page and wait until a case is shown."""
    driver.get(page.resolve().as_uri() + (f"#case={case}" if case else ""))
    until(lambda: driver.find_element("tag name", "body").get_attribute("data-shown"))


def until(true, timeout_s: float = 240.0, step_s: float = 0.3) -> None:
    """Wait until a function returns something true."""
    started = time.perf_counter()
    while not true():
        if time.perf_counter() - started > timeout_s:
            raise TimeoutError(f"not true within {timeout_s:g} s")
        time.sleep(step_s)


def pixels(element, folder: Path) -> np.ndarray:
    """Return an element as drawn on the screen, (H, W, 3) int."""
    file = folder / "element.png"
    element.screenshot(str(file))
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def settled_pixels(element, folder: Path, unlike: np.ndarray | None = None) -> np.ndarray:
    """Return an element's pixels once they no longer change and, where given, differ from an earlier picture."""
    seen = [pixels(element, folder)]

    def settled() -> bool:
        seen.append(pixels(element, folder))
        return np.array_equal(*seen[-2:]) and (unlike is None or not np.array_equal(seen[-1], unlike))

    until(settled)
    return seen[-1]


def console_errors(driver) -> list[str]:
    """Return what the console logged as severe."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def requests(driver) -> list[str]:
    """Return the addresses the page asked for, but for `data:` and `blob:`, which are in it."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "blob:"))]


def times_of(driver) -> dict[str, float]:
    """Return how many seconds a page takes to open a case that is drawn, to sort its table, and to search it."""
    body = driver.find_element("tag name", "body")
    before = body.get_attribute("data-shown")
    others = driver.execute_script("return table.cases.filter((c) => byId(`payload-${c.number}`)).map((c) => c.name)")
    found = {}
    if len(others) > 1:
        other = next(name for name in others if name != before)
        started = time.perf_counter()
        driver.execute_script("openCase(table.cases.find((c) => c.name === arguments[0]))", other)
        until(lambda: body.get_attribute("data-shown") == other, step_s=0.02)
        found["another case"] = time.perf_counter() - started
    steps = {
        "sorted": "document.querySelector('#cases thead button').click()",
        "searched": "byId('find').value = 'refined'; byId('find').dispatchEvent(new Event('input'))",
    }
    for what, step in steps.items():  # until the browser has drawn it
        timed = f"""const done = arguments[0], started = performance.now(); {step};
            requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)));"""
        found[what] = driver.execute_async_script(timed) / 1000.0
    return found


def main(page: str, screenshot: str = "", width: str = "1280", height: str = "900", scheme: str = "") -> None:
    """Print a page's weight and how fast it is; see the module."""
    driver = start_browser()
    try:
        # The window's frame takes some of its height, so the size is set for the page itself.
        size = {"width": int(width), "height": int(height), "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        set_scheme(driver, scheme)
        started = time.perf_counter()
        open_page(driver, Path(page))
        print(f"{page}: {Path(page).stat().st_size / 1e6:.2f} MB, shown after {time.perf_counter() - started:.1f} s")
        if screenshot:
            time.sleep(2.0)
            driver.save_screenshot(screenshot)
        print(", ".join(f"{what} in {seconds:.2f} s" for what, seconds in times_of(driver).items()))
    finally:
        driver.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
