"""A run's figures as Prometheus metrics: their names, what they mean, their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ocr_precompute.monitoring.monitor import Seen
from ocr_precompute.monitoring.resources import Gpu
from ocr_precompute.runtime.stages import Times, Totals

Kind = Literal["counter", "gauge"]
Samples = Iterator[tuple[dict[str, str], float]]


@dataclass(frozen=True)
class Metric:
    """One metric: its name as it is asked for, what it is, and its values by their own labels."""

    name: str
    kind: Kind
    help: str
    samples: Callable[[Seen, Totals], Samples]


def _one(value: Callable[[Seen], float]) -> Callable[[Seen, Totals], Samples]:
    def samples(seen: Seen, totals: Totals) -> Samples:
        yield {}, value(seen)

    return samples


def _gpus(value: Callable[[Gpu], float]) -> Callable[[Seen, Totals], Samples]:
    def samples(seen: Seen, totals: Totals) -> Samples:
        for gpu in seen.reading.gpus:
            yield {"gpu": gpu.name}, value(gpu)

    return samples


def _timed(
    label: str, times: Callable[[Totals], Mapping[str, Times]], value: Callable[[Times], float]
) -> Callable[[Seen, Totals], Samples]:
    def samples(seen: Seen, totals: Totals) -> Samples:
        for name, each in times(totals).items():
            yield {label: name}, value(each)

    return samples


def _counts(seen: Seen, totals: Totals) -> Samples:
    for name, number in totals.counts.items():
        yield {"event": name}, number


def _alerts_on(seen: Seen, totals: Totals) -> Samples:
    for watch in seen.alarm.watches:
        yield {"rule": watch.rule.name}, float(watch.on)


def _alerts_raised(seen: Seen, totals: Totals) -> Samples:
    for watch in seen.alarm.watches:
        name = watch.rule.name
        yield {"rule": name}, sum(alert.rule == name for alert in seen.alerts)


METRICS = (
    Metric(
        "ocr_run_seconds_total",
        "counter",
        "Seconds since the run began.",
        _one(lambda seen: seen.total.seconds),
    ),
    Metric("ocr_samples_total", "counter", "Samples done.", _one(lambda seen: seen.work.samples)),
    Metric(
        "ocr_samples_per_second",
        "gauge",
        "Samples per second when some were last done.",
        _one(lambda seen: seen.rate),
    ),
    Metric(
        "ocr_work_seconds_total",
        "counter",
        "Seconds in which samples were done, up to the last of them.",
        _one(lambda seen: seen.work.seconds),
    ),
    Metric(
        "ocr_loader_wait_seconds_total",
        "counter",
        "Seconds of these in which the loop waited for the loader.",
        _one(lambda seen: seen.work.waited),
    ),
    Metric(
        "ocr_stage_seconds_total",
        "counter",
        "Seconds that a stage took, of all workers together.",
        _timed("stage", lambda totals: totals.stages, lambda times: times.seconds),
    ),
    Metric(
        "ocr_stage_runs_total",
        "counter",
        "How often a stage was run.",
        _timed("stage", lambda totals: totals.stages, lambda times: times.count),
    ),
    Metric(
        "ocr_wait_seconds_total",
        "counter",
        "Seconds of a wait.",
        _timed("wait", lambda totals: totals.waits, lambda times: times.seconds),
    ),
    Metric(
        "ocr_wait_runs_total",
        "counter",
        "How often was waited.",
        _timed("wait", lambda totals: totals.waits, lambda times: times.count),
    ),
    Metric("ocr_events_total", "counter", "Counts, such as cache hits, by what.", _counts),
    Metric(
        "ocr_processes",
        "gauge",
        "Processes of the run.",
        _one(lambda seen: seen.reading.processes),
    ),
    Metric(
        "ocr_processor_seconds_total",
        "counter",
        "Seconds of processor used.",
        _one(lambda seen: seen.total.cpu_seconds),
    ),
    Metric(
        "ocr_processor_busy_ratio",
        "gauge",
        "Share used of the processor that the run may use.",
        _one(lambda seen: seen.latest.cpu_share),
    ),
    Metric(
        "ocr_memory_bytes",
        "gauge",
        "Bytes that the run's processes have to themselves, without mapped files.",
        _one(lambda seen: seen.reading.memory),
    ),
    Metric(
        "ocr_memory_peak_bytes",
        "gauge",
        "Most of these so far.",
        _one(lambda seen: seen.total.memory_peak),
    ),
    Metric(
        "ocr_memory_size_bytes",
        "gauge",
        "Bytes of memory of the machine or the cgroup, whichever is nearer to being full.",
        _one(lambda seen: seen.reading.memory_size),
    ),
    Metric(
        "ocr_memory_used_ratio",
        "gauge",
        "Share of these that is taken, by whomever.",
        _one(lambda seen: seen.reading.memory_share),
    ),
    Metric(
        "ocr_disk_read_bytes_total",
        "counter",
        "Bytes read from disks.",
        _one(lambda seen: seen.total.read_bytes),
    ),
    Metric(
        "ocr_disk_written_bytes_total",
        "counter",
        "Bytes written to disks.",
        _one(lambda seen: seen.total.written_bytes),
    ),
    Metric("ocr_reads_total", "counter", "Read calls.", _one(lambda seen: seen.total.reads)),
    Metric("ocr_writes_total", "counter", "Write calls.", _one(lambda seen: seen.total.writes)),
    Metric(
        "ocr_read_calls_bytes_total",
        "counter",
        "Bytes that read calls gave, from disk or from memory.",
        _one(lambda seen: seen.total.read_call_bytes),
    ),
    Metric(
        "ocr_major_page_faults_total",
        "counter",
        "Pages of memory that had to come from a disk first.",
        _one(lambda seen: seen.total.major_faults),
    ),
    Metric(
        "ocr_network_received_bytes_total",
        "counter",
        "Bytes that the machine received, without loopback.",
        _one(lambda seen: seen.total.received_bytes),
    ),
    Metric(
        "ocr_network_sent_bytes_total",
        "counter",
        "Bytes that the machine sent, without loopback.",
        _one(lambda seen: seen.total.sent_bytes),
    ),
    Metric(
        "ocr_disk_free_bytes",
        "gauge",
        "Bytes free in the file system that the run writes to.",
        _one(lambda seen: seen.reading.disk_free),
    ),
    Metric(
        "ocr_disk_size_bytes",
        "gauge",
        "Bytes of that file system.",
        _one(lambda seen: seen.reading.disk_size),
    ),
    Metric(
        "ocr_gpu_busy_ratio",
        "gauge",
        "Share of the last moments in which a GPU worked.",
        _gpus(lambda gpu: gpu.busy),
    ),
    Metric(
        "ocr_gpu_memory_bytes",
        "gauge",
        "Bytes taken on a GPU, by whomever.",
        _gpus(lambda gpu: gpu.memory),
    ),
    Metric(
        "ocr_gpu_memory_size_bytes",
        "gauge",
        "Bytes of memory of a GPU.",
        _gpus(lambda gpu: gpu.memory_size),
    ),
    Metric("ocr_alert", "gauge", "Whether the alert of a rule holds: 1 or 0.", _alerts_on),
    Metric(
        "ocr_alerts_raised_total",
        "counter",
        "How often the alert of a rule was raised.",
        _alerts_raised,
    ),
)
"""All that a run shows."""
