"""What scripts/lowest needs: the lowest versions, and digests of what is drawn.

python scripts/lowest.py requirements EXTRA ...   pins of the lowest versions, one a line
python scripts/lowest.py extras EXTRA ...         the same of these extras alone
python scripts/lowest.py digests SAMPLE           SHA-256 of labels and samples, one a line
python scripts/lowest.py parquet SAMPLE           writes the annotations of val as Parquet
python scripts/lowest.py by-url STORE             reads a store behind a URL as well as locally
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def requirements(extras: list[str], package: bool = True) -> Iterator[str]:
    """The lower bound of each requirement of these extras, and of the package itself, as a pin.

    Of extras that are made of others only what they add.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["optional-dependencies"][extra] for extra in extras]
    groups += [project["dependencies"]] * package
    for requirement in [requirement for group in groups for requirement in group]:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[.*\])?>=([0-9][^,;\s]*)", requirement)
        if match:
            yield f"{match[1]}=={match[2]}"
        elif not requirement.startswith("ocr-precompute["):
            sys.exit(f"pyproject.toml: {requirement!r} is not of the form name>=version")


def digests(sample: Path) -> Iterator[str]:
    """Digests of all maps of random polygons in all recipes, and of the samples of a dataset.

    sample: a folder that scripts/make_sample_data.py made.
    """
    import numpy as np

    from ocr_precompute.annotations import read_annotations
    from ocr_precompute.format.schema import MAPS
    from ocr_precompute.parameters import RECIPES, Parameters
    from ocr_precompute.targets.maps import make_targets
    from ocr_precompute.targets.sample import compute_sample

    for seed in range(100):
        random = np.random.default_rng(seed)
        polygons, ignore = _polygons(random), random.random(20) < 0.2
        for recipe in RECIPES:
            targets = make_targets(polygons, ignore, (480, 640), recipe)
            for field in ("prob", "prob_mask", "thresh", "thresh_mask"):
                digest = hashlib.sha256(getattr(targets, field).tobytes()).hexdigest()
                yield f"{digest} labels {seed} {recipe} {field}"
    images = sample / "images" / "val"
    for annotation in read_annotations(sample / "jsons" / "val.json", images).annotations:
        data = (images / annotation.name).read_bytes()
        made = compute_sample(annotation.name, data, annotation.polygons, Parameters(), 2**27)
        for field in (*MAPS, "matrix"):
            digest = hashlib.sha256(getattr(made, field).tobytes()).hexdigest()
            yield f"{digest} {annotation.name} {field}"


def _polygons(random: Any) -> list[Any]:
    """20 polygons of three to eight vertices; some leave the image, some are very small."""
    import numpy as np

    made = []
    for _ in range(20):
        angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 9)))
        around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        made.append(random.uniform(-20, 660, 2) + around * random.uniform(2, 120, 2))
    return made


def parquet(sample: Path) -> Iterator[str]:
    """Write the annotations of a dataset beside it as Parquet, three rows a row group."""
    from pyarrow import Table
    from pyarrow.parquet import write_table

    images = json.loads((sample / "jsons" / "val.json").read_text())["images"]
    rows = [
        {**image, "name": name, "words": list(image["words"].values())}
        for name, image in sorted(images.items())
    ]
    write_table(Table.from_pylist(rows), sample / "val.parquet", row_group_size=3)
    yield json.dumps({"rows": len(rows)})


def by_url(store: Path) -> Iterator[str]:
    """Read a store behind a URL, and compare it with the same one as local files."""
    import numpy as np

    from ocr_precompute import open_store
    from ocr_precompute.format.schema import MAPS
    from ocr_precompute.storage.objects import Objects

    for path in (path for path in store.rglob("*") if path.is_file()):
        Objects("memory://lowest/store").put(path.relative_to(store).as_posix(), path.read_bytes())
    local, remote = open_store(store).split("val"), open_store("memory://lowest/store").split("val")
    for index in range(len(local)):
        for field in (*MAPS, "matrix"):
            if not np.array_equal(getattr(local[index], field), getattr(remote[index], field)):
                sys.exit(f"{local.names[index]}: {field} is read otherwise through a URL")
    yield json.dumps({"samples": len(local)})


def main() -> None:
    """Print what the first argument asks for."""
    name, *arguments = sys.argv[1:]
    if name in ("requirements", "extras"):
        lines = requirements(arguments, package=name == "requirements")
    else:
        lines = {"digests": digests, "parquet": parquet, "by-url": by_url}[name](Path(arguments[0]))
    for line in lines:
        print(line)


if __name__ == "__main__":
    main()
