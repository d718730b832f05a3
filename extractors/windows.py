"""Long audio in overlapping windows, none of whose seams shows.

A model of hour-long audio would need memory that grows with its length (quadratically, for attention). So audio longer
than a window is cut into overlapping pieces of nearly equal length that begin on the model's own frame grid. Each frame
of the whole is then taken from exactly one window, the change-over lying in the middle of an overlap, where both
windows have context on either side. Knows the grid of a model, not the model.
"""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class FrameGrid:
    """Where a model's frames lie: frame t needs the samples t · stride … t · stride + receptive_field - 1."""

    stride: int
    """Samples from one frame to the next."""
    receptive_field: int
    """Fewest samples that make a frame."""

    @classmethod
    def of_convolutions(cls, kernels: list[int], strides: list[int]) -> "FrameGrid":
        """The grid of a stack of unpadded convolutions. Flooring at each of them or once at the end is the same."""
        stride, receptive_field = 1, 1
        for kernel, step in zip(kernels, strides, strict=True):
            receptive_field += (kernel - 1) * stride
            stride *= step
        return cls(stride, receptive_field)

    def num_frames(self, num_samples: int) -> int:
        """Frames that the model makes of so many samples."""
        return max(0, (num_samples - self.receptive_field) // self.stride + 1)


@dataclass(frozen=True)
class Window:
    """One piece of an utterance, and the frames that are taken from it."""

    start: int
    """First sample."""
    stop: int
    """Sample after the last."""
    first: int
    """First frame that is taken, counted within the window."""
    last: int
    """Frame after the last that is taken, counted within the window."""


def plan(num_samples: int, grid: FrameGrid, window: int, overlap: int) -> list[Window]:
    """Windows that together yield every frame of the audio exactly once, in order.

    Args:
        num_samples: of the audio.
        grid: the model's.
        window: most samples that a window has.
        overlap: fewest samples that neighbours share. A frame's neighbourhood is complete wherever the model looks no
            further than half of it.

    Returns:
        One window where the audio fits; else as few as possible, of nearly equal length, so that the last is never
        tiny.

    Raises:
        ValueError: the windows would not advance, or there is not one frame.
    """
    num_frames = grid.num_frames(num_samples)
    if num_frames == 0:
        raise ValueError(f"{num_samples} samples make no frame; at least {grid.receptive_field} do")
    if num_samples <= window:
        return [Window(0, num_samples, 0, num_frames)]
    longest = grid.num_frames(window)
    shared = ceil(overlap / grid.stride)
    if longest <= shared:
        raise ValueError(f"a window of {window} samples must be longer than the overlap of {overlap}")

    count = ceil((num_frames - shared) / (longest - shared))
    starts = [index * (num_frames - shared) // count for index in range(count)]
    stops = [start + shared for start in starts[1:]] + [num_frames]
    cuts = [0, *(start + shared // 2 for start in starts[1:]), num_frames]
    windows = []
    for index, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        first_sample = start * grid.stride
        # The last window takes the samples that are left over; elsewhere a frame's own samples are all it needs.
        last_sample = (stop - 1) * grid.stride + max(grid.receptive_field, grid.stride)
        windows.append(
            Window(
                first_sample,
                num_samples if stop == num_frames else min(last_sample, num_samples),
                cuts[index] - start,
                cuts[index + 1] - start,
            )
        )
    return windows
