"""Hidden states pooled while the model runs.

A model of 25 layers asked for all its hidden states holds every one of them until it returns. Hooks pool each the
moment it is made instead, on the device, so that one is alive at a time and only [layers, dim] per window travels;
frames travel where a view keeps them. `Totals` puts an utterance's windows together again.

Knows a stack of layers, not which model it belongs to.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from extractors.contract import HiddenStates
from extractors.windows import Window


@dataclass
class Tap:
    """Collects the hidden states of one batch by name."""

    pooled_layers: Sequence[str]
    """Names whose sums over the kept frames are wanted."""
    frame_layers: Sequence[str]
    """Names whose kept frames are wanted."""
    windows: Sequence[Window]
    """Which frames to keep of each item in the batch."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """float32 [batch, dim] by name."""
    frames: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """For each kept name, one array [kept frames, dim] per item."""
    _weights: Tensor | None = None

    def take(self, name: str, hidden: Tensor) -> None:
        """Pools the hidden state [batch, time, dim] of that name where it is wanted."""
        if name in self.pooled_layers:
            # As a product with zeros and ones, since a loop over the items would start many small kernels.
            if self._weights is None:  # all hidden states of a batch have the same frames
                self._weights = self._ones_where_kept(hidden)
            self.sums[name] = torch.bmm(self._weights, hidden)[:, 0]
        if name in self.frame_layers:
            self.frames[name] = [
                item[window.first : window.last].float().cpu().numpy()
                for item, window in zip(hidden, self.windows, strict=True)
            ]

    def _ones_where_kept(self, hidden: Tensor) -> Tensor:
        """[batch, 1, time], one for the frames to keep."""
        time = torch.arange(hidden.shape[1], device=hidden.device)
        first, last = (
            torch.tensor([getattr(window, edge) for window in self.windows], device=hidden.device)[:, None]
            for edge in ("first", "last")
        )
        return ((time >= first) & (time < last)).to(hidden.dtype)[:, None]

    @contextmanager
    def on(self, layers: nn.ModuleList, *, but: str | None = None) -> Iterator[None]:
        """Takes the input of the first layer as "0" and the output of layer i as str(i + 1), while the model runs; the
        name `but` is left for the caller to take."""

        def hook(name: str):
            return lambda _module, _args, output: self.take(name, output[0] if isinstance(output, tuple) else output)

        handles = [layers[0].register_forward_pre_hook(lambda _module, args: self.take("0", args[0]))]
        handles += [
            layer.register_forward_hook(hook(str(number)))
            for number, layer in enumerate(layers, start=1)
            if str(number) != but
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class Totals:
    """Windows of utterances summed up, whatever the order in which they were computed."""

    def __init__(self, num_utterances: int, layers: Sequence[str], frame_layers: Sequence[str]):
        self._layers = layers
        self._sums: list[np.ndarray | float] = [0.0] * num_utterances
        self._num_frames = [0] * num_utterances
        self._frames: list[dict[str, dict[int, np.ndarray]]] = [
            {name: {} for name in frame_layers} for _ in range(num_utterances)
        ]

    def add(self, utterances: Sequence[int], tap: Tap) -> None:
        """Adds a batch: item i is a window of `utterances[i]`. Sums go on in float64."""
        sums = torch.stack([tap.sums[name] for name in self._layers], dim=1).cpu().numpy().astype(np.float64)
        for index, (utterance, window) in enumerate(zip(utterances, tap.windows, strict=True)):
            self._sums[utterance] = self._sums[utterance] + sums[index]
            self._num_frames[utterance] += window.last - window.first
            for name, parts in self._frames[utterance].items():
                parts[window.start] = tap.frames[name][index]

    def hidden_states(self) -> list[HiddenStates]:
        """What the windows of each utterance come to."""
        return [
            HiddenStates(
                (sums / num_frames).astype(np.float32),
                num_frames,
                {name: np.concatenate([parts[start] for start in sorted(parts)]) for name, parts in frames.items()},
            )
            for sums, num_frames, frames in zip(self._sums, self._num_frames, self._frames, strict=True)
        ]
