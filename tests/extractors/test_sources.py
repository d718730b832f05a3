"""A checkpoint is found where it lies, and what is missing is said in one line."""

import huggingface_hub
import pytest
from huggingface_hub import errors

import extractors
from extractors.contract import ViewError
from extractors.sources import find, hash_files, hash_settings

NEEDED = [("config.json",), ("*.safetensors", "*.bin")]


def lookup(source, revision=None, **more):
    """`find` as a family would call it."""
    return find(source, revision, needed=NEEDED, miniatures=(), make_miniature=lambda *_: None, **more)


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with what is needed."""
    (tmp_path / "model").mkdir()
    for name in ("config.json", "a.safetensors"):
        (tmp_path / "model" / name).write_text(name)
    return tmp_path / "model"


def test_local_directory(checkpoint):
    """A directory is taken as it is, and its path is no part of what identifies it."""
    found = lookup(str(checkpoint))
    assert (found.folder, found.source, found.revision) == (checkpoint, "local directory", None)
    assert [path.name for path in found.files(("*.safetensors",))] == ["a.safetensors"]


def test_incomplete_directory(checkpoint):
    """A missing file is named."""
    (checkpoint / "a.safetensors").unlink()
    with pytest.raises(ViewError, match=r"expected \*\.safetensors or \*\.bin in .*, found none"):
        lookup(str(checkpoint))


def test_revision_is_for_hub_ids(checkpoint):
    """A revision of a directory means nothing and is refused rather than ignored."""
    with pytest.raises(ViewError, match="revision 'main' is for hub ids; remove it"):
        lookup(str(checkpoint), "main")


@pytest.mark.parametrize("source", ["/no/such/folder", "./none", "~/none", "a/b/c"])
def test_paths_are_never_asked_of_the_hub(source):
    """What looks like a path and is not there is a missing directory."""
    with pytest.raises(ViewError, match=r"expected an existing local directory with config\.json"):
        lookup(source)


def test_offline():
    """Without a network and a cached copy, the message says what to put where; nothing waits."""
    with pytest.raises(ViewError, match=r"cannot be reached: put config\.json, preprocessor_config\.json") as caught:
        extractors.load({"family": "transformers", "source": "facebook/no-such-model-here"})
    assert "\n" not in str(caught.value)


def test_not_a_hub_id():
    """Words that can be neither a directory nor a hub id."""
    with pytest.raises(ViewError, match="neither a local directory nor a hub id"):
        lookup("wav lm!")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.GatedRepoError, "is gated on huggingface.co: ask for access"),
        (errors.RepositoryNotFoundError, "huggingface.co has no such model or it is private"),
        (errors.RevisionNotFoundError, "owner/model has no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses(error, message, monkeypatch):
    """Each refusal of the hub has its own line and next step."""

    def refuse(*args, **kwargs):
        raise error.__new__(error)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", refuse)
    with pytest.raises(ViewError, match=message):
        lookup("owner/model", "v9")


def test_only_what_is_needed_is_fetched(checkpoint, monkeypatch):
    """Of a hub source the preferred kind of weights alone comes down; its commit is the revision."""
    asked = {}

    def download(source, *, local_files_only=False, **options):
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        asked.update(options)
        return str(checkpoint.rename(checkpoint.with_name("0123abcd")))

    offered = ["config.json", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_args, **_options: offered)
    found = lookup("owner/model", "main", optional=("extra.json",))
    assert (found.source, found.revision) == ("owner/model", "0123abcd")
    assert asked == {"revision": "main", "allow_patterns": ["config.json", "*.safetensors", "extra.json"]}


def test_settings_are_hashed_by_what_they_say():
    """Order and the version of the library that wrote them do not matter, values do."""
    settings = {"a": 1, "b": [2], "transformers_version": "5.0"}
    reordered = {"transformers_version": "5.1", "b": [2], "a": 1}
    assert hash_settings(settings) == hash_settings(reordered)
    assert hash_settings(settings) != hash_settings(settings | {"a": 2})


def test_hash_sees_names_order_and_bytes(tmp_path):
    """A renamed, moved or changed byte gives another hash."""
    hashes = set()
    for names in (("a", "b"), ("b", "a")):
        for content in (b"12", b"21"):
            for index, name in enumerate(names):
                (tmp_path / name).write_bytes(content[index : index + 1])
            hashes.add(hash_files([tmp_path / name for name in names]))
    assert len(hashes) == 4
