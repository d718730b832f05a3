"""The page of a study: all of it is there, it is safe to open, and everybody can read it."""

import json
import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from strata.pipeline import report
from strata.pipeline.report import confusions
from tests.pipeline.report.outline import Outline, drawings, drawn, section

HOSTILE = "<script>alert("


@pytest.mark.usefixtures("sketched")
def test_the_page_lies_in_the_report_folder_and_nothing_else_does(full):
    """Written whole under its name; no half page is left beside it."""
    path = report.build(full.folder, full.params)
    assert path == full.folder / "report" / "index.html"
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]


def test_the_page_shows_every_part_of_a_study(page):
    """Comparison, layers, experiments, views, corpora, timings, provenance, each with its own figures."""
    assert page.startswith("<!doctype html>")
    outline = Outline(page)
    sections = [attributes["id"] for attributes in outline.all("section")]
    assert sections == ["comparison", "layers", "experiments", "views", "corpora", "timings", "provenance"]
    assert [a["href"] for a in outline.all("a")] == [f"#{id}" for id in sections]
    titles = [a["aria-label"] for a in outline.all("svg")]
    for part in (
        "Layer weights of view wavlm",
        "Score per round of elimination wavlm",
        "t-SNE of view wavlm, layer 1, coloured by speaker",
        "Utterances per class of emotion",
        "Distribution of age",
    ):
        assert any(title.startswith(part) for title in titles), part
    kinds = ["confusion speaker", "confusion emotion", "points age", "losses speaker+emotion+age"]
    experiments = ["tango", "single-mfcc", "single-wavlm", "shared"]
    assert drawn(page) == [f"{experiment} {kind}" for experiment in experiments for kind in kinds]
    assert [a["data-drawn"] for a in outline.all("div") if "data-drawn" in a] == experiments


def test_the_page_of_a_study_of_wavcse_has_its_tables_and_figures(wavcse_page):
    """Tables 2 to 4, Figures 2 and 3, and the searches; every number with a word on what it is worth."""
    assert [attributes["id"] for attributes in Outline(wavcse_page).all("section")] == [
        "comparison", "poolings", "layers", "searches", "downstream", "experiments", "timings", "provenance",
    ]  # fmt: skip
    for id, caption in {
        "poolings": "Layer poolings: view wavlm",
        "layers": "Layers chosen inside each fold",
        "searches": "The best trials",
        "downstream": "Downstream tasks on the frozen embedding",
    }.items():
        captions = re.findall(r"<(?:fig)?caption>.*?</(?:fig)?caption>", section(wavcse_page, id), re.DOTALL)
        assert any(caption in found for found in captions)
        assert all("synthetic speech" in found and "random weights" in found for found in captions)
    assert "no corpus timit" in section(wavcse_page, "downstream")
    heads = re.findall(r"<h3>(.*?)</h3> <span class=\"subtitle\">(.*?)</span>", section(wavcse_page, "downstream"))
    assert heads == [
        ("words: keyword", "embedding unified · 101 utterances · 5 folds · 3 seeds"),
        ("words-other: keyword", "embedding other · 101 utterances · 5 folds · 3 seeds"),
        ("voices: speaker", "embedding unified · 97 utterances · 1,234 pairs · 5 folds"),
    ]
    for stage, took in (("eliminate", "6.9 min"), ("tune", "1.6 min"), ("downstream", "1.0 min")):
        assert re.search(rf"<td>{stage}</td>\s*<td[^>]*>{took}</td>", section(wavcse_page, "timings"))
    for name in ("crossed", "widths", "rates", "words", "voices"):
        assert f"<summary>{name}</summary>" in section(wavcse_page, "provenance")


def test_numbers_on_the_page_are_those_of_the_results(page):
    """The best is bold; a corpus that labels no age says so."""
    comparison = section(page, "comparison")
    assert "<strong>91.20 ± 1.29</strong>" in comparison
    assert "73.00 ± 1.03" in comparison
    assert "<strong>73.00 ± 1.03</strong>" not in comparison
    rows = [re.findall(r">([^<>]*)</t[hd]>", row) for row in section(page, "corpora").split("<tr>")]
    assert ["mine", "34", "1.5 min", "11", "1.0–4.7", "34", "34", "0"] in rows
    assert "4.2 MB" in section(page, "timings")
    assert "hash of wavlm" in section(page, "provenance")


def test_synthetic_speech_and_random_weights_are_told_first_and_beside_every_score(page):
    """Above the navigation, and in every caption of a table or figure that shows a score."""
    assert "The corpus demo is made by a small synthesiser." in page.split("<nav")[0]
    assert "The views wavlm and xvector are computed by untrained miniatures." in page.split("<nav")[0]
    for id in ("comparison", "layers", "experiments", "views"):
        captions = re.findall(r"<(?:fig)?caption>.*?</(?:fig)?caption>", section(page, id), re.DOTALL)
        assert captions
        for caption in captions:
            assert "synthetic speech" in caption
            assert "random weights" in caption


def test_real_speech_and_real_weights_get_no_notice(empty):
    """The warning means something because it is not always there."""
    empty.add_experiment("tango", "TANGO", ["wavlm"], {"age": 5.7})
    page = report.build(empty.folder, empty.params).read_text()
    assert "synthetic speech" not in page
    assert "random weights" not in page
    assert "licence" not in page


def test_what_a_licence_forbids_is_told_first(empty):
    """Above the navigation and in the terminal's summary, for every view of the family; beside no score, which it does
    not make any worse."""
    empty.params["views"] |= {"egemaps": {"family": "opensmile"}, "compare": {"family": "opensmile"}}
    empty.add_experiment("tango", "TANGO", ["egemaps"], {"age": 5.7})
    page = report.build(empty.folder, empty.params).read_text()
    told = "The views egemaps and compare are of family opensmile: openSMILE&#39;s licence forbids commercial use"
    assert told in page.split("<nav")[0]
    assert page.count("licence terms") == 1
    assert told.replace("&#39;", "'") in report.summary(empty.folder, empty.params)


def test_users_text_stays_text(page):
    """Labels and reasons that hold markup are shown, not obeyed, in tables and in figures."""
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") >= 2
    assert "\\u003cscript\\u003ealert" in page  # among what is drawn
    assert [a.get("type") for a in Outline(page).all("script")] == ["application/json", None]  # the page's own


@pytest.mark.parametrize("made", ["page", "wavcse_page"])
def test_the_page_loads_nothing(made, request):
    """No address of another place, no font, no frame: it can be read on a train, or sent by post."""
    page = request.getfixturevalue(made)
    outline = Outline(page)
    assert not outline.all("link", "iframe", "object", "embed", "img", "base")
    references = [a[name] for _, a in outline.elements for name in ("src", "href", "xlink:href", "srcset") if name in a]
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in references)
    assert "://" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_the_page_runs_no_script_but_its_own(page, gridded_page):
    """Its policy names the one script by hash; the data beside it is no script."""
    for html in (page, gridded_page):
        (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
        (policy,) = [a["content"] for a in Outline(html).all("meta") if "http-equiv" in a]
        assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in policy
        assert "default-src 'none'" in policy
        assert {a.get("type") for a in Outline(html).all("script")} <= {None, "application/json"}
        assert "innerHTML" not in script


@pytest.mark.parametrize("made", ["page", "wavcse_page"])
def test_every_reference_has_exactly_one_target(made, request):
    """Figures come from separate drawings; on one page their ids must not meet."""
    page = request.getfixturevalue(made)
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {*re.findall(r'(?:href="|url\(|labelledby=")#?([\w-]+)[")]', page)} - {"data"} <= set(ids)


def test_figures_and_tables_can_be_read_without_seeing_them(page):
    """Every figure has a name and every table a caption; headings are not skipped."""
    outline = Outline(page)
    assert all(a["role"] == "img" and a["aria-label"] for a in outline.all("svg"))
    assert page.count("<table>") == page.count("<caption>")
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_same_study_gives_the_same_bytes(full, page):
    """A report changes when its study does, and then only: in another folder it is the same."""
    assert report.build(full.folder, full.params).read_bytes() == page.encode()


def test_a_study_of_which_nothing_was_run_has_a_page(empty):
    """It says what to run first."""
    page = report.build(empty.folder, empty.params).read_text()
    assert "the corpus: run <code>strata corpus</code>" in page
    assert [a["id"] for a in Outline(page).all("section")] == ["provenance"]


def test_no_parameters_at_all_make_a_page(tmp_path):
    """Sections that are absent, or empty in the YAML, are empty."""
    page = report.build(tmp_path, {"corpora": None}).read_text()
    assert [a["id"] for a in Outline(page).all("section")] == []


def test_many_classes_stay_legible(empty):
    """Up to 48 classes keep their names in a figure; of more than 12 a table names the confusions that matter."""
    classes = {"word": [f"word {i}" for i in range(31)], "speaker": [f"voice {i}" for i in range(91)]}
    empty.add_experiment("tango", "TANGO", ["wavlm"], {"word": 0.6, "speaker": 0.7}, classes)
    page = report.build(empty.folder, empty.params).read_text()
    content = drawings(page)
    assert [len(names) for names in content["classes"]] == [31, 91]
    assert (content["named"], content["counted"]) == (48, 12)
    assert "speaker: the most frequent confusions" in page


@pytest.mark.usefixtures("sketched")
def test_many_experiments_are_folded(full, page, monkeypatch):
    """A few are open; when they are more, each is a line to click on."""
    assert page.count('class="experiment" open') == 4
    monkeypatch.setattr("strata.pipeline.report.page.OPEN_EXPERIMENTS", 3)
    page = report.build(full.folder, full.params).read_text()
    assert page.count('class="experiment"') == 4
    assert 'class="experiment" open' not in page


def test_labels_of_any_script_and_kind_are_drawn(empty):
    """Any letters, dollar signs, nothing at all, and numbers are names like any other."""
    names = ["名前", "قلب", "$a_$", "", "a" * 200]
    empty.add_experiment("words", "SVST", ["wavlm"], {"word": 0.6}, {"word": names})
    empty.add_experiment("digits", "SVST", ["wavlm"], {"digit": 0.6}, {"digit": [0, 1, 2]})
    path = empty.folder / "results" / "digits" / "predictions.parquet"
    frame = pd.read_parquet(path)
    frame.loc[0, "digit.true"] = np.nan
    frame.to_parquet(path)
    page = report.build(empty.folder, empty.params).read_text()
    words, digits = drawings(page)["classes"]
    assert words == names
    assert digits == ["0", "1", "2"]


@pytest.mark.usefixtures("sketched")
def test_seeds_are_told_from_folds(full):
    """Two seeds of five folds are ten lines, not five zigzags."""
    folder = full.folder / "results" / "tango"
    curves = pd.read_parquet(folder / "curves.parquet")
    pd.concat([curves.assign(seed=seed) for seed in (42, 101)]).to_parquet(folder / "curves.parquet")
    (folder / "metrics.json").write_text(
        json.dumps({**json.loads((folder / "metrics.json").read_text()), "seeds": [42, 101]})
    )
    page = report.build(full.folder, full.params).read_text()
    runs = drawings(page)["experiments"]["tango"]["curves"][0]["runs"]
    assert [(run["seed"], run["fold"]) for run in runs] == [(seed, fold) for seed in (42, 101) for fold in range(5)]
    assert "5 folds · 2 seeds" in page


def test_a_class_of_numbers_is_named_as_the_trainers_name_it(empty):
    """Gaps make floats of whole numbers, but 3.0 is class 3; of other numbers no digit is lost."""
    classes = {"code": ["3", "0.30000000000000004", "1000000.5"]}
    empty.add_experiment("codes", "SVST", ["wavlm"], {"code": 0.6}, classes)
    path = empty.folder / "results" / "codes" / "predictions.parquet"
    frame = pd.read_parquet(path)
    frame.astype({"code.true": float, "code.predicted": float}).to_parquet(path)
    page = report.build(empty.folder, empty.params).read_text()
    assert drawings(page)["classes"] == [classes["code"]]
    assert not hasattr(confusions, "class_name")


def test_importing_the_report_loads_nothing_heavy():
    """The command line starts at once; drawing libraries come when a page is built."""
    heavy = "{'matplotlib', 'pandas', 'jinja2', 'sklearn', 'zarr'}"
    code = f"import sys, strata.pipeline.report; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
