"""A view is checked before anything is loaded, and what is wrong is said in one line."""

import subprocess
import sys
from importlib import import_module

import pytest
from pydantic import BaseModel, TypeAdapter

from strata import extractors
from strata.extractors.contract import ViewError
from strata.extractors.view import MFCCView, TransformersView, Upto, View, parse

SOURCE = {"family": "transformers", "source": "miniature:wavlm"}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", "all"),
        ({"upto": 17}, Upto(upto=17)),
        ([0, 3], (0, 3)),
        (["last_hidden_state", 3], (3, "last_hidden_state")),
        ([4, 0, 3], (0, 3, 4)),
        ((4, 0), (0, 4)),
    ],
)
def test_layers_as_yaml_has_them(layers, expected):
    """All, up to a layer, or a list, whose order says nothing."""
    view = parse(SOURCE | {"layers": layers})
    assert view.layers == expected
    assert parse(view) is view
    assert parse(view.model_dump()) == view


def test_defaults():
    """What a view leaves out."""
    view = parse({**SOURCE})
    assert isinstance(view, TransformersView)
    assert (view.layers, view.frames, view.window_s, view.overlap_s) == ("all", (), 60.0, 4.0)
    assert parse({"family": "mfcc"}) == MFCCView(family="mfcc", num_coefficients=40, statistics="mean_sd")


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"family": "transformer"}, r"expected a family among transformers, .* \(did you mean transformers\?\)"),
        ({"source": "x"}, "expected a family among .*, got none"),
        ("wavlm", "expected a view as a mapping"),
        ({"family": "transformers"}, "^view of family transformers: source is missing$"),
        (SOURCE | {"sorce": "x"}, r"unknown key 'sorce'; it knows family, source, .*\(did you mean source\?\)"),
        (SOURCE | {"layers": "some"}, r"layers: expected all, \{upto: N\} or a list"),
        (SOURCE | {"layers": {"upto": -1}}, "layers: .*greater than or equal to 0, got -1"),
        (SOURCE | {"layers": {"to": 3}}, r"layers: expected all, .*, got \{'to': 3\}"),
        (SOURCE | {"layers": []}, "layers names none"),
        (SOURCE | {"layers": [1, 1]}, "layers: expected each layer once"),
        (SOURCE | {"layers": [-1]}, "layers: expected a layer number from 0 or last_hidden_state, got -1"),
        (SOURCE | {"layers": [1.5]}, "layers: expected a layer number from 0"),
        (SOURCE | {"frames": "all"}, "frames: expected a list of layers"),
        (SOURCE | {"window_s": 1}, "window_s: .*greater than or equal to 2, got 1"),
        (SOURCE | {"window_s": 6}, r"overlap_s \(4\) may be at most half of window_s \(6\)"),
        (SOURCE | {"compute_dtype": "int8"}, "compute_dtype: .*'float32', .*, got 'int8'"),
        ({"family": "mfcc", "num_coefficients": 41}, r"num_coefficients \(41\) may be at most num_mel_bands \(40\)"),
        ({"family": "mfcc", "statistics": "median"}, "statistics: .*'mean' or 'mean_sd', got 'median'"),
        ({"family": "opensmile", "feature_set": "eGeMAPS"}, "feature_set: .*'eGeMAPSv02'.*, got 'eGeMAPS'"),
        ({"family": "opensmile", "frames": ["functionals"]}, "frames: .*'lld', got 'functionals'"),
        ({"family": "speechbrain", "source": "x", "frames": ["embedding"]}, "frames: .*at most 0 items"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(view, message):
    """Expected, got, and where."""
    with pytest.raises(ViewError, match=message) as caught:
        extractors.load(view)
    assert "\n" not in str(caught.value)


def test_the_union_is_a_field_type():
    """`View` works inside another model, as params has it."""

    class Params(BaseModel):
        views: dict[str, View]

    params = Params(views={"wavlm": SOURCE, "mfcc": {"family": "mfcc"}})
    assert isinstance(params.views["mfcc"], MFCCView)
    assert TypeAdapter(dict[str, View]).dump_python(params.views)["wavlm"]["layers"] == "all"


def test_importing_is_light():
    """Neither the package nor checking a view imports a model's library."""
    heavy = "torch transformers speechbrain tensorflow huggingface_hub"
    code = (
        "import sys, extractors, extractors.view, extractors.audio;"
        "extractors.view.parse({'family': 'mfcc'});"
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "view", [{"family": "tfhub", "source": "miniature:trillsson"}, {"family": "opensmile"}], ids=lambda v: v["family"]
)
def test_missing_extra_names_the_install_line(view, monkeypatch):
    """Without its library a view of an optional family says how to get it."""
    module = import_module(f"strata.extractors.{view['family']}")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ViewError, match=rf"pip install 'strata-speech\[{view['family']}\]'"):
        extractors.load(view)


def test_unknown_device():
    """A device that is not there is refused by name."""
    with pytest.raises(ViewError, match="got 'warp'"):
        extractors.load(SOURCE, device="warp")
