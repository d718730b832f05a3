"""`strata extract VIEW…`: manifest → features/<view>.zarr, for the utterances that the store does not have yet.

The stage finds out what is missing, hands it out in blocks (`plan`) to whoever computes them (`runners`: threads of
this process, or Dask's workers in `cluster`; either way by `work`), and commits each block as it comes back. Whatever
stops the run, the next one goes on behind the rows that are kept: those of whole blocks in the store, and all but the
last minute's of the others in its journal.
"""

import shutil
import time
from argparse import ArgumentParser
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import pandas as pd

from strata import extractors
from strata.extractors import audio
from strata.extractors.view import TextView
from strata.pipeline.errors import StageError, for_each
from strata.pipeline.extraction import plan, work
from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.extraction.dispatch import runner_for
from strata.pipeline.extraction.filling import fill
from strata.pipeline.extraction.runners import Runner
from strata.pipeline.extraction.stores import opened
from strata.pipeline.extraction.work import BlockResult, Extraction
from strata.pipeline.progress import amount, bar, say, speed
from strata.pipeline.results.extractions import IN_FLOAT32, ExtractionResult, write_extraction
from strata.pipeline.show.tables import millions, size
from strata.pipeline.study import dvcfile, keys, options, soundness
from strata.pipeline.study.failures import Failures, judge
from strata.pipeline.study.folder import Study
from strata.pipeline.study.manifest import channels, corpus_of, make_absent_audio
from strata.pipeline.study.transcripts import column
from strata.store import FeatureStore, Journal

DISK_MARGIN = 1.1


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    options.add_stage(parser, run, "VIEW", "strata extract wavlm xvector")


def run(study: Study, names: list[str]) -> None:
    """Brings the stores of the named views (all where none is named) up to date.

    Raises:
        StageError: no manifest, a store that DVC knows but that is not here, too little disk, or a larger share of
            failures than `extract.max_failed`; everything that could be computed has been committed by then.
    """
    views = study.chosen("views", names)
    manifest = study.read_manifest()
    for_each(views, lambda view: _extract(study, view, _rows(study, view, manifest)), "view")


def _rows(study: Study, view: str, manifest: pd.DataFrame) -> pd.DataFrame:
    """What there is to compute; says of a text view how many utterances have nothing for it, and who could help."""
    section = study.params.views[view]
    utterances = keys.rows(section, manifest)
    if isinstance(section, TextView):
        heard = {column(name): recogniser for name, recogniser in study.params.transcribe.items()}
        lacking, recognised = [], False
        for name in section.columns:
            count = int(keys.of(section.model_copy(update={"columns": (name,)}), manifest).isna().sum())
            if count:
                lacking.append(f"{count} of {len(manifest)} utterances have no text in {name}")
                if name in heard:  # that nothing was said is no reason, nor that nobody was asked to listen
                    corpora = heard[name].corpora
                    asked = corpus_of(manifest).isin(corpora) if corpora else manifest[name].notna() | True
                    recognised |= bool((manifest[name].isna() & asked).any())
        if lacking:
            step = (
                "; run `strata transcribe` (data/transcripts.failures.csv has what it cannot use)" if recognised else ""
            )
            say(f"{view}: {', '.join(lacking)}{step}")
    return utterances.assign(channel=channels(study, utterances))


def _extract(study: Study, view: str, utterances: pd.DataFrame) -> None:
    path, how = study.store(view), study.params.extract
    if lacking := dvcfile.lacking(study, view):
        raise StageError(
            f"{lacking}: run `dvc pull` first (`dvc push` where it was made, if that has not got it), "
            f"or `strata store drop {path}` to compute it anew"
        )
    extraction = Extraction.of(study, view)
    family = study.params.views[view].family
    own_process = family in extractors.OWN_PROCESS
    with runner_for(how, extraction, own_process) as runner:
        fingerprint = _fingerprint(study, view, runner, utterances)
        store = opened(study, view, fingerprint, runner, utterances)
        with store.locked():
            known = soundness.Known.read(study.folder, view)
            known.listed = dvcfile.listed(study, view).md5
            known.mend(store)
            failures = Failures.read(study.extract_failures(view), fingerprint, set(utterances["content"]))
            missing = set(store.missing(utterances["content"].tolist())) - set(failures.rows)
            todo = utterances[utterances["content"].isin(missing)]
            if len(todo):
                if notice := extractors.NOTICES.get(family):
                    say(f"{view}: {notice}")
                blocks = _planned(store, todo, runner.num_workers)
                _check_room(study, view, store, todo, utterances, blocks)
                _say_cut(view, runner, store)
                _say_mended(view, store, todo)
                make_absent_audio(study, todo[todo["text"].isna()])
                _fill(study, view, store, runner, todo, blocks, failures, known)
            else:
                done = len(utterances) - len(failures.rows)
                say(f"{view}: up to date ({done} of {len(utterances)} {_kind(utterances)})")
            failures.write()
            store.sweep()
            journal = Journal(store.storage, store.header)
            journal.clear()
            if journal.clear_others():
                say(f"{view}: rows that waited for another model, setting or choice of layers are removed")
            known.write(store)
    judge(failures, view, len(utterances), study.params.extract.max_failed, _kind(utterances))


def _fingerprint(study: Study, view: str, runner: Runner, utterances: pd.DataFrame) -> Mapping:
    """That of the view's values; of a store made elsewhere, in which nothing is missing, without its model if need be.

    A box that trains on pulled stores has no models, and should not be asked for one because code has changed that a
    stage depends on. A model that is there and cannot be loaded is told, as ever.

    Raises:
        ViewError: the view cannot be loaded, and something is to be computed.
    """
    made = _made_elsewhere(study, view, utterances)
    if made is None:
        return runner.fingerprint(view)
    try:
        return runner.fingerprint(view, local=True)
    except extractors.CheckpointAbsent:
        if not dvcfile.is_as_listed(study, view):
            raise
        say(f"{view}: its model is not on this machine; the store is the one that dvc.lock lists, whole, and stays")
        return made


def _made_elsewhere(study: Study, view: str, utterances: pd.DataFrame) -> Mapping | None:
    """The fingerprint of the view's store, where dvc.lock lists it as made from the section that params.yaml has now,
    and no utterance is missing; None where it does not, or one is."""
    path = study.store(view)
    if not dvcfile.listed(study, view).md5 or not FeatureStore.exists(path):
        return None
    store = FeatureStore.open(path)
    contents = utterances["content"].tolist()
    failures = Failures.read(study.extract_failures(view), store.header.fingerprint, set(contents))
    return store.header.fingerprint if set(store.missing(contents)) <= set(failures.rows) else None


def _is_audio(rows: pd.DataFrame) -> bool:
    return bool(rows["text"].isna().all())


def _kind(rows: pd.DataFrame) -> str:
    return "utterances" if _is_audio(rows) else "texts"


def _planned(store: FeatureStore, todo: pd.DataFrame, num_workers: int) -> list[list[Recording]]:
    """What is to do in blocks; those that a run which was stopped has begun, or was to begin, are the same again."""
    journal = Journal(store.storage, store.header)
    begun = [block for block in journal.plan if len(store.missing(block)) == len(block)]
    blocks = plan.blocks(todo, store.header, num_workers, begun)
    journal.begin([[recording.content for recording in block] for block in blocks])
    return blocks


def _check_room(
    study: Study,
    view: str,
    store: FeatureStore,
    todo: pd.DataFrame,
    utterances: pd.DataFrame,
    blocks: Sequence[Sequence[Recording]],
) -> None:
    """Says what a run will do, and refuses it if the disk is too small."""
    sizes = [plan.size(store.header, block) for block in blocks]
    needed = sum(sizes)
    hours = f", {amount(todo['duration_s'].sum())}" if _is_audio(todo) else ""
    say(f"{view}: {len(todo)} new of {len(utterances)} {_kind(utterances)}{hours}, {size(needed)} to write")
    free = shutil.disk_usage(store.path).free
    if free < DISK_MARGIN * needed + max(sizes):  # which waits in the journal while it is not whole
        raise StageError(
            f"{size(needed)} to write but only {size(free)} free at {store.path}; make room, or keep fewer "
            f"layers or frames in views.{view}"
        )


def _say_cut(view: str, runner: Runner, store: FeatureStore) -> None:
    """A word on what is not computed, where the view stops below the model's last layer."""
    model = runner.ask(work.size)
    if model is not None and model.parameters < model.whole:
        parts = f"{millions(model.parameters)} of {millions(model.whole)} parameters"
        say(f"{view}: cut after layer {store.layer_names[-1]}: {parts}")


def say_in_float32(view: str, store: FeatureStore, modules: Collection[str]) -> None:
    """Says for which modules the view's number format was wrong where rows were computed; nothing where for none."""
    if modules:
        asked = store.header.fingerprint.get("compute_dtype", "float32")
        named = ", ".join(sorted(modules)[:3]) + (", …" if len(modules) > 3 else "")
        say(f"{view}: {len(modules)} modules are computed in float32, for {asked} is wrong for them here: {named}")


def _say_mended(view: str, store: FeatureStore, todo: pd.DataFrame) -> None:
    """A word on rows that an earlier version computed from as much of a recording as its header seemed to promise."""
    count = len({audio.of_mended(key) for key in store.keys} & set(todo["content"]))
    if count:
        say(f"{view}: {count} rows hold a part of their recordings, cut to lengths that headers only estimated; anew")


def _fill(
    study: Study,
    view: str,
    store: FeatureStore,
    runner: Runner,
    todo: pd.DataFrame,
    blocks: Sequence[Sequence[Recording]],
    failures: Failures,
    known: soundness.Known,
) -> None:
    """Computes and commits what is to do, and leaves a record of it."""
    started, before, journal = time.monotonic(), len(store), Journal(store.storage, store.header)
    is_audio = _is_audio(todo)
    kept = todo["content"].isin(journal.keys)
    audio_s = float(todo["duration_s"].sum())
    new_s = float(todo["duration_s"][~kept].sum())
    if kept.any():
        say(f"{view}: {kept.sum()} of them were computed by a run that was stopped")
    in_float32: set[str] = set()

    def committed(outcome: BlockResult) -> None:
        known.add(store, outcome.block)
        if outcome.in_float32:  # at once and block by block: each may be another machine's, and the run may be stopped
            store.note(IN_FLOAT32, outcome.in_float32)
            in_float32.update(outcome.in_float32)

    try:
        with bar(audio_s / 3600, "h audio" if is_audio else "h of speech", view) as progress:
            fill(store, runner, todo, blocks, failures, committed, lambda seconds: progress.update(seconds / 3600))
    except BaseException as error:
        with suppress(OSError):
            failures.write()
        if isinstance(error, KeyboardInterrupt):
            rows = len(store) - before + int(todo["content"].isin(journal.keys - set(store.keys)).sum())
            say(f"{view}: {rows} of {len(todo)} rows are kept")
        raise
    seconds = time.monotonic() - started
    found = ExtractionResult(
        view=view,
        utterances=len(store) - before - int(kept.sum()),
        audio_s=new_s if is_audio else None,
        seconds=round(seconds, 3),
        rows=len(store),
        bytes=store.num_bytes(),
        failures=len(failures.rows),
    )
    write_extraction(study.folder, found)
    rate = f" ({speed(new_s, seconds)})" if is_audio else ""
    say(f"{view}: computed {found.utterances} {'utterances' if is_audio else 'texts'} in {seconds:.1f} s{rate}")
    say_in_float32(view, store, in_float32)
