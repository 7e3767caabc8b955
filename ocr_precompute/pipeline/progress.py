"""What a build tells whoever watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocr_precompute.format.manifest import Damaged, Skipped
    from ocr_precompute.pipeline.encode import ShardResult
    from ocr_precompute.pipeline.plan import Plan
    from ocr_precompute.understood import Understood


class Progress:
    """A watcher that keeps silent; others override what they want to know."""

    def scanning(self, done: int, total: int) -> None:
        """So many images of so many are digested."""

    def understood(self, understood: Understood, skipped: tuple[Skipped, ...]) -> None:
        """It is known what there is to learn, and what is left out."""

    def damaged(self, damaged: tuple[Damaged, ...]) -> None:
        """It is known which images are damaged."""

    def planned(self, plan: Plan) -> None:
        """It is known what there is to do."""

    def encoded(self, result: ShardResult) -> None:
        """One shard is finished."""

    def notice(self, message: str) -> None:
        """Something worth a line on the screen."""
