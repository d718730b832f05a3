"""A study of which a view has been eliminated, and `strata layers` on it."""

import json

from strata.pipeline import cli
from strata.pipeline.results.eliminations import SAVINGS
from strata.store import FeatureStore

KEPT = [0, 1, 2, 5, 7]
PARAMS = """\
# A study of tones.
corpora:
    tones: {adapter: folder, root: recordings}   # made by the test

views:  # one of them is narrowed
    mfcc:  { family: mfcc }
    wavlm: {family: transformers, source: "miniature:wavlm-large", frames: [5]} # Large has 25 hidden states

tasks: {speaker: {kind: classification}}
experiments:
    first:
        views: [wavlm]
        layers: all
        tasks: [speaker]
eliminate:
    wavlm: {view: wavlm, tasks: ['speaker']}
"""
LINE = '    wavlm: {family: transformers, source: "miniature:wavlm-large", frames: [5]} # Large has 25 hidden states'
NARROW = LINE.replace("[5]}", f"[5], layers: {KEPT}}}")


class Eliminated:
    """A study whose view has been extracted and eliminated, and what a test asks of it."""

    def __init__(self, study):
        self.study, self.folder = study, study.folder
        self.file = self.folder / "params.yaml"
        self.results = self.folder / "results" / "eliminate" / "wavlm"
        self.path = self.folder / "features" / "wavlm.zarr"
        self.wide = self.folder / "wide" / "wavlm.zarr"

    def found(self, kept=KEPT, depth: int = 24, **changes) -> "Eliminated":
        """Writes elimination.json, as `strata eliminate` does, of a round whose layers are these."""
        names = [str(layer) for layer in range(depth + 1)]
        support = [str(layer) for layer in kept]
        order = [name for name in reversed(names) if name not in support] + support[::-1]
        rounds = [
            {
                "round": number + 1,
                "layers": [name for name in names if name not in order[:number]],
                "valid": {"speaker": 0.5 + number / 1000, "mean": 0.5 + number / 1000},
                "valid_sd": {"speaker": 0.01, "mean": 0.02},
                "test": {"speaker": 0.25, "mean": 0.25},
                "test_sd": {"speaker": 0.03, "mean": 0.04},
                "dropped": order[number] if number < len(names) - 1 else None,
            }
            for number in range(len(names))
        ]
        gone = order[: len(names) - len(support)]
        store = FeatureStore.open(self.path) if self.path.exists() else None
        content = {
            "name": "wavlm",
            "view": "wavlm",
            "tasks": ["speaker"],
            "pooling": "weighted",
            "layer_names": names,
            "support": support,
            "ranking": {name: 1 if name in support else len(gone) - gone.index(name) + 1 for name in names},
            "best_round": len(gone) + 1,
            "rounds": rounds,
            "nested": {"test": {"mean": 0.75, "sd": 0.125, "folds": [0.875, 0.625, 0.75]}, "kept": [5, 6, 5]},
            "provenance": {"views": {"wavlm": {"fingerprint": store and dict(store.header.fingerprint), "rows": 24}}},
        }
        self.results.mkdir(parents=True, exist_ok=True)
        (self.results / "elimination.json").write_text(json.dumps(content | changes))
        return self

    def layers(self, *arguments: str) -> tuple[str, str]:
        """stdout and stderr of `strata layers`, which must succeed."""
        self.study.capsys.readouterr()
        status = cli.main(["layers", str(self.results), *arguments])
        out, err = self.study.capsys.readouterr()
        assert status == 0, err
        return out, err

    def write(self) -> str:
        """What is said of narrowing the view."""
        return self.layers("--no-time", "--write", str(self.file))[1]

    def refuses(self, *arguments: str) -> str:
        """The one line of a refusal to narrow, which has changed nothing."""
        self.study.capsys.readouterr()
        before = self.file.read_bytes(), self.state()
        assert cli.main(["layers", str(self.results), "--no-time", "--write", str(self.file), *arguments]) == 1
        assert (self.file.read_bytes(), self.state()) == before
        return self.study.capsys.readouterr().err.splitlines()[-1]

    def state(self) -> dict[str, int]:
        """All files of the stores, with their times, and what was written beside the elimination but its savings."""
        found = [file for name in ("features", "wide", "results") for file in (self.folder / name).rglob("*")]
        return {
            str(file): file.stat().st_mtime_ns
            for file in found
            if file.is_file() and file.suffix != ".lock" and ".tmp" not in str(file) and file.name != SAVINGS
        }

    def edit(self, before: str, after: str) -> "Eliminated":
        """Another text in the params file."""
        text = self.file.read_text()
        assert before in text
        self.file.write_text(text.replace(before, after))
        return self

    def assert_narrow(self, wide: dict) -> None:
        """The store has the kept layers of these rows, bit for bit; the wide one is kept; params.yaml says so."""
        assert self.file.read_text() == PARAMS.replace(LINE, NARROW)
        for place, numbers in ((self.path, KEPT), (self.wide, range(25))):
            store = FeatureStore.open(place)
            assert store.verify() == []
            assert store.layer_names == tuple(map(str, numbers))
            assert store.keys == wide["keys"]
            assert store.pooled().tobytes() == wide["pooled"][:, numbers].tobytes()
            assert [f.tobytes() for f in store.frames(store.keys, "5")] == [f.tobytes() for f in wide["frames"]]
