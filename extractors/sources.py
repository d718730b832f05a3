"""Where a checkpoint lies: a local directory, the Hugging Face hub (its local cache first), or a miniature.

Finds and hashes files; never opens them as a model. The one file that imports huggingface_hub.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import blake2b
from pathlib import Path

from strata.extractors import families
from strata.extractors.contract import CheckpointAbsent, ViewError
from strata.extractors.links import dangling
from strata.extractors.miniatures import PREFIX, miniature

_INDEX = ".index.json"  # how the file that lists the shards of divided weights ends

LOCAL_DIRECTORY = "local directory"
"""What a fingerprint says instead of a path: a checkpoint that is moved stays the same, its hashes identify it."""


_MAY_ASK: ContextVar[bool] = ContextVar("_MAY_ASK", default=True)
"""Whether the hub is asked for what its cache lacks."""


@contextmanager
def local_only() -> Iterator[None]:
    """What is loaded within is found on this machine or not at all: nobody waits for gigabytes to tell their number."""
    token = _MAY_ASK.set(False)
    try:
        yield
    finally:
        _MAY_ASK.reset(token)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and what identifies it."""

    folder: Path
    """Holds its files."""
    source: str
    """As the view gives it; `LOCAL_DIRECTORY` for a path."""
    revision: str | None
    """Commit that a hub source resolved to; None elsewhere."""

    def files(self, patterns: Sequence[str]) -> list[Path]:
        """Its files whose path below the folder matches one of the patterns, sorted by name."""
        below = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = [path.relative_to(self.folder).as_posix() for path in below]
        return [p for p, name in zip(below, names, strict=True) if any(fnmatch(name, pattern) for pattern in patterns)]

    def preferred(self, patterns: Sequence[str]) -> list[Path]:
        """Files of the first pattern that any file matches, an index followed by the shards that it lists; empty where
        there are none.

        Raises:
            ViewError: an index cannot be read, or a shard that it lists is not there.
        """
        found = next((files for pattern in patterns if (files := self.files((pattern,)))), [])
        return found + [shard for path in found if path.name.endswith(_INDEX) for shard in _shards(path)]


def find(
    source: str,
    revision: str | None,
    *,
    needed: Sequence[Sequence[str]],
    optional: Sequence[str] = (),
    miniatures: Sequence[str],
    make_miniature: Callable[[str, Path], None],
    folder: Path = Path(),
    on_hub: bool = True,
    family: str | None = None,
) -> Checkpoint:
    """Finds a checkpoint, downloading what a hub source lacks.

    Args:
        source: `miniature:<name>`, a local directory, or a hub id.
        revision: of a hub source; None means its main branch.
        needed: what must be there: of each group, a file that matches one of its patterns. Of the hub's files only the
            first pattern of a group that matches any is fetched, with the shards where it is an index.
        optional: patterns of files that are fetched too where the hub offers them, and need not be there.
        miniatures: names of the family's.
        make_miniature: writes the checkpoint of a miniature's name into a folder.
        folder: the study's: where a relative directory begins, and miniatures are kept.
        on_hub: whether the hub is asked at all.
        family: that was named for the source, for the message about one that belongs to another.

    Raises:
        CheckpointAbsent: it is not here, and the hub is not asked or cannot be.
        ViewError: the source is nowhere, is gated, or lacks a file.
    """
    if source.startswith(PREFIX):
        try:
            checkpoint = Checkpoint(miniature(source, miniatures, make_miniature, folder), source, None)
        except ViewError as error:
            raise ViewError(
                f"{error}{families.hint(families.of_miniature(source.removeprefix(PREFIX)), family)}"
            ) from error
    elif (directory := folder / Path(source).expanduser()).is_dir():
        checkpoint = Checkpoint(directory, LOCAL_DIRECTORY, None)
    elif not on_hub or source.startswith((".", "/", "~")) or source.count("/") > 1:
        lost = dangling(directory)
        raise CheckpointAbsent(
            f"source {source!r}: expected an existing local directory with {_listing(needed)}"
            + (f", found {lost}" if lost else "; download the model, unpack it and name its folder")
        )
    else:
        snapshot = _on_hub(source, revision, needed, optional, family)
        checkpoint = Checkpoint(snapshot, source, snapshot.name)
    if revision is not None and checkpoint.revision is None:
        raise ViewError(f"source {source!r}: revision {revision!r} is for hub ids; remove it")
    if missing := [group for group in needed if not checkpoint.preferred(group)]:
        raise ViewError(
            f"source {source!r}: expected {_alternatives(missing)} in {checkpoint.folder}, found none"
            f"{families.hint(families.of_folder(checkpoint.folder), family) or '; put what is missing there'}"
        )
    return checkpoint


def refuse_code(settings: Mapping[str, object], source: str) -> None:
    """Refuses a checkpoint that brings Python of its own: one that asks for `trust_remote_code`.

    Without its code, transformers would build another model around its tensors, or none.

    Args:
        settings: what one of its JSON files says.
        source: of the view, for the message.

    Raises:
        ViewError: the settings have an `auto_map`, which names the classes that the repository defines.
    """
    classes = settings.get("auto_map")
    if not classes:
        return
    named = list(classes.values()) if isinstance(classes, Mapping) else [classes]
    named = [name for entry in named for name in (entry if isinstance(entry, list | tuple) else [entry]) if name]
    raise ViewError(
        f"source {source!r}: expected a model that needs no code of its own, its auto_map names "
        f"{', '.join(dict.fromkeys(map(str, named)))}, which is never run; choose a checkpoint without auto_map"
    )


def hash_settings(*settings: Mapping[str, object]) -> str:
    """One hash of what JSON files say, but for which version of a library wrote them and under what path."""
    bookkeeping = ("transformers_version", "_name_or_path")
    said = [{key: value for key, value in one.items() if key not in bookkeeping} for one in settings]
    return f"blake2b:{blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=20).hexdigest()}"


def hash_files(files: Sequence[Path]) -> str:
    """One hash of the files' names and bytes, in the order given; reads them in pieces."""
    digest = blake2b(digest_size=20)
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return f"blake2b:{digest.hexdigest()}"


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ViewError(f"{index}: expected an index of shards, with the key weight_map") from error
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ViewError(f"{index} lists {name}: expected it beside the index, found none; fetch it too")
    return [index.parent / name for name in names]


def _on_hub(
    source: str, revision: str | None, needed: Sequence[Sequence[str]], optional: Sequence[str], family: str | None
) -> Path:
    """Folder of the snapshot; its name is the commit."""
    import huggingface_hub
    from huggingface_hub import errors

    wanted = _told(source, revision)
    by_hand = f"put {_listing(needed)} into a folder and name the folder as the source"
    absent = f"{wanted} is no folder here and not in the hub's cache, {huggingface_hub.constants.HF_HUB_CACHE},"
    try:
        try:
            cached = Path(huggingface_hub.snapshot_download(source, revision=revision, local_files_only=True))
        except errors.LocalEntryNotFoundError as error:
            # The hub's client calls a snapshot incomplete that lacks any file of the repository, needed here or not.
            if (incomplete := getattr(error, "snapshot_path", None)) is None:
                raise
            cached = Path(incomplete)
        if not (lacking := _lacking(Checkpoint(cached, source, None), needed)):
            if _MAY_ASK.get():
                _complete(source, cached, optional)
            return cached
        absent = f"{wanted} lacks {lacking} in the hub's cache, {cached},"
        if other := families.hint(families.of_folder(cached), family):
            raise ViewError(f"{wanted}: expected {lacking}, found none{other}")
    except errors.HFValidationError as error:
        raise ViewError(f"source {source!r}: neither a local directory nor a hub id such as owner/name") from error
    except errors.LocalEntryNotFoundError:
        pass  # not in the cache: ask the hub
    if not _MAY_ASK.get():
        raise CheckpointAbsent(f"{absent} and the hub is not asked here: {by_hand}")
    huggingface_hub.utils.logging.set_verbosity_error()  # it tells of every try; what comes of them is said below
    try:
        return _fetched(source, revision, needed, optional, family)
    except ViewError:
        raise
    except errors.GatedRepoError as error:
        raise ViewError(
            f"{wanted} is gated on huggingface.co: ask for access on its page, then run `hf auth login`; or {by_hand}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ViewError(f"{source} has no revision {revision!r} on huggingface.co") from error
    except errors.RepositoryNotFoundError as error:
        raise ViewError(
            f"source {source!r}: not a local directory, and huggingface.co has no such model or it is private "
            f"(`hf auth login`); or {by_hand}"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise CheckpointAbsent(
            f"{absent} and HF_HUB_OFFLINE keeps it from being fetched: unset that once, or {by_hand}"
        ) from error
    except Exception as error:  # no name, time-out, a refused proxy: the hub's client has its own class for each
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointAbsent(f"{absent} and fetching it from huggingface.co failed ({reason}): {by_hand}") from error


def _fetched(
    source: str, revision: str | None, needed: Sequence[Sequence[str]], optional: Sequence[str], family: str | None
) -> Path:
    """Folder of the snapshot, its files fetched from the hub.

    Raises:
        ViewError: the repository lacks some.
    """
    import huggingface_hub

    offered = huggingface_hub.HfApi().list_repo_files(source, revision=revision)
    patterns, missing = _wanted(offered, needed, optional)
    if missing:
        raise ViewError(
            f"{_told(source, revision)} on huggingface.co: expected {_alternatives(missing)}, found none"
            f"{families.hint(_family_on_hub(source, revision, offered), family) or '; choose a model that has it'}"
        )
    return Path(huggingface_hub.snapshot_download(source, revision=revision, allow_patterns=patterns))


def _told(source: str, revision: str | None) -> str:
    return f"{source}{'' if revision is None else f' at revision {revision}'}"


def _wanted(
    offered: Sequence[str], needed: Sequence[Sequence[str]], optional: Sequence[str]
) -> tuple[list[str], list[Sequence[str]]]:
    """Patterns of the files to fetch of those that a repository offers, and what is needed that it has not got."""
    groups = [[p for p in group if any(fnmatch(name, p) for name in offered)] for group in needed]
    patterns = [found[0] for found in groups if found]
    # Of model.safetensors.index.json these are model-00001-of-00002.safetensors and so on.
    patterns += [
        f"{Path(weights).stem}-*-of-*{Path(weights).suffix}"
        for weights in (pattern.removesuffix(_INDEX) for pattern in patterns if pattern.endswith(_INDEX))
    ]
    patterns += [p for p in optional if p not in patterns and any(fnmatch(name, p) for name in offered)]
    return patterns, [group for group, found in zip(needed, groups, strict=True) if not found]


def _family_on_hub(source: str, revision: str | None, offered: Sequence[str]) -> str | None:
    """The family of a repository, by its files' names and config.json; None where they do not tell."""
    import huggingface_hub

    if "config.json" not in offered:
        return families.of_files(offered)
    try:
        config = huggingface_hub.hf_hub_download(source, "config.json", revision=revision)
    except Exception:  # it is for a message alone
        return families.of_files(offered)
    return families.of_files(offered) or families.of_folder(Path(config).parent)


def _complete(source: str, snapshot: Path, optional: Sequence[str]) -> None:
    """Fetches what a cached snapshot lacks of the optional files that the hub has: whoever cached it may have needed
    less, and one of them may be the one that counts. The cache remembers of each whether there is any, so that it is
    asked once. Offline the snapshot is what there is."""
    import huggingface_hub
    from huggingface_hub import errors

    for name in optional:
        if "*" in name or (snapshot / name).exists():
            continue
        if huggingface_hub.try_to_load_from_cache(source, name, revision=snapshot.name) is not None:
            continue  # known to be none
        try:
            huggingface_hub.hf_hub_download(source, name, revision=snapshot.name)
        except errors.LocalEntryNotFoundError:
            return  # offline
        except errors.EntryNotFoundError:
            continue
        except Exception:  # see above: the hub's client has its own class for each trouble
            return


def _lacking(checkpoint: Checkpoint, needed: Sequence[Sequence[str]]) -> str:
    """What a snapshot lacks, as a message says it; empty where it is whole."""
    try:
        return _alternatives([group for group in needed if not checkpoint.preferred(group)])
    except ViewError:
        return "shards of its weights"  # a download that broke off before the last of them


def _alternatives(groups: Sequence[Sequence[str]]) -> str:
    return ", ".join(" or ".join(group) for group in groups)


def _listing(needed: Sequence[Sequence[str]]) -> str:
    return ", ".join(dict.fromkeys(group[0] for group in needed))
