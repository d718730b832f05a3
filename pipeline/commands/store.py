"""`strata store ACTION PATH`: what a store holds, whether it is whole, how to carry it about, how to be rid of it."""

import json
import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

from strata.pipeline.errors import StageError, suggestion
from strata.pipeline.progress import bar, counted, say
from strata.pipeline.show.tables import size
from strata.pipeline.study import dvcfile, options, soundness
from strata.pipeline.study.folder import Study
from strata.pipeline.study.links import reachable
from strata.store import FeatureStore, FingerprintMismatch, Journal, journal
from strata.store.lock import exclusive


def info(path: Path) -> None:
    """Prints what the store says of itself, as JSON."""
    store = _opened(path)
    header = store.header
    summary = {
        **store.notes,
        "rows": len(store),
        "rows_in_journal": len(Journal(store.storage, store.header).keys),
        "layers": list(header.layer_names),
        "dim": header.dim,
        "frames": list(header.frame_layers),
        "frame_rate_hz": header.frame_rate_hz,
        "bytes": store.num_bytes(),
        "block_rows": header.block_rows,
        "format": header.format,
        "fingerprint": dict(header.fingerprint),
    }
    print(json.dumps(summary, indent=1))


def verify(path: Path) -> None:
    """Reads every value.

    Raises:
        StageError: some are damaged; each damaged block has been named.
    """
    store = _opened(path)
    damages = store.damage()
    problems = [store.describe(damage) for damage in damages] + store.damaged_documents()
    for problem in problems:
        say(problem)
    study = path.absolute().parent.parent
    if (study / "params.yaml").exists():  # then the next extraction knows what was found
        soundness.suspect(study, store, damages)
    if problems:
        raise StageError(
            f"{path}: damaged in {len(problems)} place{'s' * (len(problems) > 1)}; `strata extract {store.view}` "
            "computes rows whose values are lost anew and keeps the others, `dvc checkout --force "
            f"extract@{store.view}` brings back the store as DVC last saw it"
        )
    say(f"{path}: {counted(len(store), 'row')}, all of them as they were written")


def export(path: Path, file: Path | None) -> None:
    """Writes a store as one HDF5 file, beside it where no other place is named."""
    from strata.store import hdf5

    store = _opened(path)
    file = file or path.with_suffix(".h5")
    with bar(len(store), "rows", f"{file}") as shown:
        hdf5.write(store, file, lambda done, _: shown.update(done - shown.n))
    say(f"{file}: {counted(len(store), 'row')}, {size(file.stat().st_size)}")


def import_(path: Path, file: Path | None) -> None:
    """Brings the rows of an exported file into a store, new or of the same fingerprint; rows that it has stay."""
    from strata.store import hdf5

    file = file or _reachable(path).with_suffix(".h5")
    before = len(FeatureStore.open(path)) if FeatureStore.exists(_reachable(path)) else 0
    with bar(0, "rows", f"{path}") as shown:

        def show(done: int, rows: int) -> None:
            shown.total = rows
            shown.update(done - shown.n)

        try:
            store = hdf5.read(file, path, show)
        except FingerprintMismatch as error:
            raise StageError(
                f"{file} holds values of another view than {path} ({', '.join(error.fields)} differ); "
                "import it to another path"
            ) from error
    say(f"{path}: {counted(len(store), 'row')}, {len(store) - before} of them new from {file}")


def drop(path: Path) -> None:
    """Removes a store, what waits in its journal, its list of failures, and what dvc.lock knows of it, so that it is
    computed anew. Of a link, what it leads to stays."""
    _checked(path)
    there = path.exists() or path.is_symlink()
    if there:
        with exclusive(path):
            if path.is_symlink():
                if path.exists():
                    say(f"{path} is a link: what it leads to, {path.resolve()}, stays where it is")
                path.unlink()
            else:
                journal.drop(path)
                shutil.rmtree(path)
    if not dvcfile.forget_store(path.absolute().parent.parent, path.stem) and not there:
        raise StageError(f"no store at {path}, and no dvc.lock that knows of one; nothing was removed")
    path.with_suffix(".failures.csv").unlink(missing_ok=True)
    soundness.Known.read(path.absolute().parent.parent, path.stem).forget()
    say(f"{path} is gone; `strata extract {path.stem}` computes it anew")


def _checked(path: Path) -> Path:
    """A path that may be written to or removed, because it is named like a store."""
    if path.suffix != ".zarr":
        raise StageError(f"expected the path of a store such as features/wavlm.zarr, got {path}")
    return path


def _reachable(path: Path) -> Path:
    return reachable(_checked(path))


def _opened(path: Path) -> FeatureStore:
    """The store at a path.

    Raises:
        StageError: there is none, with the command that makes it where params.yaml has its name, or those that there
            are.
    """
    if FeatureStore.exists(_reachable(path)):
        return FeatureStore.open(path)
    stage, section = {"embeddings": ("embed", "embed")}.get(path.absolute().parent.name, ("extract", "views"))
    params = path.absolute().parent.parent / "params.yaml"
    if params.exists() and path.stem in getattr(Study(params).params, section):
        raise StageError(f"no store at {path}: run `strata {stage} {path.stem}` first")
    there = sorted(other.name for other in path.parent.glob("*.zarr"))
    raise StageError(f"no store at {path}{suggestion(path.name, there)}; there are {', '.join(there) or 'none'}")


ACTIONS = {
    "info": (info, "print what a store says of itself, as JSON"),
    "verify": (verify, "read every value and name the damaged blocks"),
    "export": (export, "write the store as one HDF5 file, for MATLAB, h5py or another machine"),
    "import": (
        import_,
        "bring the rows of an exported file into a store, new or of the same view; rows that it has stay",
    ),
    "drop": (drop, "remove a store, so that it is computed anew"),
}
"""What each action on one store calls, and its help; export and import take a file as well."""


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    parser.epilog = "example: strata store verify features/wavlm.zarr"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (_, help_) in ACTIONS.items():
        example = f"example: strata store {name} features/wavlm.zarr"
        action = actions.add_parser(name, help=help_, description=help_, epilog=example)
        options.add_study(action)
        action.add_argument("path", type=Path, metavar="PATH", help="the store, such as features/wavlm.zarr")
        if name in ("export", "import"):
            action.add_argument("file", type=Path, nargs="?", metavar="FILE", help="default: PATH with the suffix .h5")
        action.set_defaults(call=_call)


def _call(given: Namespace) -> None:
    act, _ = ACTIONS[given.action]
    act(given.path, *([given.file] if "file" in given else []))
