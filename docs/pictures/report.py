"""Takes report.png beside itself: the top of a sweep's report, as a browser shows it.

    make sweep NAME=digits_kd
    .venv/bin/python docs/pictures/report.py runs/digits_kd/report.html

Needs Chromium. Shows the answer, the first rows of the table and the figure of ratios. The rest of the page is left
out; nothing is added.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

PICTURE = Path(__file__).with_suffix(".png")
WIDTH, HEIGHT, MARGIN = 1040, 2400, 16
NUM_ROWS = 6
LAST_COLUMN = "ratio"
COLOURS = 128
# Runs when the page has loaded. The first table is that of the configurations, the first figure that of the ratios.
LEAVE_OUT = f"""
<style>.wide {{ overflow: visible }} html {{ scrollbar-width: none }}</style>
<script>
addEventListener("load", () => {{
  const table = document.querySelector(".wide table");
  const headers = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const last = headers.findIndex((header) => header.startsWith("{LAST_COLUMN}"));
  for (const row of table.rows) while (row.cells.length > last + 1) row.deleteCell(-1);
  while (table.tBodies[0].rows.length > {NUM_ROWS}) table.tBodies[0].deleteRow(-1);
  for (const each of document.querySelectorAll(".note, figcaption")) each.remove();
  for (let each = document.querySelector("figure").nextElementSibling; each;) {{
    const next = each.nextElementSibling;
    each.remove();
    each = next;
  }}
}});
</script>
"""


def trimmed(page: str) -> str:
    """The page of a report, with what leaves out all but its top."""
    return page.replace("</body>", f"{LEAVE_OUT}</body>")


def photographed(page: str) -> Image.Image:
    """What a browser shows of a page, without the empty space around it."""
    with tempfile.TemporaryDirectory() as folder:
        source, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        source.write_text(page, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--hide-scrollbars"]
        flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}/profile"]
        flags += ["--force-device-scale-factor=1.5", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}"]
        subprocess.run(["chromium", *flags, source.as_uri()], check=True, capture_output=True)
        image = Image.open(shot).convert("RGB")
    box = ImageChops.difference(image, Image.new("RGB", image.size, image.getpixel((0, 0)))).getbbox()
    assert box is not None
    left, top, right, bottom = box
    return image.crop((max(0, left - MARGIN), max(0, top - MARGIN), right + MARGIN, bottom + MARGIN))


def main() -> None:
    """Take the picture of the report that is named on the command line."""
    page = trimmed(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # A few colours are enough for a page, and a third of the bytes.
    photographed(page).quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
