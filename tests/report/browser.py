"""A headless Chromium for tests, with WebGL drawn in software."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REMEDY = "apt-get install -y --no-install-recommends chromium chromium-driver; pip install -r requirements-dev.txt"


def start_browser(width: int = 1280, height: int = 900, dark: bool = False):
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
        *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
    ):
        options.add_argument(argument)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.set_window_size(width, height)
    started.set_page_load_timeout(240)
    return started


def open_page(driver, page: Path, case: str = "", timeout_s: float = 240.0) -> None:
    """Open a page and wait until a case is shown."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(page.resolve().as_uri() + (f"#case={case}" if case else ""))
    WebDriverWait(driver, timeout_s).until(lambda d: d.find_element("tag name", "body").get_attribute("data-shown"))


def pixels(element, folder: Path) -> np.ndarray:
    """Return an element as drawn on the screen, (H, W, 3) int."""
    file = folder / "element.png"
    element.screenshot(str(file))
    return np.asarray(Image.open(file).convert("RGB")).astype(int)
