"""Maps of views: which layer is drawn, what they share, and when a layout is made anew."""

import re
import shutil

import pytest

from strata.pipeline import report
from strata.pipeline.report import tsne
from strata.pipeline.report.collect import collect


def test_the_maps_of_params_are_drawn_and_others_explained(full):
    """A quantity is drawn in fifths; a map that cannot be drawn says why and costs nothing else."""
    full.params["report"] = {
        "tsne": [
            {"view": "mfcc", "label": "age", "layer": "0"},
            {"view": "mfcc", "label": "nationality", "layer": None},
            {"view": "mfcc", "label": "speaker", "layer": "77"},
        ]
    }
    page = report.build(full.folder, full.params).read_text()
    assert "View mfcc, layer 0, coloured by age" in page
    assert len(re.findall(r">-?[\d.]+ to [\d.]+<", page)) == 5
    assert "the manifest has no column &#39;nationality&#39;" in page
    assert "the t-SNE of view mfcc by speaker (" in page


@pytest.mark.parametrize(
    ("layers", "asked", "drawn"),
    [
        (["4", "0"], None, "4"),
        (["9", "10", "2"], None, "10"),
        (["last_hidden_state", "12"], None, "last_hidden_state"),
        (["embedding"], None, "embedding"),
        (["0", "4"], 0, "0"),
        (["0", "4", "2"], "last", "4"),
    ],
)
def test_a_map_draws_the_layer_asked_for_or_else_the_models_output(full, layers, asked, drawn):
    """`last` as an experiment means it, wherever the store keeps that layer; a layer may be given as a number."""
    shutil.rmtree(full.folder / "features" / "xvector.zarr")
    full.add_features("xvector", layers)
    full.params["report"] = {"tsne": [{"view": "xvector", "label": "speaker", "layer": asked}]}
    (sheet,), gaps = tsne.maps(collect(full.folder, full.params))
    assert sheet.figures[0].caption.startswith(f"View xvector, layer {drawn}, coloured by speaker")
    assert not gaps


def test_all_views_and_several_labels_share_what_they_can(full, monkeypatch):
    """A layout per view serves every label; the colours of a label are told once; a second report lays out nothing."""
    full.params["report"] = {"tsne": [{"view": "all", "label": ["speaker", "emotion"]}]}
    (by_speaker, by_emotion), gaps = tsne.maps(collect(full.folder, full.params))
    assert not gaps
    assert [sheet.label for sheet in (by_speaker, by_emotion)] == ["speaker", "emotion"]
    captions = [figure.caption for figure in by_speaker.figures]
    assert captions[0].startswith("speaker: colours of the maps")
    assert captions[1:] == [f"View {view}, layer 1: 101 utterances." for view in ("wavlm", "xvector", "mfcc")]
    assert len(list((full.folder / ".strata" / "tsne").iterdir())) == 3
    monkeypatch.setattr("strata.pipeline.report.projections.project", None)
    again, gaps = tsne.maps(collect(full.folder, full.params))
    assert again == [by_speaker, by_emotion]
    assert not gaps


def test_a_layout_is_made_anew_when_what_it_shows_changes(full):
    """Other rows, or another fingerprint of the store, are another layout; a spoilt file is no layout."""
    full.params["report"] = {"tsne": [{"view": "mfcc", "label": "speaker"}]}
    cache = full.folder / ".strata" / "tsne"
    shutil.rmtree(cache)
    first, _ = tsne.maps(collect(full.folder, full.params))
    (file,) = cache.iterdir()
    file.write_bytes(b"not an array")
    assert tsne.maps(collect(full.folder, full.params)) == (first, [])
    full.add_corpus(90)
    tsne.maps(collect(full.folder, full.params))
    assert len(list(cache.iterdir())) == 2
