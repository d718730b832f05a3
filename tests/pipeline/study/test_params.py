import copy
import re

import pytest

from strata.pipeline.commands.init import recipes
from strata.pipeline.study import yaml12
from strata.pipeline.study.params import ParamsError, load, parse
from tests.imports import ROOT

GOOD = {
    "corpora": {"demo": {"adapter": "demo"}},
    "views": {"mfcc": {"family": "mfcc"}, "wavlm": {"family": "transformers", "source": "miniature:wavlm"}},
    "tasks": {"speaker": {"kind": "classification"}},
    "experiments": {"svst": {"views": ["mfcc"], "tasks": ["speaker"], "folds": {"k": 5, "stratify": "speaker"}}},
    "eliminate": {"wavlm": {"view": "wavlm", "tasks": ["speaker"], "pooling": "weighted"}},
    "extract": {"device": "auto", "workers": 1, "max_failed": 0.05},
}


def changed(path: str, value) -> dict:
    content = copy.deepcopy(GOOD)
    *sections, last = path.split(".")
    target = content
    for section in sections:
        target = target[section]
    target[last] = value
    return content


def test_the_shape_of_the_design_is_accepted():
    """Short forms and long ones."""
    params = parse(changed("experiments.tango", {"views": ["mfcc", "wavlm"], "fusion": "ot", "tasks": ["speaker"]}))
    assert params.experiments["tango"].fusion.kind == "ot"
    assert params.experiments["tango"].setup == "TANGO"
    direction = {"kind": "ot", "direction": "x1->x2"}
    section = {"views": ["mfcc", "wavlm"], "fusion": direction, "tasks": ["speaker"]}
    assert parse(changed("experiments.t", section)).experiments["t"].setup == "TANGO x1->x2"


@pytest.mark.parametrize("file", [ROOT / "params.yaml", *(ROOT / "recipes").glob("*.yaml")], ids=lambda f: f.stem)
def test_every_params_file_of_this_repository_is_valid(file):
    """The demo's and every recipe's."""
    load(file)


def test_the_demo_recipe_is_the_demo():
    """`strata init` makes the study that this repository is itself."""
    assert yaml12.load((ROOT / "recipes/demo.yaml").read_text()) == yaml12.load((ROOT / "params.yaml").read_text())
    assert {"demo", "prompts"} <= set(recipes())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("veiws", {}), "params.yaml: veiws: unknown key, did you mean 'views'?"),
        (changed("views.wavlm.sorce", "x"), "views.wavlm.sorce: unknown key, did you mean 'source'?"),
        (changed("transcribe", {"asr": {"sourc": "x"}}), "transcribe.asr.sourc: unknown key, did you mean 'source'?"),
        (changed("transcribe", {"a b": {"source": "x"}}), "transcribe"),
        (changed("corpora.demo.speaker", 3), "corpora.demo.speaker: unknown key, did you mean 'speakers'?"),
        (changed("experiments.svst.fold", {}), "experiments.svst.fold: unknown key, did you mean 'folds'?"),
        (changed("experiments.svst.folds.stratifi", "x"), "folds.stratifi: unknown key, did you mean 'stratify'?"),
        (changed("tasks.speaker.kind", "guess"), "tasks.speaker.kind: expected 'classification', 'binary' or"),
        (changed("experiments.svst.encoder", "unifed"), "found 'unifed', did you mean 'unified'?"),
        (
            changed("embed", {"x": {"experiment": "svst"}}),
            "embed.x: expected an experiment with an embedding, found svst",
        ),
        (changed("tasks.speaker.loss", "rmse"), "a classification task takes the loss cross_entropy, got rmse"),
        (changed("views.mfcc.family", "mfc"), "views.mfcc: unknown family 'mfc', did you mean 'mfcc'?"),
        (changed("corpora.demo.adapter", "dmo"), "did you mean 'demo'"),
        (changed("experiments.svst.views", ["mfc"]), "experiments.svst: unknown view 'mfc', did you mean 'mfcc'?"),
        (changed("experiments.svst.tasks", ["x"]), "experiments.svst: unknown task 'x'; known: speaker"),
        (changed("eliminate.wavlm.view", "hubert"), "eliminate.wavlm: unknown view 'hubert'"),
        (changed("experiments.svst.views", ["mfcc", "wavlm"]), "fusion is for two views or more"),
        (changed("experiments.eliminate", GOOD["experiments"]["svst"]), "this name is reserved"),
        (changed("experiments", {"a/b": {}}), "experiments"),
        (changed("extract.max_failed", 2), "extract.max_failed: input should be less than or equal to 1, found 2"),
        (changed("experiments.svst.folds.k", "many"), "experiments.svst.folds.k: input should be a valid integer"),
        ([], "expected sections such as corpora and views, found list"),
        ({}, "corpora: is missing"),
    ],
)
def test_a_mistake_is_named_by_its_path_with_the_nearest_known_name(content, message):
    """One line, no traceback, before anything expensive."""
    with pytest.raises(ParamsError) as error:
        parse(content)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_several_mistakes_are_told_at_once():
    """Nobody mends a file line by line."""
    content = changed("views.wavlm.sorce", "x")
    content["tasks"]["speaker"]["wieght"] = 1
    with pytest.raises(ParamsError, match=r"sorce: unknown key.*; .*wieght: unknown key, did you mean 'weight'"):
        parse(content)


def test_a_file_that_is_absent_or_no_yaml_is_one_line(tmp_path):
    """With the next step."""
    with pytest.raises(ParamsError, match="strata init"):
        load(tmp_path / "params.yaml")
    for text, message in {
        "a: [1\nb: 2": "is not YAML: line 2: ",
        "views:\n  mfcc: {family: mfcc}\n  mfcc: {family: mfcc}\n": "is not YAML: line 3: the key 'mfcc' stands twice",
    }.items():
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(ParamsError, match=message):
            load(tmp_path / "params.yaml")


def test_a_params_file_means_what_it_means_to_dvc(tmp_path):
    """A number with an exponent and no dot, and the Norwegian language."""
    (tmp_path / "params.yaml").write_text(
        "corpora: {demo: {adapter: demo}}\n"
        "views: {w: {family: transformers, source: 'miniature:wavlm', window_s: 3e1}}\n"
        "transcribe: {asr: {source: openai/whisper-base, language: no}}\n"
    )
    params = load(tmp_path / "params.yaml")
    assert params.views["w"].window_s == 30.0
    assert params.transcribe["asr"].language == "no"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"views": {"e": {"family": "opensmile", "layers": [1]}}},
         "views.e.layers: unknown key; family opensmile knows family, feature_set, frames"),
        ({"views": {"b": {"family": "text", "source": "x", "frame": [1]}}},
         "views.b.frame: unknown key, did you mean 'frames'?; family text knows"),
        ({"views": {"b": {"family": "text", "source": "x", "layers": ["last_hidden_state"]}}},
         "views.b: last_hidden_state is the highest layer"),
        ({"views": {"b": {"family": "text", "source": "x", "columns": "transcript"}}},
         "views.b.columns: expected a list, in brackets, found 'transcript'"),
        ({"transcribe": {"asr": "openai/whisper-base"}},
         "transcribe.asr: expected a mapping of keys to values, found 'openai/whisper-base'"),
        ({"transcribe": {"my asr": {"source": "x"}}}, "expected a name of letters, digits, dots, dashes"),
        ({"views": {"wav2vec2.0": {"family": "mfcc"}}},  # DVC would look for `views: {wav2vec2: {0: …`
         "expected a name of letters, digits, dashes and underlines, found 'wav2vec2.0'"),
    ],
)  # fmt: skip
def test_mistakes_in_views_and_recognisers_are_said_in_our_words(section, message):
    """With the place as the user wrote it, and what would be right."""
    with pytest.raises(ParamsError, match=re.escape(message)):
        parse({"corpora": {"demo": {"adapter": "demo"}}} | section)


@pytest.mark.parametrize("view", ["mfcc", ["mfcc", "wavlm"], "all"])
def test_pictures_of_one_view_several_or_all_can_be_asked_for(view):
    """By one label or by several; what is named must be there."""
    views = {"mfcc": {"family": "mfcc"}, "wavlm": {"family": "transformers", "source": "miniature:wavlm"}}
    content = {"corpora": {"demo": {"adapter": "demo"}}, "views": views}
    asked = {"tsne": [{"view": view, "label": ["speaker", "age"]}]}
    assert parse(content | {"report": asked}).report.tsne[0].view == ([view] if isinstance(view, str) else view)
    with pytest.raises(ParamsError, match="unknown view 'wavlmm', did you mean 'wavlm'"):
        parse(content | {"report": {"tsne": [{"view": ["mfcc", "wavlmm"], "label": "speaker"}]}})
    for wrong in ([], 3):
        with pytest.raises(ParamsError, match=r"report\.tsne\.0\.view: "):
            parse(content | {"report": {"tsne": [{"view": wrong, "label": "speaker"}]}})
