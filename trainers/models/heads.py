"""From cached vectors to predictions: the four configurations of TANGO §4 as one module, or the model of wavCSE.

    per view:  layers → (pooling) → encoder
    then:      fusion → fully connected network → one head per task

Inputs are raw cached values: each view is standardised inside, by statistics of the training data that are saved with
the weights, so that a saved model needs nothing else to predict.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.trainers.inputs.pooled import Pooled, as_pooled
from strata.trainers.inputs.standardise import Standardise
from strata.trainers.models.unified import UnifiedEmbedding
from strata.trainers.modules.encoders import ConvBlocks, FullyConnected
from strata.trainers.modules.fusions.contract import Encoding
from strata.trainers.modules.fusions.registry import fusion
from strata.trainers.modules.poolings import pooling
from strata.trainers.spec import Experiment


def build(
    shapes: Sequence[tuple[int, int]], experiment: Experiment, outputs: Mapping[str, int]
) -> "Heads | UnifiedEmbedding":
    """An untrained model: see the arguments of `Heads`."""
    if experiment.encoder == "unified":
        return UnifiedEmbedding(*shapes[0], experiment, outputs, experiment.pooling)
    return Heads(shapes, experiment, outputs)


class ViewEncoder(nn.Module):
    """One view: standardise, pool its layers where there are several, encode."""

    def __init__(self, num_layers: int, dim: int, experiment: Experiment):
        super().__init__()
        self.standardise = Standardise(num_layers, dim)
        self.pooling = pooling(experiment.pooling, num_layers, dim) if num_layers > 1 else nn.Flatten()
        keeps_positions = experiment.fusion is not None and experiment.fusion.takes_positions
        if experiment.encoder == "cnn":
            self.encoder = ConvBlocks(dim, experiment.channels)
            width, positions = self.encoder.num_channels, self.encoder.num_positions
        else:
            self.encoder, width, positions = nn.Identity(), dim, 1
        self.encoding = Encoding(width, positions) if keeps_positions else Encoding(width * positions)
        # With one view, or behind a fusion of positions, the network that follows is the shared one.
        self.network = nn.Identity()
        if experiment.fusion is not None and not keeps_positions and experiment.encoder != "linear":
            self.network = FullyConnected(self.encoding.width, experiment.hidden)
            self.encoding = Encoding(self.network.num_outputs)
        self.flat = nn.Identity() if keeps_positions else nn.Flatten()

    def forward(self, x: Float[Tensor, "batch layers dim"]) -> Tensor:
        """[batch, width], or [batch, positions, width]: see `encoding`."""
        return self.network(self.flat(self.encoder(self.pooling(self.standardise(x)))))


class Heads(nn.Module):
    """The whole model: views in the order of the experiment, to one output per task."""

    def __init__(self, shapes: Sequence[tuple[int, int]], experiment: Experiment, outputs: Mapping[str, int]):
        """Builds an untrained model.

        Args:
            shapes: (layers, dim) of each view.
            experiment: the configuration.
            outputs: for each task how many numbers its head gives.
        """
        super().__init__()
        self.views = nn.ModuleList(ViewEncoder(layers, dim, experiment) for layers, dim in shapes)
        encodings = [view.encoding for view in self.views]
        self.fusion = None if experiment.fusion is None else fusion(experiment.fusion, encodings)
        width = encodings[0].width if self.fusion is None else self.fusion.num_outputs
        self.shared = nn.Identity() if experiment.encoder == "linear" else FullyConnected(width, experiment.hidden)
        width = getattr(self.shared, "num_outputs", width)
        own_layer = len(outputs) > 1 and experiment.encoder != "linear"
        self.heads = nn.ModuleList()  # in the order of `tasks`: a task may have any name, a module may not
        for num_outputs in outputs.values():
            own = [nn.Linear(width, experiment.head), nn.ReLU()] if own_layer else []
            self.heads.append(nn.Sequential(*own, nn.Linear(experiment.head if own_layer else width, num_outputs)))
        self.tasks = tuple(outputs)
        # Training utterances that the fusion needs beside those that it is asked for: raw, encoded when it is asked.
        self.num_references = 0 if self.fusion is None else self.fusion.num_support(experiment.batch_size)
        if self.num_references:
            for i, (layers, dim) in enumerate(shapes):
                self.register_buffer(f"reference_{i}", torch.zeros(self.num_references, layers, dim))
        # Where regression targets lie and how far they spread in the training data; (0, 1) for classes.
        self.register_buffer("target_mean", torch.zeros(len(outputs), dtype=torch.float64))
        self.register_buffer("target_scale", torch.ones(len(outputs), dtype=torch.float64))

    def shared_parameters(self) -> list[nn.Parameter]:
        """Weights and bias of the last layer that all tasks share; none where heads stand on the features."""
        return list(self.shared.parameters())[-2:]

    def extra_loss(self) -> Tensor | None:
        """What the fusion adds to the tasks' losses in training; None for nothing."""
        return None if self.fusion is None else self.fusion.extra_loss()

    def prepare(self, features: Sequence[Pooled | np.ndarray], train: np.ndarray) -> None:
        """Takes from training data what is not learned by gradient.

        Args:
            features: for each view [utterances, layers, dim].
            train: numbers of the utterances to take it from.
        """
        for view, values in zip(self.views, features, strict=True):
            view.standardise.fit(values, train)
        if self.num_references:
            chosen = np.resize(train[torch.randperm(len(train)).numpy()], self.num_references)
            for i, values in enumerate(features):
                getattr(self, f"reference_{i}").copy_(torch.from_numpy(as_pooled(values).take(chosen)[0]))

    def forward(self, *features: Float[Tensor, "batch _ _"]) -> dict[str, Float[Tensor, "batch outputs"]]:
        """Logits (or standardised values) of every task, from one [batch, layers, dim] per view."""
        encoded = [view(x) for view, x in zip(self.views, features, strict=True)]
        joined = encoded[0] if self.fusion is None else self.fusion(*encoded, support=self._references())
        shared = self.shared(joined)
        return {task: head(shared) for task, head in zip(self.tasks, self.heads, strict=True)}

    def _references(self) -> tuple[Tensor, ...] | None:
        """The encoded training utterances that the fusion needs; in training, it has the batch."""
        if self.training or not self.num_references:
            return None
        return tuple(view(getattr(self, f"reference_{i}")) for i, view in enumerate(self.views))
