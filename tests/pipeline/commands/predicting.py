"""Trained models of every kind, and `strata predict` with them."""

import json
from importlib.util import find_spec

from strata.pipeline import cli

VIEWS = {
    "mfcc": {"family": "mfcc", "frames": ["mfcc"]},
    "wavlm": {"family": "transformers", "source": "miniature:wavlm"},
    "large": {"family": "transformers", "source": "miniature:wavlm-large", "frames": [2]},
    "whisper": {"family": "transformers", "source": "miniature:whisper"},
    "xvector": {"family": "speechbrain", "source": "miniature:xvector"},
    "beside": {"family": "speechbrain", "source": "checkpoints/xvector"},
    **({"trillsson": {"family": "tfhub", "source": "miniature:trillsson"}} if find_spec("tensorflow") else {}),
}
FEW = {"folds": {"k": 2}, "epochs": 2}
HOW = FEW | {"hidden": [13, 11], "channels": [3, 5]}
BOTH = ["speaker", "pitch"]
EXPERIMENTS = {
    "hand-crafted": {"views": ["mfcc"], "tasks": BOTH},
    "transport": {"views": ["xvector", "wavlm"], "fusion": "ot", "tasks": BOTH},
    "low": {"views": ["large"], "layers": [5, 2], "tasks": BOTH},
    "averaged": {"views": ["large"], "layers": "all", "tasks": ["speaker"], "encoder": "linear"},
    "separate": {"views": ["whisper"], "layers": [3], "joint": False, "tasks": BOTH},
    "beside": {"views": ["beside"], "tasks": ["voice"]},
    **({"elsewhere": {"views": ["trillsson"], "tasks": ["speaker"]}} if "trillsson" in VIEWS else {}),
}


def run(study, model, *arguments):
    """Exit status, answers by line, and what was said. `--params` would tell where the study is."""
    study.capsys.readouterr()
    status = cli.main(["predict", "--model", str(model), *map(str, arguments)])
    out, err = study.capsys.readouterr()
    assert "Traceback" not in err
    return status, [json.loads(line) for line in out.splitlines()] if "--json" in arguments else out, err


def refused(study, model, *arguments):
    """The one line of a model that cannot be used; nothing was printed."""
    status, out, err = run(study, model, *(arguments or ("x.wav",)))
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    return err


def edit(model, change):
    """Changes a model's configuration in place."""
    config = json.loads((model / "config.json").read_text())
    change(config)
    (model / "config.json").write_text(json.dumps(config))
