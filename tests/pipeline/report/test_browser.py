"""The page in a real browser: what a parser cannot tell."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from strata.pipeline import report
from tests.pipeline.report import grid_results

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
MEASURE = """
    const found = [...document.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().height > 50);
    return [innerWidth, document.documentElement.scrollWidth, found.length];"""
TRIAL = """<title>null</title><script>onmessage = message => { document.title = message.data }</script>
<iframe src="tried.html%s" style="border: 0; height: 900px; width: %dpx"></iframe>"""
CELL = "#cell=pairs/demo/mfcc+x-vector/ot"


def tried(page: str, script: str, folder: Path, address: str = "", width: int = 1280) -> Any:
    """What a script returns that runs in the page, with everything unfolded, in a frame as wide as asked for.

    The page is laid out in a frame, since a browser's own window is never as narrow as a phone.
    """
    policy = r'<meta http-equiv="Content-Security-Policy"[^>]*>'  # the page itself forbids all scripts but its own
    unfold = 'for (const details of document.querySelectorAll("details")) details.open = true;'
    run = f"setTimeout(() => parent.postMessage(JSON.stringify((() => {{ {script} }})()), '*'), 200)"
    page = re.sub(policy, "", page).replace("</body>", f"<script>{unfold} {run}</script></body>")
    (folder / "tried.html").write_text(page)
    frame = folder / "frame.html"
    frame.write_text(TRIAL % (address, width))
    command = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", "--dump-dom"]
    found = subprocess.run([*command, frame.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", found.stdout, re.DOTALL)[1]))


def num_figures(page: str) -> int:
    """Those that came with the page and those that it draws by itself."""
    content = re.search(r'<script type="application/json" id="drawings">(.*?)</script>', page, re.DOTALL)
    experiments = json.loads(content[1])["experiments"].values()
    return page.count("<svg ") + sum(len(e["tasks"]) + len(e["curves"]) for e in experiments)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_never_scrolls_sideways(full, tmp_path, width):
    """On a laptop and on a phone, with everything unfolded: what is wide scrolls in its own box."""
    classes = {"speaker": [f"a speaker with a long name {i}" for i in range(40)]}
    full.add_experiment("x" * 80, "MVMT-concat", ["wavlm"] * 9, {"speaker": 0.7}, classes)
    page = report.build(full.folder, full.params).read_text()
    assert tried(page, MEASURE, tmp_path, width=width) == [width, width, num_figures(page)]


@pytest.mark.parametrize("width", [1440, 390])
def test_wavcses_tables_and_figures_fit_a_laptop_and_a_phone(wavcse_page, tmp_path, width):
    """All trials unfolded and ten poolings side by side: nothing is wider than the screen, no figure is left out."""
    assert tried(wavcse_page, MEASURE, tmp_path, width=width) == [width, width, num_figures(wavcse_page)]


def test_experiments_are_drawn_where_they_are_open_and_others_when_they_are_opened(page, tmp_path):
    """Each figure has a name, a caption and a word on what its numbers are worth; labels of users stay text."""
    folded = page.replace('class="experiment" open', 'class="experiment"', 1)
    script = """
        const [first, ...others] = document.querySelectorAll("#experiments .figures");
        const told = [...first.querySelectorAll("figure")].map((figure) => [
          figure.querySelector("svg").getAttribute("aria-label"),
          figure.querySelector("figcaption").textContent.includes(": "),
          figure.querySelector("figcaption .tags").textContent]);
        const texts = [...first.querySelectorAll("svg text")].map((text) => text.textContent);
        return [told, others.map((place) => place.querySelectorAll("svg").length),
          texts.includes("<script>…script>"), document.querySelectorAll("#experiments script").length];"""
    told, others, is_text, scripts = tried(folded, script, tmp_path)
    assert told == [
        [name, True, "synthetic speechrandom weights"]
        for name in (
            "Confusion matrix of speaker in experiment tango: 11 classes",
            "Confusion matrix of emotion in experiment tango: 4 classes",
            "Predicted against true age in experiment tango",
            "Training and validation loss of speaker+emotion+age in experiment tango",
        )
    ]
    assert (others, is_text, scripts) == ([4, 4, 4], True, 0)


def test_a_matrix_of_many_classes_is_drawn_in_few_elements(empty, tmp_path):
    """Beyond what can be named, all fields of one shade are one element; the worst confusions are told below."""
    classes = {"voice": [f"voice {i}" for i in range(91)]}
    empty.add_experiment("many", "SVST", ["wavlm"], {"voice": 0.3}, classes)
    script = """
        const figure = document.querySelector("#experiments figure");
        const shades = [...figure.querySelectorAll("path")];
        return [shades.length, shades.map((path) => path.getAttribute("d").split("z").length - 1),
          figure.querySelectorAll("text").length, figure.textContent];"""
    count, fields, texts, caption = tried(report.build(empty.folder, empty.params).read_text(), script, tmp_path)
    predictions = pd.read_parquet(empty.folder / "results" / "many" / "predictions.parquet")
    assert sum(fields) == len(predictions.groupby(["voice.true", "voice.predicted"]))
    assert 1 < count <= 16
    assert texts == 2
    assert "91 true classes (rows) against predicted ones" in caption
    assert "Most often: voice " in caption


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


@pytest.mark.parametrize("width", [1440, 390])
def test_grids_fit_a_laptop_and_a_phone(gridded_page, tmp_path, width):
    """Pairs of long names, four fusions: tables scroll in their boxes, the page does not; nor does an open panel."""
    measure = (
        "return [innerWidth, document.documentElement.scrollWidth, panel.open, panel.scrollWidth - panel.clientWidth]"
    )
    assert tried(gridded_page, measure, tmp_path, CELL, width) == [width, width, True, 0]


def test_sections_are_equally_wide_and_heads_keep_to_their_columns(empty, tmp_path):
    """Views down and variants of long names across: the table scrolls in its box, a head goes on below or breaks."""
    section = {"views": ["mfcc", "wavlm"], "tasks": ["age", "gender"], "encoder": "unified", "layers": "all"}
    section["grid"] = {"views": "each", "balancing": ["equal", "uncertainty"], "hidden": [[200] * 20, [64] * 20]}
    empty.params["experiments"]["balancing"] = section
    grid_results.write(empty.folder, "balancing", section, ["mine"])
    page = report.build(empty.folder, empty.params).read_text()
    script = """
        const widths = [...document.querySelectorAll("section")].map((s) => s.getBoundingClientRect().width);
        const heads = [...document.querySelectorAll("#grids thead th")];
        const named = heads.filter((h) => h.textContent.includes("balancing"));
        return [new Set(widths).size, widths.length > 1, named.length,
          heads.filter((h) => h.scrollWidth > h.clientWidth + 1).map((h) => h.textContent)];"""
    assert tried(page, script, tmp_path, width=1440) == [1, True, 8, []]


def test_a_click_on_a_head_sorts_and_a_second_one_reverses(gridded_page, tmp_path):
    """Best scores first, errors from the lowest, names from A; `aria-sort` says so on that head alone."""
    script = """
        const table = [...document.querySelectorAll("main table")].find((t) => t.caption.textContent.includes("SVST"));
        const fields = (i) => [...table.tBodies[0].rows].map((row) => row.cells[i].textContent);
        const read = (i) => fields(i).map((text) => parseFloat(text) || text);
        const seen = [];
        for (const i of [1, 1, 4, 0]) {
          const head = table.querySelector(`th[data-column="${i}"]`);
          head.querySelector("button").click();
          seen.push([read(i), head.getAttribute("aria-sort"), table.querySelectorAll("[aria-sort]").length]);
        }
        return seen;"""
    best, worst, errors, names = tried(gridded_page, script, tmp_path)
    assert best == [sorted(best[0], reverse=True), "descending", 1]
    assert worst == [sorted(best[0]), "ascending", 1]
    assert errors == [sorted(errors[0]), "ascending", 1]
    assert names == [[f"{view}101 utterances" for view in sorted(grid_results.VIEWS)], "ascending", 1]
    assert len(set(best[0])) > 1


def test_a_click_on_a_score_opens_its_cell_and_one_on_close_closes_it(gridded_page, tmp_path):
    """The panel has the cell's name, a confusion matrix for each classification, a scatter, and the losses."""
    script = """
        document.querySelector('td[data-cell="svst/mine/mfcc"] a').click();
        const hash = location.hash;
        dispatchEvent(new Event("hashchange"));
        const labels = [...panel.querySelectorAll("svg")].map((svg) => svg.getAttribute("aria-label"));
        const rows = panel.querySelectorAll("tbody tr").length;
        const told = [panel.open, hash, panel.querySelector("h2").textContent, rows];
        document.getElementById("panel-close").click();
        return [...told, labels, panel.open];"""
    opened, address, name, rows, labels, still_open = tried(gridded_page, script, tmp_path)
    assert (opened, address, name, rows, still_open) == (True, "#cell=svst/mine/mfcc", "svst/mine/mfcc", 8, False)
    of = "in experiment svst/mine/mfcc"
    assert labels == [
        f"Confusion matrix of speaker {of}: 24 classes",
        f"Confusion matrix of emotion {of}: 5 classes",
        f"Confusion matrix of gender {of}: 2 classes",
        f"Predicted against true age {of}",
        *(f"Training and validation loss of {task} {of}" for task in grid_results.TASKS),
    ]


def test_the_panel_says_what_its_numbers_are_worth(gridded_page, tmp_path):
    """As the table does that the cell stands in: synthetic speech of that corpus, random weights of the views."""
    read = "return document.getElementById('panel-tags').textContent"
    assert tried(gridded_page, read, tmp_path, CELL) == "synthetic speechrandom weights"
    assert tried(gridded_page, read, tmp_path, CELL.replace("demo", "mine")) == "random weights"


def test_labels_stay_text_in_the_panel(gridded_page, tmp_path):
    """A label that would end the script and run its own is drawn, nothing else."""
    script = """return [document.querySelectorAll("img").length, document.title,
        [...panel.querySelectorAll("svg title")].some((title) => title.textContent.includes("><img src=x"))]"""
    images, title, drawn = tried(gridded_page, script, tmp_path, CELL)
    assert (images, "broken" in title, drawn) == (0, False, True)


def test_the_panel_opens_under_the_pages_own_policy(gridded_page, tmp_path):
    """A deep link works in the page as it is: the policy lets its script run."""
    address = tmp_path / "page.html"
    address.write_text(gridded_page)
    command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", address.as_uri() + CELL]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert re.search(r'<dialog id="panel"[^>]* open=""', found)
    assert 'aria-label="Confusion matrix of speaker in experiment pairs/demo/mfcc+x-vector/ot: 24 classes"' in found


def test_an_address_of_no_cell_says_so(gridded_page, tmp_path):
    """An old link, or a mistyped one, is told apart from an empty cell; what is no address at all opens nothing."""
    told = "return [panel.open, document.getElementById('panel-about').textContent]"
    assert tried(gridded_page, told, tmp_path, "#cell=__proto__") == [True, "this report has no such cell"]
    assert tried(gridded_page, told, tmp_path, "#cell=%E0%A4%A") == [False, ""]
