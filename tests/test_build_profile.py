"""A build's profile: verdicts on evidence made up, and what is written of real builds."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Dataset, published, run

from ocr_precompute.errors import InputError
from ocr_precompute.pipeline import profile
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.plan import Plan
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.profiling.building import TRY, AtWork, Evidence, verdict
from ocr_precompute.runtime.events import Event, Stretch
from ocr_precompute.runtime.stages import Times, Totals
from ocr_precompute.settings import Settings, load_settings


def totals(stages: dict[str, float], **waits: float) -> Totals:
    return Totals(
        {name: Times.of([seconds]) for name, seconds in stages.items()},
        {name: Times.of([seconds]) for name, seconds in waits.items()},
    )


def evidence(
    tasks: dict[str, float], alone: dict[str, float] | None = None, **more: Any
) -> Evidence:
    """100 s of a build on two cores: tasks by two workers, and what one process did alone."""
    threads = more.pop("threads", 0.0)
    given = {"at_work": AtWork(2), "worth": 2, "cores": 2.0, "processor": 0.95, **more}
    all_of_it = totals(alone or {}, threads=threads) + totals(tasks)
    return Evidence(seconds=100.0, totals=all_of_it, tasks=totals(tasks), **given)


USUAL = {"decode": 60.0, "resize": 20.0, "pack": 90.0, "read": 4.0, "write": 4.0}
WAITS = {"decode": 20.0, "pack": 20.0, "read": 100.0, "write": 40.0}


@pytest.mark.parametrize(
    ("bottleneck", "seen", "seconds"),
    [
        ("processor", evidence(USUAL), 100),
        ("processor", evidence(USUAL, {"annotations": 20, "plan": 5}), 75),
        ("disk", evidence(WAITS, processor=0.3), 100 * 140 / 180),
        ("disk", evidence(WAITS, processor=None), 100 * 140 / 180),
        ("processor", evidence(WAITS, processor=0.97), 100),  # read from memory, then
        (
            "disk",
            evidence({"pack": 20.0}, {"read": 70, "look": 10}, threads=80, processor=0.2),
            70,
        ),
        ("workers", evidence(USUAL, at_work=AtWork(1, idle=45), processor=0.5), None),
        ("processor", evidence(USUAL, at_work=AtWork(2, idle=9)), None),
        ("scan", evidence({"pack": 40.0}, {"annotations": 50, "scan": 10, "publish": 20}), 80),
        ("scan", evidence({"pack": 40.0}, {"look": 70, "read": 10}, threads=80, processor=0.6), 70),
        ("disk", evidence({"read": 199.9, "pack": 0.1}, processor=0.1), 99.95),
        ("start-up", evidence({"pack": 2.0, "compile": 20.0}, at_work=AtWork(2, 80)), 90),
    ],
)
def test_the_largest_part_is_named(bottleneck: str, seen: Evidence, seconds: float | None) -> None:
    said = verdict(seen)
    assert said is not None
    assert said.bottleneck == bottleneck
    assert sum(seen.parts().values()) == pytest.approx(100)
    assert list(seen.parts().values()) == sorted(seen.parts().values(), reverse=True)
    assert all(part >= 0 for part in seen.parts().values())
    assert said.share == pytest.approx(seen.parts()[bottleneck] / 100)
    if seconds is not None:
        assert said.share == pytest.approx(seconds / 100)
        assert said.gain == pytest.approx(1 / (1 - min(said.share, 0.99)))
    assert set(TRY[bottleneck]) <= set(said.advice)
    assert "e+" not in said.line
    assert said.line.startswith(f"bound by {bottleneck}, {100 * said.share:.0f} % of the time")


@pytest.mark.parametrize(
    ("stage", "advice"),
    [
        ("decode", "--decode reduced"),
        ("pack", "compression"),
        ("offset", "vertices"),
        ("resize", "more cores"),
        ("labels", "more cores"),
    ],
)
def test_advice_depends_on_the_stage_that_takes_most(stage: str, advice: str) -> None:
    said = verdict(evidence({**dict.fromkeys(("decode", "pack"), 20.0), stage: 150.0}))
    assert said is not None
    assert said.bottleneck == "processor"
    assert any(f"the stage {stage} took most, 150.00 s" in line for line in said.evidence)
    assert advice in said.advice[0]


def test_what_is_done_already_is_not_advised() -> None:
    said = verdict(evidence({"decode": 150.0}, reduced=True))
    assert said is not None
    assert not any("reduced" in line for line in said.advice)


def test_workers_are_few_for_a_reason() -> None:
    few = evidence(USUAL, at_work=AtWork(1, idle=45), worth=4, processor=0.2)
    asked, ended = verdict(few), verdict(replace(few, short_of_memory=True))
    assert asked is not None
    assert ended is not None
    assert asked.bottleneck == ended.bottleneck == "workers"
    assert asked.gain == pytest.approx(100 / 55)  # and not as if the work itself were gone
    assert asked.advice[0] == "--jobs 4"
    assert "memory" in ended.advice[0]
    assert "memory was short, and workers were ended for it" in ended.evidence
    one_by_one = verdict(replace(few, sequential=True))
    assert one_by_one is not None
    assert one_by_one.advice[0].startswith("--backend loky")


def test_a_short_build_says_that_it_says_little() -> None:
    said = verdict(replace(evidence({"pack": 1.0}), seconds=2.0))
    longer = verdict(evidence(USUAL))
    assert said is not None
    assert longer is not None
    assert "the build took 2.0 s only" in said.evidence[-1]
    assert not any("only" in line for line in longer.evidence)


def test_nothing_is_said_of_a_build_that_encoded_nothing() -> None:
    assert verdict(evidence({}, {"annotations": 90.0})) is None


def shard(process: int, start: float, seconds: float) -> Stretch:
    inside = Event("decode", False, start, start + 1.0, 1.0)
    around = Event("other", False, start, start + seconds, seconds - 1.0)
    return Stretch(process, 1, "", 0.0, (inside, around))


def test_when_workers_were_at_work() -> None:
    here = Stretch(1, 1, "", 0.0, (Event("plan", False, 1.0, 5.0, 4.0),))
    assert AtWork.of([here], 2) == AtWork()
    alone = [shard(1, 5.0 + 10 * number, 10.0) for number in range(10)]
    assert AtWork.of([here, *alone], 2) == AtWork(1, 0.0, 45.0)  # while nine of ten were taken
    assert AtWork.of([here, *alone], 1) == AtWork(1, 0.0, 0.0)
    both = [shard(2 + number % 2, 8.0 + number // 2 * 10, 10.0) for number in range(10)]
    assert AtWork.of([here, *both], 2) == AtWork(2, 3.0, 0.0)
    assert AtWork.of([here, *both], 4).idle == pytest.approx(20.0)
    assert AtWork.of([here, alone[0]], 2).idle == 0  # a single one leaves none to be taken


PROFILE = (profile.DATA, profile.PAGE, profile.TRACE)


def trace_of(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / profile.TRACE).read_text())["traceEvents"]
    return [event for event in found if event["ph"] == "X"]


@pytest.mark.parametrize(("backend", "jobs"), [("sequential", 1), ("threading", 2), ("loky", 2)])
def test_a_trace_holds_all_that_was_done_whoever_did_it(
    dataset: Dataset, tmp_path: Path, backend: str, jobs: int
) -> None:
    chosen = {"store": tmp_path / "store", "size": 320, "shard_length": 2, "jobs": jobs}
    settings = Settings.model_validate({**chosen, "backend": backend, "profile": tmp_path / "p"})
    report = build("val", dataset.source, settings)
    events = trace_of(tmp_path / "p")
    counts = Counter((event["cat"], event["name"]) for event in events)
    own: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        own[event["cat"], event["name"]] += event["args"]["own"] / 1e6
    recorded = {("stage", n): t for n, t in report.recorded.stages.items()}
    recorded |= {("wait", n): t for n, t in report.recorded.waits.items()}
    assert counts == {kind: times.count for kind, times in recorded.items()}
    for kind, times in recorded.items():
        assert own[kind] == pytest.approx(times.seconds, abs=1e-8 * times.count)

    lanes = {(event["pid"], event["tid"]) for event in events if event["name"] == "other"}
    assert len(lanes) == jobs
    processes = {process for process, _ in lanes}
    assert (os.getpid() in processes) == (backend != "loky")
    assert len(processes) == (2 if backend == "loky" else 1)
    (plan,) = (event for event in events if event["name"] == "plan")
    (publish,) = (event for event in events if event["name"] == "publish")
    slack = 50_000  # microseconds; clocks that are not the same would be off by years
    for event in events:
        if event["name"] == "other":
            assert plan["ts"] + plan["dur"] - slack < event["ts"]
            assert event["ts"] + event["dur"] < publish["ts"] + slack
    decoded = {event["args"]["of"] for event in events if event["name"] == "decode"}
    assert decoded == {f"page_{number:03d}.jpg" for number in range(24)}


@pytest.mark.parametrize("backend", ["sequential", "loky"])
def test_the_store_is_the_same_with_a_profile_and_without(
    dataset: Dataset, tmp_path: Path, backend: str
) -> None:
    for name, more in (("on", {"profile": tmp_path / "profile"}), ("off", {})):
        chosen = {"store": tmp_path / name, "size": 64, "shard_length": 8, "jobs": 2}
        settings = Settings.model_validate({**chosen, "backend": backend, **more})
        build("val", dataset.source, settings)
    assert published(tmp_path / "on") == published(tmp_path / "off")
    assert sorted(path.name for path in (tmp_path / "profile").iterdir()) == sorted(PROFILE)


def test_the_report_says_what_bounds_the_build(dataset: Dataset, tmp_path: Path) -> None:
    dataset.add('odd "name" <b> \u2028.jpg')
    dataset.save()
    flags = [*dataset.flags(), "--store", tmp_path / "store", "--size", "64", "--json"]
    done = run("build", *flags, "--profile", "new/profile", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document, folder = json.loads(done.stdout), tmp_path / "new" / "profile"
    said, page = document["verdict"], (folder / profile.PAGE).read_text()
    assert said["bottleneck"] in TRY
    assert page.startswith(f"# Bound by {said['bottleneck']}\n")
    assert all(line in page for line in (*said["evidence"], *said["advice"]))
    line = next(line for line in done.stderr.splitlines() if line.startswith("bound by "))
    assert line.startswith(f"bound by {said['bottleneck']}, ")
    assert line.endswith("(new/profile/report.md)")
    assert document["profile"] == "new/profile/report.md"
    data = json.loads((folder / profile.DATA).read_text())
    assert data["verdict"] == said
    assert data["stages"] == document["stages"]
    assert data["resources"] == document["resources"]
    assert sum(data["parts"].values()) == pytest.approx(document["seconds"])
    assert f"shows {data['events']['kept']:,} stages and waits" in page
    assert data["events"]["kept"] == len(trace_of(folder))
    assert "leaves out" not in page
    assert 'odd "name" <b> \u2028.jpg' in {event["args"].get("of") for event in trace_of(folder)}


@pytest.mark.parametrize("dry", [False, True])
def test_a_build_that_has_nothing_to_do_says_so(
    dataset: Dataset, tmp_path: Path, dry: bool
) -> None:
    flags = [*dataset.flags(), "--store", tmp_path / "store", "--size", "64"]
    if not dry:
        assert run("build", *flags, cwd=tmp_path).returncode == 0
    more = ["--dry-run"] if dry else []
    done = run("build", *flags, *more, "--profile", "p", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] is None
    assert "nothing was built, so nothing bounds it (p/report.md)" in done.stderr
    page = (tmp_path / "p" / profile.PAGE).read_text()
    assert page.startswith("# Nothing was built\n")
    assert "bound by" not in page.lower()
    assert json.loads((tmp_path / "p" / profile.DATA).read_text())["parts"] == {}
    assert {"scan", "plan"} <= {event["name"] for event in trace_of(tmp_path / "p")}


def test_nothing_happens_unless_asked_for(dataset: Dataset, settings: Settings) -> None:
    report = build("val", dataset.source, settings)
    assert (report.verdict, report.profile) == (None, None)
    assert report.as_dict()["verdict"] is None
    around = settings.store.parent
    assert not [path for name in PROFILE for path in around.rglob(name)]


def test_a_trace_is_bounded_and_says_so(
    dataset: Dataset, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "MOST", 60)
    settings = settings.model_copy(update={"profile": tmp_path / "p", "shard_length": 4})
    report = build("val", dataset.source, settings)
    events = trace_of(tmp_path / "p")
    left_out = json.loads((tmp_path / "p" / profile.DATA).read_text())["events"]["left_out"]
    done = (*report.recorded.stages.values(), *report.recorded.waits.values())
    assert len(events) + left_out == sum(times.count for times in done)
    names = Counter(event["name"] for event in events)
    assert names["decode"] < 24
    assert names["other"] == report.built
    page = (tmp_path / "p" / profile.PAGE).read_text()
    assert f"It leaves out {left_out:,}: of each kind" in page
    assert report.recorded.stages["decode"].count == 24


@pytest.mark.parametrize("inside", [".", "profile", "shards/profile", "../link/profile"])
def test_a_folder_in_the_store_is_refused(
    dataset: Dataset, settings: Settings, inside: str
) -> None:
    (settings.store.parent / "link").symlink_to(settings.store)
    wanted = settings.model_copy(update={"profile": settings.store / inside})
    with pytest.raises(InputError, match="profile: this folder lies inside the store; name an"):
        build("val", dataset.source, wanted)
    assert not settings.store.exists()


def test_a_folder_that_cannot_be_written_is_refused(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        wanted = settings.model_copy(update={"profile": folder})
        with pytest.raises(InputError, match=r"profile: this folder cannot be written: .*; name"):
            build("val", dataset.source, wanted)
    assert not settings.store.exists()


@pytest.mark.parametrize("name", PROFILE)
def test_files_of_others_are_not_replaced(
    dataset: Dataset, settings: Settings, tmp_path: Path, name: str
) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / name).write_text('{"mine": 1}')
    wanted = settings.model_copy(update={"profile": tmp_path / "p"})
    with pytest.raises(InputError, match=f"holds a {name} that is not of a build's profile"):
        build("val", dataset.source, wanted)
    assert (tmp_path / "p" / name).read_text() == '{"mine": 1}'
    (tmp_path / "p" / name).unlink()
    (tmp_path / "p" / "notes.txt").write_text("mine")
    for _ in range(2):  # a profile takes an earlier one's place
        assert build("val", dataset.source, wanted).profile == str(tmp_path / "p" / profile.PAGE)
    assert (tmp_path / "p" / "notes.txt").read_text() == "mine"


def test_a_profile_needs_the_monitor() -> None:
    with pytest.raises(InputError, match="monitor is off, which profile cannot do without"):
        load_settings(None, {"monitor": False, "profile": "p"})


def test_a_build_is_done_though_its_profile_cannot_be_written(
    dataset: Dataset, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Obstructing(Progress):
        def planned(self, plan: Plan) -> None:
            shutil.rmtree(tmp_path / "p")
            (tmp_path / "p").write_text("in the way")

    wanted = settings.model_copy(update={"profile": tmp_path / "p"})
    with caplog.at_level(logging.WARNING, "ocr_precompute"):
        report = build("val", dataset.source, wanted, progress=Obstructing())
    (said,) = (r.getMessage() for r in caplog.records if r.getMessage().startswith("profile: "))
    assert said.endswith("; the build is done, and its profile is not complete")
    assert (tmp_path / "p").read_text() == "in the way"
    assert report.built > 0
    assert report.verdict is not None
    assert report.profile is None
    assert (settings.store / "splits" / "val.json").exists()
