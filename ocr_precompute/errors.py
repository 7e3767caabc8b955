"""What can go wrong, as data: one problem a line, all problems of a run in one error."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

ProblemKind = Literal["config", "annotations", "image", "polygon"]


def printable(text: str) -> str:
    """The text with control characters escaped, so that a file name cannot drive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def error_lines(error: Exception) -> str:
    """What a command shows of an error: line by line, control characters escaped."""
    return "\n".join(f"error: {printable(line)}" for line in str(error).splitlines())


def one_line(text: object, most: int = 200) -> str:
    """What an error or a text says, in one line of so many characters; if nothing, what it is."""
    return " ".join((str(text) or type(text).__name__).split())[:most]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the input: where, what, and what to do about it.

    kind: `image` and `polygon` can be skipped (`--skip-bad`); the others stop the run.
    sample: the name of the sample it belongs to, where there is one.
    """

    kind: ProblemKind
    file: str
    entry: str
    message: str
    sample: str = ""

    def __str__(self) -> str:
        return printable(": ".join(part for part in (self.file, self.entry, self.message) if part))

    def as_dict(self) -> dict[str, str]:
        """The problem as JSON-ready fields."""
        return asdict(self)


class PrecomputeError(Exception):
    """Any failure this package reports by itself. `str()` is one line that says what to do."""


class InputError(PrecomputeError):
    """The input or the configuration is wrong. Carries every problem found in the run."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ImageError(PrecomputeError):
    """An image cannot be used; the message says why, without naming the file."""


class DamagedImageWarning(UserWarning):
    """An image that was read is damaged; the message names its file and says what is wrong."""


class StoreError(PrecomputeError):
    """The store cannot be read or written, or is not one this version understands."""


class VersionError(StoreError):
    """The store was written by another format version."""


class WorkerError(PrecomputeError):
    """A worker process was lost."""
