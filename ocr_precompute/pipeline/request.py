"""What one build is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ocr_precompute.format.manifest import Manifest
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.fetched import Fetched
from ocr_precompute.pipeline.part import Part
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.pipeline.watching import BuildWatch
from ocr_precompute.settings import Settings, Source
from ocr_precompute.storage.seam import Storage


@dataclass(frozen=True, eq=False)
class Request:
    """One build, with nothing left open.

    storage: where the store lies. source: with the rules that hold. published: the split's
    manifest, if it has one to go by. tag: of that manifest's file, whether it can be read or not.
    strict: refuse what is legal and probably not meant. every_name: understand with all names.
    progress: who watches. watch: what is used, and whether memory is short. events: the most of
    each kind of work that a trace is to hold; 0: nobody wants one. part: build that part alone and
    publish nothing. finish: publish what parts have built. fetched: keeps images that are fetched
    for the scan.
    """

    split: str
    source: Source
    settings: Settings
    storage: Storage
    published: Manifest | None
    tag: str | None
    strict: bool
    dry_run: bool
    every_name: bool
    progress: Progress
    watch: BuildWatch
    events: int = 0
    part: Part | None = None
    finish: bool = False
    fetched: Fetched | None = None

    @cached_property
    def parameters(self) -> Parameters:
        """What goes into keys."""
        return self.settings.parameters

    @property
    def publishes(self) -> bool:
        """Whether what is built is published."""
        return not self.dry_run and self.part is None
