#!/usr/bin/env python3
"""Make the pictures of README and docs from what scripts/quickstart leaves behind.

A sample with its labels, and the gallery and the training's report as the system's Chromium shows
them. Needs the extra `dev`, and the whole quickstart run before.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Page, ViewportSize, sync_playwright

from ocr_precompute import open_store
from ocr_precompute.images.pictures import outlined
from ocr_precompute.reports.gallery import write_gallery
from ocr_precompute.samples import CanonicalSample

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "pictures"
HEIGHT = 420  # of the picture of labels
WINDOW: ViewportSize = {"width": 1180, "height": 760}
QUALITY = 82  # of a JPEG


def labels(sample: CanonicalSample) -> np.ndarray:
    """Image with polygons, probability map and threshold map side by side, without padding, BGR."""
    used = sample.image.any(axis=2)
    rows, columns = np.nonzero(used)
    height, width = int(rows.max()) + 1, int(columns.max()) + 1
    picture = outlined(sample.image, sample.polygons, sample.ignore)
    maps = [(sample.prob * 255).astype(np.uint8), (sample.thresh * 255).astype(np.uint8)]
    panels = [picture, *(cv2.cvtColor(each, cv2.COLOR_GRAY2BGR) for each in maps)]
    scale = HEIGHT / height
    size = (round(width * scale), HEIGHT)
    cut = [cv2.resize(each[:height, :width], size, interpolation=cv2.INTER_AREA) for each in panels]
    gap = np.full((HEIGHT, 12, 3), 255, np.uint8)
    return np.hstack([cut[0], gap, cut[1], gap, cut[2]])


def shot(page: Page, path: Path, picture: str) -> None:
    """What a browser shows of a page at first."""
    page.goto(path.resolve().as_uri())
    page.wait_for_load_state("networkidle")
    page.screenshot(path=OUT / picture, type="jpeg", quality=QUALITY)
    print(OUT / picture)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=ROOT / "data" / "store")
    parser.add_argument("--run", type=Path, help="folder of a training; default: the latest")
    parser.add_argument("--sample", default="receipt_0002.jpg", help="whose labels are shown")
    arguments = parser.parse_args()
    runs = sorted(ROOT.glob("runs/train/version_*/report.html"), key=lambda p: p.stat().st_mtime)
    report = arguments.run / "report.html" if arguments.run else (runs[-1] if runs else None)
    browser = shutil.which("chromium")
    if report is None or not report.exists() or browser is None:
        sys.exit("run scripts/quickstart first, and have Chromium installed")
    OUT.mkdir(parents=True, exist_ok=True)
    split = open_store(arguments.store)["val"]
    picture = labels(split[split.names.index(arguments.sample)])
    cv2.imwrite(str(OUT / "labels.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    print(OUT / "labels.jpg")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        gallery = Path(folder) / "val.html"
        write_gallery(arguments.store, "val", gallery)
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = started.new_page(viewport=WINDOW, color_scheme="light")
        shot(page, gallery, "gallery.jpg")
        shot(page, report, "report.jpg")
        started.close()


if __name__ == "__main__":
    main()
