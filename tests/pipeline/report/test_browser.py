"""The page in a real browser: what a parser cannot tell."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline import report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=5000",
]
MEASURE = """<script>
for (const details of document.querySelectorAll("details")) details.open = true;
const drawn = [...document.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().height > 50);
parent.postMessage([innerWidth, document.documentElement.scrollWidth, drawn.length].join(" "), "*");
</script>"""
FRAME = """<title>nothing yet</title><script>onmessage = message => { document.title = message.data }</script>
<iframe src="measured.html" style="border: 0; height: 900px; width: %dpx"></iframe>"""


def measured(page: str, width: int, folder: Path) -> tuple[int, int, int]:
    """The window's width, the page's, and the number of visible figures, with everything unfolded.

    The page is laid out in a frame, since a browser's own window is never as narrow as a phone.
    """
    policy = r'<meta http-equiv="Content-Security-Policy"[^>]*>'  # the page itself forbids all scripts
    (folder / "measured.html").write_text(re.sub(policy, "", page).replace("</body>", MEASURE + "</body>"))
    frame = folder / "frame.html"
    frame.write_text(FRAME % width)
    command = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", "--dump-dom"]
    found = subprocess.run([*command, frame.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    return tuple(map(int, re.search(r"<title>(\d+) (\d+) (\d+)</title>", found.stdout).groups()))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_never_scrolls_sideways(full, tmp_path, width):
    """On a laptop and on a phone, with everything unfolded: what is wide scrolls in its own box."""
    classes = {"speaker": [f"a speaker with a long name {i}" for i in range(40)]}
    full.add_experiment("x" * 80, "MVMT-concat", ["wavlm"] * 9, {"speaker": 0.7}, classes)
    page = report.build(full.folder, full.params).read_text()
    assert measured(page, width, tmp_path) == (width, width, page.count("<svg"))


def test_a_screenshot_of_the_page_is_not_blank(page, tmp_path):
    """The page as it is, its own policy in force, is painted."""
    address, picture = tmp_path / "page.html", tmp_path / "page.png"
    address.write_text(page)
    command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,1600"]
    subprocess.run([*command, f"--screenshot={picture}", address.as_uri()], capture_output=True, timeout=60, check=True)
    from matplotlib.image import imread

    pixels = imread(picture)
    assert pixels.shape[:2] == (1600, 1280)
    assert pixels[..., :3].std() > 0.05
