"""The page of the proxy in a browser, before a real Foundry Local 1.2.4 with a real model."""

import base64
from pathlib import Path

from shim.offline.fetch import MODEL_ID, ensure_model
from support.browser import Browser, BrowserError, find_browser
from support.page import send
from support.proxies import proxying
from support.service import LiveService

RELEASE = "1.2.4"
WIDTH, HEIGHT = 1200, 860
PROMPT = "Write me a haiku about a frog"
TOKENS = 32
QUALITY = 85


def draw(folder: Path) -> list[Path]:
    """Ask on the page, in the light and in the dark, and take a picture of the answer beside its wire.

    Raises:
        BrowserError: There is no browser, or it does not show the answer.
    """
    browser_path = find_browser()
    if browser_path is None:
        raise BrowserError("Chromium is not on the PATH. Install it, and start this again.")
    service = LiveService(RELEASE, model=ensure_model())
    service.model_id = MODEL_ID
    drawn = []
    with service, proxying(service.base_url) as proxy, Browser(browser_path) as browser:
        for theme in ("light", "dark"):
            address = f"{proxy.url}/"
            with browser.page(address, width=WIDTH, height=HEIGHT, prefers_color_scheme=theme) as page:
                page.command("Emulation.setScrollbarsHidden", hidden=True)
                page.wait("document.getElementById('model').value")
                page.evaluate(f"document.getElementById('limit').value = {TOKENS}")
                send(page, PROMPT)
                # From the first event of the answer, and from its question.
                page.evaluate("document.querySelectorAll('.scroll, .history').forEach((part) => part.scrollTo(0, 0))")
                image = page.command("Page.captureScreenshot", format="webp", quality=QUALITY)["data"]
                drawn.append(folder / f"page-{theme}.webp")
                drawn[-1].write_bytes(base64.b64decode(image))
    return drawn
