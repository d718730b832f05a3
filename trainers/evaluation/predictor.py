"""A trained head on disk: safetensors and the configuration, enough to answer on another machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from strata.trainers.inputs.data import Targets
from strata.trainers.inputs.pooled import as_pooled
from strata.trainers.models.heads import Heads, build
from strata.trainers.models.unified import UnifiedEmbedding
from strata.trainers.spec import Experiment, Task
from strata.trainers.training.fit import EVALUATION_BATCH, outputs

FORMAT = 2


class Predictor:
    """One experiment's final models, one or one per task, behind one call."""

    def __init__(
        self,
        models: Sequence[Heads | UnifiedEmbedding],
        experiment: Experiment,
        targets: Sequence[Targets],
        shapes: Sequence[tuple[int, int]],
    ):
        self.models = nn.ModuleList(models)
        self.experiment = experiment
        self.targets = {target.name: target for target in targets}
        self.shapes = list(shapes)

    def __call__(self, features: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """For each task the answers (class names, or values) [rows] and probabilities [rows, classes].

        Args:
            features: for each view of the experiment float32 [rows, layers, dim].
        """
        given = [as_pooled(features[view]) for view in self.experiment.views]
        result = {}
        for model in self.models:
            for task, output in outputs(model, given, np.arange(len(given[0]))).items():
                predicted, probabilities = self.targets[task].kind.predictions(output)
                result[task] = (self.targets[task].names(predicted), probabilities)
        return result

    @property
    def embedding_dim(self) -> int:
        """Width of the unified embedding.

        Raises:
            ValueError: the experiment's model has none.
        """
        if self.experiment.encoder != "unified":
            raise ValueError(
                f"expected a model with an embedding, found one with the encoder {self.experiment.encoder}: train an "
                "experiment with encoder: unified"
            )
        return self.experiment.embedding

    def embed(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """The unified embedding, float32 [rows, embedding_dim].

        Args:
            features: as for a call.

        Raises:
            ValueError: the experiment's model has none.
        """
        _ = self.embedding_dim
        (model,) = self.models
        x = torch.from_numpy(np.ascontiguousarray(features[self.experiment.views[0]]))
        model.eval()
        with torch.inference_mode():
            return torch.cat([model.embed(part) for part in x.split(EVALUATION_BATCH)]).numpy()

    def save(self, folder: Path, extra: Mapping[str, object]) -> None:
        """Writes `model.safetensors` and `config.json`; `extra` (views, layers, provenance) goes into the latter."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.models.state_dict(), folder / "model.safetensors")
        config = {
            "format": FORMAT,
            "experiment": self.experiment.model_dump(mode="json"),
            "tasks": {name: target.task.model_dump(mode="json") for name, target in self.targets.items()},
            "classes": {name: list(target.classes) for name, target in self.targets.items()},
            "shapes": self.shapes,
            **extra,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> tuple["Predictor", dict[str, object]]:
        """The predictor and its configuration, `extra` included.

        Raises:
            FileNotFoundError: no model in `folder`.
            ValueError: a model of another format, or one that is damaged.
        """
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            found = config.get("format")
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{folder / 'config.json'}: expected a model's configuration, found none ({error}); train it again"
            ) from error
        if found != FORMAT:
            raise ValueError(f"{folder}: expected a model of format {FORMAT}, found {found}; train it again")
        try:
            return cls._made(config, load_file(folder / "model.safetensors")), config
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ValueError(
                f"{folder}: expected a model in config.json and model.safetensors, found what makes none ({reason}); "
                "train it again"
            ) from error

    @classmethod
    def _made(cls, config: Mapping[str, object], tensors: Mapping[str, torch.Tensor]) -> "Predictor":
        experiment = Experiment(**config["experiment"])
        nothing = np.empty(0)
        targets = [
            Targets(name, Task(**task), nothing, tuple(config["classes"][name]))
            for name, task in config["tasks"].items()
        ]
        shapes = [tuple(shape) for shape in config["shapes"]]
        groups = [targets] if experiment.joint else [[target] for target in targets]
        models = [build(shapes, experiment, {target.name: target.num_outputs for target in group}) for group in groups]
        predictor = cls(models, experiment, targets, shapes)
        predictor.models.load_state_dict(tensors)
        return predictor
