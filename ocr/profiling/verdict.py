"""What a training is bound by: the part of its time that is largest, why, and what to try."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_precompute.profiling.verdict import Verdict, gain_without, shares_told
from ocr_precompute.runtime.stages import Totals

# Stages of reading, which run on the loader's threads: those that wait for a file system, that one
# if pages of mapped files come from a disk, and those that compute.
_FETCHING = ("open", "records", "read", "look")
_FAULTING = "checksum"  # touches a chunk's bytes first
_COMPUTING = (
    *("checksum", "decompress", "place", "warp", "labels", "offset"),
    *("digest", "decode", "resize", "pack", "compile"),
)

_BUSY = 0.9  # share of the processor above which there is none left for the loader
_FAULTS = 10.0  # major faults a second above which pages come from a disk again and again

TRY = {
    "data": (
        "more loader threads (--data.threads; --data.tune true finds how many)",
        "smaller crops or less variation (data.augmentation), for each of their pixels is moved",
        "the store, where samples are computed live (data.live)",
    ),
    "disk": (
        "a store on a faster disk, or one that fits into memory",
        "more loader threads (--data.threads), which wait for a disk side by side",
        "checkpoints less often (every_n_epochs), where these are what is written",
    ),
    "processor": (
        "more cores for each process, or fewer processes on the machine",
        "smaller crops or less variation (data.augmentation)",
        "the store, where samples are computed live (data.live)",
    ),
    "transfer": (
        "larger batches (--data.batch_size), which are fewer copies",
        "smaller crops, or --data.trim 64 for whole pages",
    ),
    "compute": (
        "--trainer.precision bf16-mixed, where the device has it",
        "a smaller network (model.channels, model.backbone) or smaller crops",
        "--data.trim 64 for whole pages; a GPU, or more of them (--trainer.devices)",
    ),
    "synchronisation": (
        "larger batches (--data.batch_size), or --trainer.accumulate_grad_batches 2",
        "processes of one machine, or of equal speed: each step waits for the slowest",
    ),
    "validation": (
        "validation less often (--trainer.check_val_every_n_epoch), or of fewer batches "
        "(--trainer.limit_val_batches)",
        "--data.trim 64, if it is off",
    ),
    "post-processing": (
        "a higher --model.postprocess.threshold, or fewer --model.postprocess.max_candidates",
        "validation less often (--trainer.check_val_every_n_epoch)",
        "more cores, for it runs on a thread for each",
    ),
}
"""For each bottleneck what to try, the most promising first."""


@dataclass(frozen=True)
class Evidence:
    """What a process of a training has done with its time.

    training, validation: seconds of steps and of validations. waited: of the former, seconds in
    which the loop waited for the loader. synchronising: seconds in which gradients were under way
    between processes. totals: all stages and waits. processor: share of the cores that the process
    may use that it used. faults: pages that came from a disk. device: share of the time in which
    the GPU computed; None on a CPU.
    """

    training: float
    validation: float
    waited: float
    synchronising: float
    totals: Totals
    processor: float
    faults: int = 0
    device: float | None = None

    @property
    def seconds(self) -> float:
        """Of training and validation together."""
        return self.training + self.validation

    def stage(self, *names: str) -> float:
        """Seconds of stages."""
        found = self.totals.stages
        return sum(found[name].seconds for name in names if name in found)

    def wait(self, name: str) -> float:
        """Seconds of a wait."""
        return self.totals.waits[name].seconds if name in self.totals.waits else 0.0

    def parts(self) -> dict[str, float]:
        """Seconds of the loop by what it did, the longest first; what is left is `other`.

        Gradients are under way while the backward pass goes on. How much of it they hold up is not
        known: all of it that they were under way counts as synchronisation.
        """
        backward = self.stage("backward")
        synchronising = min(self.synchronising, backward)
        finding = min(self.wait("postprocess"), self.validation)
        found = {
            "data": self.waited,
            "disk": self.stage("checkpoint"),
            "transfer": self.stage("transfer"),
            "compute": self.stage("forward", "optimiser") + backward - synchronising,
            "synchronisation": synchronising,
            "post-processing": finding,
            "validation": self.validation - finding,
        }
        found["other"] = max(0.0, self.seconds - sum(found.values()))
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def verdict(seen: Evidence) -> Verdict:
    """What the largest part of the loop's time is, and for waits for data, why they are."""
    parts = seen.parts()
    largest = max((name for name in parts if name != "other"), key=parts.__getitem__)
    share = parts[largest] / seen.seconds if seen.seconds else 0.0
    told = shares_told(parts, "loop", seen.seconds)
    if largest == "data":
        largest, why = _why_data_is_late(seen)
        told += why
    told.append(f"the processor was busy {100 * seen.processor:.0f} % of what this process may use")
    if seen.device is not None:
        told.append(f"the GPU computed {100 * seen.device:.0f} % of the profiled time")
    return Verdict(largest, share, gain_without(share), tuple(told), TRY[largest])


def _why_data_is_late(seen: Evidence) -> tuple[str, list[str]]:
    """Whether the loader waits for a disk, for the processor, or has too few threads."""
    faults = seen.faults / seen.seconds if seen.seconds else 0.0
    fetching, computing = seen.stage(*_FETCHING), seen.stage(*_COMPUTING)
    told = [f"on the loader's threads reading files took {fetching:.2f} s, and the rest"]
    if faults > _FAULTS:
        touched = seen.stage(_FAULTING)
        fetching, computing = fetching + touched, computing - touched
        told = [
            f"{faults:.0f} pages a second of mapped files came from a disk; on the loader's "
            f"threads reading them took {fetching:.2f} s, and the rest"
        ]
    told[0] += f" of making samples {computing:.2f} s"
    if fetching > computing:
        return "disk", told
    return ("processor" if seen.processor > _BUSY else "data"), told
