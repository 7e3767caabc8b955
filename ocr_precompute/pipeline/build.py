"""Build a split: scan, plan, encode, publish. Open this file first.

Everything is keyed by content (see `format.keys`), so resuming, reusing, building twice at once and
building with any number of workers need no code of their own.
"""

from __future__ import annotations

import time

from ocr_precompute.errors import InputError, Problem, StoreError
from ocr_precompute.pipeline.encode import encode
from ocr_precompute.pipeline.engines.local import as_joblib_is_set
from ocr_precompute.pipeline.fetched import keeping
from ocr_precompute.pipeline.part import chosen_part
from ocr_precompute.pipeline.plan import plan
from ocr_precompute.pipeline.profile import check_profile, events_wanted, profiled
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.pipeline.publish import publish, to_go_by
from ocr_precompute.pipeline.report import BuildReport
from ocr_precompute.pipeline.request import Request
from ocr_precompute.pipeline.scan import scan_request
from ocr_precompute.pipeline.watching import BuildWatch
from ocr_precompute.runtime.stages import recording, stage
from ocr_precompute.settings import (
    SPLIT_NAME_RULE,
    Settings,
    SkipBad,
    Source,
    is_split_name,
    parse_skip_bad,
)
from ocr_precompute.storage.locks import writable
from ocr_precompute.storage.place import reached, storage_of


def build(
    split: str,
    source: Source,
    settings: Settings,
    *,
    skip_bad: SkipBad | bool | None = None,
    strict: bool = False,
    dry_run: bool = False,
    every_name: bool = False,
    part: str | None = None,
    finish: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Build or update one split of a store.

    skip_bad: as in Settings, over what the settings and the source say; True is `polygon`.
    strict: refuse damaged images and what is legal and probably not meant. every_name: tell
    progress all names of what was understood, and not the worst alone. part: `I/N`, only build the
    I-th of N parts, anywhere; finish: publish what all parts have built.
    Raises InputError with every problem of the input, StoreError if the store cannot be used or
    written, WorkerError if workers are lost. What was published, and finished shards, are intact.
    """
    started = time.perf_counter()
    settings = _checked(split, source, settings)
    watcher, events = progress or Progress(), events_wanted(settings)
    storage = storage_of(settings)
    with (
        writable(storage, dry_run),
        recording(events) as recorded,
        BuildWatch(settings, storage.home, split, recorded.totals) as watch,
        keeping(storage, source, settings, encodes=not (dry_run or finish)) as fetched,
    ):
        published, tag = to_go_by(storage, split, watcher)
        request = Request(
            split=split,
            source=_ruled(source, settings, skip_bad),
            settings=settings,
            storage=storage,
            published=published,
            tag=tag,
            strict=strict,
            dry_run=dry_run,
            every_name=every_name,
            progress=watcher,
            watch=watch,
            events=events,
            part=chosen_part(part, finish),
            finish=finish,
            fetched=fetched,
        )
        with stage("scan"):
            scanned = scan_request(request)
        with stage("plan"):
            planned = plan(request, scanned)
        planned, results = encode(request, planned)
        with stage("publish"):
            manifest, up_to_date = publish(request, planned)
    of = request, manifest, planned, results, recorded.totals(), watch.seen
    report = BuildReport.of(*of, up_to_date=up_to_date, seconds=time.perf_counter() - started)
    return profiled(report, settings, results, recorded.stretches())


def _checked(split: str, source: Source, settings: Settings) -> Settings:
    """The settings, with what is set around the build.

    Raises InputError if they cannot be used, StoreError if workers would not see the store or the
    images.
    """
    if not is_split_name(split):
        raise InputError([Problem("config", "command line", f"split {split!r}", SPLIT_NAME_RULE)])
    check_profile(settings)
    settings = as_joblib_is_set(settings)
    in_workers = settings.backend not in ("sequential", "threading")
    places = [str(settings.store), *(str(part.images) for part in source.parts)]
    unseen = [place for place in places if place.startswith("memory://")]
    if in_workers and unseen:
        raise StoreError(
            f"{unseen[0]}: lies in the memory of this process, which workers of the backend "
            f"{settings.backend} do not see; build with --backend threading"
        )
    return settings


def _ruled(source: Source, settings: Settings, skip_bad: SkipBad | bool | None) -> Source:
    """The source with the rules that hold for this build."""
    source = reached(source, settings.storage).ruled(settings.rules, settings.parameters.recipe)
    return source if skip_bad is None else source.skipping(parse_skip_bad(skip_bad))
