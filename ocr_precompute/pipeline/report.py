"""What a build did, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ocr_precompute.format.manifest import Damaged, Manifest
from ocr_precompute.monitoring.monitor import Seen
from ocr_precompute.monitoring.resources import Resources
from ocr_precompute.monitoring.rules import Alert
from ocr_precompute.pipeline.encode import ShardResult
from ocr_precompute.pipeline.plan import Plan
from ocr_precompute.pipeline.request import Request
from ocr_precompute.profiling.verdict import Verdict
from ocr_precompute.runtime.stages import Totals
from ocr_precompute.understood import Understood


@dataclass(frozen=True)
class BuildReport:
    """What a build did, or with dry_run would do.

    built, reused: shards. computed, copied: rows of the built shards. skipped: images and polygons
    left out. understood: what the annotations came to. damaged: samples whose images are damaged.
    part: the part that was built, I/N; nothing was published, all is said of its samples alone, and
    the data hash is not known ("").
    seconds: wall clock. recorded: where the time of all workers together went. resources: what they
    used; None if nobody looked. alerts: that were raised. verdict: what bounded the build, and
    profile: the page that says it; None if it was not asked for, or there is none.
    """

    split: str
    data_hash: str
    samples: int
    shards: int
    built: int
    reused: int
    computed: int
    copied: int
    skipped: int
    understood: Understood
    damaged: tuple[Damaged, ...]
    up_to_date: bool
    dry_run: bool
    part: str | None
    seconds: float
    recorded: Totals = field(default=Totals(), compare=False)
    resources: Resources | None = field(default=None, compare=False)
    alerts: tuple[Alert, ...] = field(default=(), compare=False)
    verdict: Verdict | None = field(default=None, compare=False)
    profile: str | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with stages, waits and counts as Totals has them."""
        plain = asdict(replace(self, recorded=Totals()))
        del plain["recorded"]
        plain["resources"] = self.resources and self.resources.as_dict()
        plain["alerts"] = [alert.as_dict() for alert in self.alerts]
        return plain | self.recorded.as_dict()

    @classmethod
    def of(
        cls,
        request: Request,
        manifest: Manifest,
        planned: Plan,
        results: Mapping[str, ShardResult],
        recorded: Totals,
        seen: Seen,
        *,
        up_to_date: bool,
        seconds: float,
    ) -> BuildReport:
        """The report of a build. results: of the shards that were built. seen: by the build's
        monitor.
        """
        done = _would_do(planned) if request.dry_run else _has_done(planned, results)
        built, computed, copied = done
        return cls(
            split=manifest.split,
            data_hash="" if request.part else manifest.data_hash,
            samples=manifest.samples,
            shards=len(manifest.shards),
            built=built,
            reused=len(planned.shards) - built,
            computed=computed,
            copied=copied,
            skipped=len(manifest.skipped),
            understood=manifest.understood,
            damaged=manifest.damaged,
            up_to_date=up_to_date,
            dry_run=request.dry_run,
            part=str(request.part) if request.part else None,
            seconds=round(seconds, 3),
            recorded=recorded,
            resources=seen.total if seen.total.seconds else None,
            alerts=seen.alerts,
        )


def _has_done(planned: Plan, results: Mapping[str, ShardResult]) -> tuple[int, int, int]:
    """Shards built, rows computed, rows copied.

    Shards of an earlier round that the split does not name after all count as if they had lain
    there before.
    """
    named = [results[shard.key] for shard in planned.shards if shard.key in results]
    return len(named), sum(r.computed for r in named), sum(r.copied for r in named)


def _would_do(planned: Plan) -> tuple[int, int, int]:
    rows = [geometry for shard in planned.to_build for geometry in shard.hashes]
    copied = sum(geometry in planned.donors for geometry in rows)
    return len(planned.to_build), len(rows) - copied, copied
