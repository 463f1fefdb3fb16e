"""Takes mlflow.png beside itself: the prepared view of a sweep's curves, as a browser shows it on MLflow's page.

    make sweep NAME=digits_kd SET="epochs=8 evaluations=16 seeds=2 budget.configurations=4 confirm.seeds=2"
    .venv/bin/python docs/pictures/mlflow.py digits_kd

Needs Chromium. MLflow's assistant is closed; nothing else is changed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from sweeps.mlflow_view import serving
from sweeps.mlflow_view.address import tracking_uri
from sweeps.record.directory import SweepDirectory
from sweeps.record.paths import sweep_path

PICTURE = Path(__file__).with_suffix(".png")
WIDTH, HEIGHT, COLOURS = 1280, 800, 128
# Charts are drawn after the page has loaded; the last one is that of the bars.
LAST_DRAWN = ".bars .bartext"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]


def photographed(url: str) -> Image.Image:
    """What a browser shows at an address."""
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=FLAGS, viewport={"width": WIDTH, "height": HEIGHT}
        )
        page = context.new_page()
        page.goto(url)
        page.locator(LAST_DRAWN).first.wait_for(timeout=120_000)
        page.get_by_role("button", name="Close").last.click()
        page.mouse.move(0, HEIGHT - 1)
        page.wait_for_timeout(3000)  # the charts are drawn again in the width that is free now
        image = Image.open(BytesIO(page.screenshot())).convert("RGB")
        context.close()
    return image


def main() -> None:
    """Take the picture of the sweep that is named on the command line."""
    links = serving.links(SweepDirectory(sweep_path(sys.argv[1])))
    port = serving.free_port(0)
    with serving.serving(tracking_uri(), port):
        shown = photographed(f"http://{serving.HOST}:{port}/{links['accuracy over reference seconds']}")
    shown.quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
