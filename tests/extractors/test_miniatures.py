"""Miniatures appear whole, once, and tell sounds apart."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from strata import extractors
from strata.extractors.contract import ViewError
from strata.extractors.miniatures import TRANSFORMERS, miniature, seed


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of this test's own."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path))
    return tmp_path


def test_made_again_it_is_the_same(cache):
    """A miniature's weights depend on its name alone, so its fingerprint is the same on every machine."""
    view = {"family": "transformers", "source": "miniature:hubert"}
    before = extractors.load(view).fingerprint
    (cache / "miniatures").rename(cache / "old")
    assert extractors.load(view).fingerprint == before
    assert len({seed(name) for name in TRANSFORMERS}) == len(TRANSFORMERS)


def test_two_makers_at_once(cache):
    """Whoever is first wins, the other finds it whole; nothing half-made stays."""

    def make(name, folder):
        (folder / "a").write_text(name)
        (folder / "b").write_text(name)

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: miniature("miniature:one", ("one",), make), range(8)))
    assert len(set(folders)) == 1
    assert sorted(path.name for path in folders[0].iterdir()) == ["a", "b"]
    assert [path.name for path in folders[0].parent.iterdir()] == ["one"]


def test_a_failure_leaves_nothing(cache):
    """A maker that fails leaves no folder that could pass for a miniature."""

    def make(name, folder):
        (folder / "a").write_text(name)
        raise RuntimeError("out of ink")

    with pytest.raises(RuntimeError, match="out of ink"):
        miniature("miniature:one", ("one",), make)
    assert list((cache / "miniatures").rglob("*.tmp")) == []


@pytest.mark.parametrize(
    "view",
    [
        {"family": "transformers", "source": "miniature:wav2vec2"},
        {"family": "speechbrain", "source": "miniature:xvector"},
        {"family": "tfhub", "source": "miniature:trillsson"},
        {"family": "mfcc"},
    ],
    ids=lambda view: view["family"],
)
def test_they_are_kept_in_the_folder_given(view, tmp_path, monkeypatch, need_extra):
    """Nothing is written into the working directory when the study lies elsewhere; the fingerprint does not tell where
    it lies."""
    need_extra(view["family"])
    expected = extractors.load(view).fingerprint
    study, here, cache = (tmp_path / name for name in ("study", "here", "cache"))
    study.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("STRATA_CACHE")
    assert extractors.load(view, folder=study).fingerprint == expected
    assert list(here.iterdir()) == []
    if view["family"] != "mfcc":
        name = view["source"].removeprefix("miniature:")
        (made,) = (study / ".strata" / "miniatures").glob(f"v*/{name}")
        copy = view | {"source": made.relative_to(study).as_posix()}
        local = extractors.load(copy, folder=study).fingerprint
        assert (local["source"], local["revision"]) == ("local directory", None)
        assert local == extractors.load(copy | {"source": str(made)}).fingerprint
        monkeypatch.setenv("STRATA_CACHE", str(cache))
        assert extractors.load(view, folder=study).fingerprint == expected
        assert (cache / "miniatures" / made.parent.name / name).is_dir()
        assert list(here.iterdir()) == []


def test_unknown_names():
    """A name that is not there, or of another family, lists those that are."""
    with pytest.raises(ViewError, match=r"expected miniature:wav2vec2 or .* \(did you mean miniature:wavlm\?\)"):
        extractors.load({"family": "transformers", "source": "miniature:wavlmm"})
    with pytest.raises(ViewError, match="expected miniature:xvector for this family, got 'miniature:wavlm'"):
        extractors.load({"family": "speechbrain", "source": "miniature:wavlm"})


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm", "xls-r", "wavlm-large"])
def test_random_weights_hear_pitch(name, load):
    """Every layer tells four pitches apart, across levels and lengths, well above the chance of one in four."""
    rng = np.random.default_rng(0)
    waveforms, labels = [], np.arange(64) % 4
    for label in labels:
        time = np.arange(rng.integers(5_000, 9_000)) / 16_000
        phase = 2 * np.pi * (110, 220, 440, 880)[label] * 2 ** rng.uniform(-0.1, 0.1) * time
        tone = np.sin(phase) + np.sin(2 * phase + rng.uniform(0, 6)) / 2
        waveforms.append(rng.uniform(0.05, 0.3) * tone + 0.01 * rng.standard_normal(len(time)))
    states = load(family="transformers", source=f"miniature:{name}").extract(waveforms, 16_000)
    pooled = np.stack([one.pooled for one in states])
    for layer in range(0, pooled.shape[1], 4):
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
        assert cross_val_score(head, pooled[:, layer], labels, cv=4).mean() > 0.5
