"""Five ways to keep the same pooled values on disk, each as its users write it, behind the same methods."""

import abc
import pickle
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from strata.store import FeatureStore

BATCH_ROWS = 256
"""Rows that an extraction hands over at a time."""


class Layout(abc.ABC):
    """Values [rows, layers, dim] with a key per row, in a folder of their own."""

    name: str

    def __init__(self, folder: Path):
        self.folder = folder

    @abc.abstractmethod
    def write(self, keys: Sequence[str], values: np.ndarray) -> None:
        """Makes the files."""

    @abc.abstractmethod
    def open(self) -> None:
        """All that a process does once before it reads or appends."""

    @abc.abstractmethod
    def append(self, keys: Sequence[str], values: np.ndarray) -> None:
        """Adds rows to what is there."""

    @abc.abstractmethod
    def read(self) -> np.ndarray:
        """All values."""

    @abc.abstractmethod
    def read_layer(self, layer: int) -> np.ndarray:
        """One layer of all rows, [rows, dim]."""

    @abc.abstractmethod
    def read_rows(self, keys: Sequence[str], rows: np.ndarray, layer: int) -> np.ndarray:
        """One layer of some rows, which are known by number to those layouts that have no keys."""


class Strata(Layout):
    """This project's store."""

    name = "Strata"

    def write(self, keys: Sequence[str], values: np.ndarray) -> None:
        names = [str(i) for i in range(values.shape[1])]
        path = self.folder / "view.zarr"
        self._store = FeatureStore.create(path, fingerprint={}, layer_names=names, dim=values.shape[2])
        self.append(keys, values)

    def open(self) -> None:
        self._store = FeatureStore.open(self.folder / "view.zarr")

    def append(self, keys: Sequence[str], values: np.ndarray) -> None:
        for start in range(0, len(keys), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            self._store.append(keys[part], values[part], [1] * len(keys[part]))

    def read(self) -> np.ndarray:
        return self._store.pooled()

    def read_layer(self, layer: int) -> np.ndarray:
        return self._store.pooled(layers=[str(layer)])[:, 0]

    def read_rows(self, keys: Sequence[str], rows: np.ndarray, layer: int) -> np.ndarray:
        return self._store.pooled([keys[row] for row in rows], [str(layer)])[:, 0]


class Npy(Layout):
    """One array in one file, mapped where not all of it is read; its keys stand elsewhere."""

    name = "`np.load`"

    def write(self, keys: Sequence[str], values: np.ndarray) -> None:
        np.save(self.folder / "values.npy", values)

    def open(self) -> None:
        self._mapped = np.load(self.folder / "values.npy", mmap_mode="r")

    def append(self, keys: Sequence[str], values: np.ndarray) -> None:
        self.write(keys, np.concatenate([self.read(), values]))

    def read(self) -> np.ndarray:
        return np.load(self.folder / "values.npy")

    def read_layer(self, layer: int) -> np.ndarray:
        return np.array(self._mapped[:, layer])

    def read_rows(self, keys: Sequence[str], rows: np.ndarray, layer: int) -> np.ndarray:
        return np.array(self._mapped[rows, layer])


class Hdf5(Layout):
    """One growing dataset with a checksum per chunk, cut like the store."""

    name = "HDF5"

    def write(self, keys: Sequence[str], values: np.ndarray) -> None:
        shape, chunks = (None, *values.shape[1:]), (64, 1, values.shape[2])
        with h5py.File(self.folder / "values.h5", "w") as file:
            file.create_dataset("pooled", data=values, maxshape=shape, chunks=chunks, fletcher32=True)

    def open(self) -> None:
        self._file = h5py.File(self.folder / "values.h5", "r+")

    def append(self, keys: Sequence[str], values: np.ndarray) -> None:
        pooled = self._file["pooled"]
        rows = len(pooled)
        pooled.resize(rows + len(values), axis=0)
        pooled[rows:] = values
        self._file.flush()

    def read(self) -> np.ndarray:
        return self._file["pooled"][:]

    def read_layer(self, layer: int) -> np.ndarray:
        return self._file["pooled"][:, layer]

    def read_rows(self, keys: Sequence[str], rows: np.ndarray, layer: int) -> np.ndarray:
        unique, inverse = np.unique(rows, return_inverse=True)  # h5py takes ascending numbers only
        return self._file["pooled"][unique, layer][inverse]


class PtPerUtterance(Layout):
    """One `torch.save` file per utterance."""

    name = "`.pt` each"

    def write(self, keys: Sequence[str], values: np.ndarray) -> None:
        for key, value in zip(keys, values, strict=True):
            torch.save(torch.from_numpy(value).clone(), self.folder / f"{key}.pt")  # a view would save its base as well

    def open(self) -> None:
        self._names = sorted(path.stem for path in self.folder.iterdir())

    def append(self, keys: Sequence[str], values: np.ndarray) -> None:
        self.write(keys, values)

    def read(self) -> np.ndarray:
        return np.stack([self._load(key).numpy() for key in self._names])

    def read_layer(self, layer: int) -> np.ndarray:
        return np.stack([self._load(key)[layer].numpy() for key in self._names])

    def read_rows(self, keys: Sequence[str], rows: np.ndarray, layer: int) -> np.ndarray:
        return np.stack([self._load(keys[row])[layer].numpy() for row in rows])

    def _load(self, key: str) -> torch.Tensor:
        return torch.load(self.folder / f"{key}.pt", weights_only=True)


class OnePickle(Layout):
    """One pickled dictionary of arrays; it can only be loaded whole, and that is part of every read."""

    name = "one pickle"

    def write(self, keys: Sequence[str], values: np.ndarray) -> None:
        self._dump(dict(zip(keys, values, strict=True)))

    def open(self) -> None:
        pass

    def append(self, keys: Sequence[str], values: np.ndarray) -> None:
        self._dump(self._load() | dict(zip(keys, values, strict=True)))

    def read(self) -> np.ndarray:
        return np.stack(list(self._load().values()))

    def read_layer(self, layer: int) -> np.ndarray:
        return np.stack([value[layer] for value in self._load().values()])

    def read_rows(self, keys: Sequence[str], rows: np.ndarray, layer: int) -> np.ndarray:
        values = self._load()
        return np.stack([values[keys[row]][layer] for row in rows])

    def _dump(self, values: dict[str, np.ndarray]) -> None:
        with open(self.folder / "values.pkl", "wb") as file:
            pickle.dump(values, file, protocol=pickle.HIGHEST_PROTOCOL)

    def _load(self) -> dict[str, np.ndarray]:
        with open(self.folder / "values.pkl", "rb") as file:
            return pickle.load(file)


LAYOUTS = (Strata, Npy, Hdf5, PtPerUtterance, OnePickle)
