"""Names of classes that stand in a file of their own, beside annotations that have numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ocr_precompute.annotations.folders import decode_text
from ocr_precompute.files import read_bounded

CLASS_FILES = ("classes.txt", "obj.names")
"""Files of one name per line."""

_CONFIGS = ("data.yaml", "data.yml")
_LARGEST_FILE = 1 << 17  # bytes
_MOST = 10_000  # classes
_NAMES = re.compile(r"^names[ \t]*:", re.MULTILINE)
_SPLITS = re.compile(r"^(?:path|train|val|test|nc)[ \t]*:", re.MULTILINE)


def is_data_yaml(text: str) -> bool:
    """Whether a text is that of YOLO's data.yaml: names of classes, and where images are."""
    return bool(_NAMES.search(text) and _SPLITS.search(text))


def class_names(
    folder: Path, labels: str, config: Path | None, warnings: list[str]
) -> Sequence[str]:
    """The names of classes in the order of their numbers; none if no file tells them.

    Looked for in config, if there is one, or else in the folder and, if it is one called labels or
    lies in one, beside that and one folder further up. A file that cannot be read is said in
    warnings, and classes have numbers then.
    """
    folder = folder.absolute()
    folders = [folder]
    if labels in folder.parts:
        inside = folder.parts[::-1].index(labels)
        root = folder.parents[inside]
        folders += [root, root.parent]
    found = (each / name for each in folders for name in (*_CONFIGS, *CLASS_FILES))
    path = config or next((each for each in found if os.path.isfile(each)), None)
    if path is None:
        return ()
    try:
        text = decode_text(read_bounded(path, _LARGEST_FILE))
        if path.name in CLASS_FILES:
            return tuple(line.strip() for line in text.split("\n") if line.strip())[:_MOST]
        return _names_in(text)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except (yaml.YAMLError, RecursionError):
        reason = "is no YAML that can be read"
    except ValueError as error:
        reason = str(error)
    warnings.append(f"{path}: {reason}; classes are called by their numbers")
    return ()


def _names_in(text: str) -> tuple[str, ...]:
    """The names in a data.yaml. Raises ValueError if there are none."""
    # Its plainest loader: it makes texts only, and joins no mappings, of which a few lines may
    # make millions.
    document = yaml.load(text, Loader=yaml.BaseLoader)
    names: Any = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict) and all(str(n) in names for n in range(min(len(names), _MOST))):
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError('has no list of names under "names"')
    return tuple(names[:_MOST])
