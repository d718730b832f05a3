"""The report of a study: one HTML file that stands alone, and the table that a terminal gets.

Reads what the stages left below the study's folder (manifest, failures, results, stores) and computes nothing of its
own but pictures. Knows no audio and no model. Nothing heavy is imported before one of the two functions is called.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strata.pipeline.study.folder import Study


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    from strata.pipeline.study import options

    parser.epilog = "example: strata report"
    options.add_study(parser)
    parser.add_argument("--summary", action="store_true", help="only print; leave the page as it is")
    parser.set_defaults(call=lambda given: run(options.study_of(given), given.summary))


def build(study: Path, params: Mapping) -> Path:
    """Writes `report/index.html` below the study's folder and returns its path.

    The same inputs give the same bytes. What is not there yet, or cannot be read, becomes a line of the page that
    names the command which makes it.

    Args:
        study: the folder that holds `params.yaml`.
        params: the content of `params.yaml`, as a plain mapping.
    """
    from strata.pipeline.report import collect, page

    html = page.render(collect.collect(Path(study), params))
    path = Path(study) / "report" / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("index.html.tmp")
    partial.write_text(html, encoding="utf-8", errors="replace")
    os.replace(partial, path)  # a reader sees the old page or the new one, never half of one
    return path


def summary(study: Path, params: Mapping) -> str:
    """The comparison of the experiments, and the layers kept, as plain text for a terminal."""
    from strata.pipeline.report import collect, terminal

    return terminal.summary(collect.collect(Path(study), params))


def run(study: Study, only_summary: bool = False) -> None:
    """`strata report`: writes the page, prints the comparison on stdout and where the page lies.

    Args:
        study: the folder and its parameters.
        only_summary: print, but leave the page as it is.
    """
    path = study.folder / "report" / "index.html"
    if not only_summary:
        build(study.folder, study.raw_params)
    print(summary(study.folder, study.raw_params))
    print(f"\nreport: {path}" if path.exists() else "\nreport: not written yet; run `strata report`")
