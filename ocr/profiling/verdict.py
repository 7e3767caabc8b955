"""What a training is bound by: the part of its time that is largest, why, and what to try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ocr.profiling.device import DeviceSeconds
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

_BUSY = 0.9  # share above which a processor has no time left for the loader, nor a GPU for more
_STARVED = 0.1  # share of the training above which the loop goes short of processors,
_WORKING = 0.5  # if this process uses so much of them itself
_FAULTS = 10.0  # major faults a second above which pages come from a disk again and again
_IDLE = 0.5  # share of the time of compute below which a GPU mostly waited for work

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
        "--model.offload_activations false, if it is on",
    ),
    "compute": (
        "--trainer.precision bf16-mixed, where the device has it",
        "--model.compile true, which takes a compiler, and minutes at the start",
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
        "nothing, early in a training: what a network finds at first is noise, and much of it",
    ),
}
"""For each bottleneck what to try, the most promising first."""

HANDING_OVER = (
    "larger batches (--data.batch_size): as many kernels are then handed over for more samples",
    "--model.activation_checkpointing none, which hands no kernel over twice",
    "a network of fewer layers (model.backbone)",
)
"""What to try where a GPU waits for the work that compute hands to it."""


@dataclass(frozen=True)
class Evidence:
    """What a process of a training has done with its time.

    training, validation: seconds of steps and of validations. waited, waited_validating: of these,
    seconds in which the loop waited for the loader. synchronising: seconds in which gradients were
    under way between processes. totals: all stages and waits. processor: share of the cores that
    the process may use that it used. faults: pages that came from a disk. steps: how many there
    were. starved: of these, seconds in which the loop could have gone on, but for a processor.
    device: what a GPU did in one of them; None on a CPU.
    """

    training: float
    validation: float
    waited: float
    synchronising: float
    totals: Totals
    processor: float
    faults: int = 0
    steps: int = 0
    device: DeviceSeconds | None = None
    waited_validating: float = 0.0
    starved: float = 0.0

    @property
    def seconds(self) -> float:
        """Of training and validation together."""
        return self.training + self.validation

    @property
    def gpu(self) -> DeviceSeconds:
        """What the GPU did in all steps; nothing on a CPU."""
        return (self.device or DeviceSeconds(0.0)).times(self.steps)

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
        known by the clock: all of it that they were under way counts as synchronisation. Where the
        profiler saw NCCL, it is known: as long as NCCL was at work and nothing else.

        On a GPU the clock is corrected by what the GPU did, as `_corrected` says.
        """
        backward = self.stage("backward")
        synchronising = 0.0 if self.gpu.synchronising else min(self.synchronising, backward)
        validation = max(0.0, self.validation - self.waited_validating)
        finding = min(self.wait("postprocess"), validation)
        found = {
            "data": self.waited + self.waited_validating,
            "disk": self.stage("checkpoint"),
            "transfer": self.stage("transfer"),
            "compute": self.stage("forward", "optimiser") + backward - synchronising,
            "synchronisation": synchronising,
            "post-processing": finding,
            "validation": validation - finding,
        }
        if self.device is None:  # beside a GPU the loop has to be in time, and no more
            found["processor"] = min(self.starved, found["compute"])
            found["compute"] -= found["processor"]
        found["other"] = max(0.0, self.seconds - sum(found.values()))
        if self.device is not None:
            found = _corrected(found, self.gpu)
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def _corrected(clocked: dict[str, float], gpu: DeviceSeconds) -> dict[str, float]:
    """Parts of the loop's time, by its clock and by what the GPU did meanwhile.

    The loop hands work to a GPU and goes on; it waits wherever it next needs a result. So what took
    the GPU longer than the clock shows was waited for in another part, and is moved from there:
    from `other`, then from a transfer as far as it took longer than its copies, for they wait for
    their turn. From compute too, as far as it took longer than the kernels, but only where the GPU
    was hardly ever idle: else that is the time in which kernels were handed over, and copies beside
    it cost nothing.

    Time is moved and never added: the sum stays what the clock shows. What the loop waited for the
    loader stays, though the GPU may have computed meanwhile: it would have been waited for else.
    """
    needed = {
        "compute": gpu.computing,
        "synchronisation": gpu.synchronising,
        "transfer": gpu.copying,
    }
    parts = dict(clocked)
    holders = ["other", "transfer"]
    if gpu.busy > _BUSY * sum(parts[name] for name in ("other", *needed)):
        holders.append("compute")
    for name, seconds in needed.items():
        for holder in holders:
            spare = parts[holder] - needed.get(holder, 0.0)
            moved = max(0.0, min(seconds - parts[name], spare))
            parts[holder] -= moved
            parts[name] += moved
    return parts


def verdict(seen: Evidence) -> Verdict:
    """What the largest part of the loop's time is, and for waits for data, why they are."""
    parts = seen.parts()
    told = shares_told(parts, "loop", seen.seconds)
    cause, why = _why_data_is_late(seen)
    if cause == "processor":  # for want of which steps took longer too
        parts["processor"] = parts.get("processor", 0.0) + parts.pop("data")
    largest = max((name for name in parts if name != "other"), key=parts.__getitem__)
    share = parts[largest] / seen.seconds if seen.seconds else 0.0
    gain = _gain(seen, parts, largest)
    if largest in ("data", "processor"):
        largest = cause if largest == "data" else largest
        told.append(why)
    if seen.starved:
        told.append(f"for {seen.starved:.2f} s of its steps the loop had no processor to go on")
    advice = TRY[largest]
    told.append(f"the processor was busy {100 * seen.processor:.0f} % of what this process may use")
    told += _gpu_lines(seen)
    if largest == "compute" and seen.device and seen.gpu.computing < _IDLE * parts[largest]:
        told.append(
            "the GPU was idle for most of the time of compute: handing its kernels over took "
            "longer than running them, as where they are many and small"
        )
        advice = HANDING_OVER
    return Verdict(largest, share, gain, tuple(told), advice)


def _gain(seen: Evidence, parts: Mapping[str, float], largest: str) -> float:
    """How many times as fast the loop would be without its largest part, at most.

    While the loop waits for the loader a GPU may be computing, which it has to do in any case.
    """
    if not seen.seconds:
        return 1.0
    left = seen.seconds - parts[largest]
    if largest in ("data", "processor"):
        validation = seen.validation - seen.waited_validating
        left = max(left, min(seen.seconds, seen.gpu.busy + validation))
    return gain_without(1 - left / seen.seconds)


def _gpu_lines(seen: Evidence) -> list[str]:
    """How busy the GPU was, and with what."""
    if seen.device is None or not seen.steps or not seen.training:
        return []
    busy = min(1.0, seen.gpu.busy / seen.training)
    step = f"of a step of {1000 * seen.training / seen.steps:.2f} ms it computed for "
    step += f"{1000 * seen.device.computing:.2f} ms and copied for "
    step += f"{1000 * seen.device.copying:.2f} ms"
    if seen.device.synchronising:
        step += f", and NCCL alone ran for {1000 * seen.device.synchronising:.2f} ms"
    return [f"the GPU was busy {100 * busy:.0f} % of the training: {step}"]


def _why_data_is_late(seen: Evidence) -> tuple[str, str]:
    """Whether the loader waits for a disk, for the processor, or has too few threads."""
    faults = seen.faults / seen.seconds if seen.seconds else 0.0
    fetching, computing = seen.stage(*_FETCHING), seen.stage(*_COMPUTING)
    told = f"on the loader's threads reading files took {fetching:.2f} s, and the rest"
    if faults > _FAULTS:
        touched = seen.stage(_FAULTING)
        fetching, computing = fetching + touched, computing - touched
        told = (
            f"{faults:.0f} pages a second of mapped files came from a disk; on the loader's "
            f"threads reading them took {fetching:.2f} s, and the rest"
        )
    told += f" of making samples {computing:.2f} s"
    if fetching > computing:
        return "disk", told
    contested = seen.processor > _WORKING and seen.starved > _STARVED * seen.training
    short = seen.processor > _BUSY or contested
    return ("processor" if short else "data"), told
