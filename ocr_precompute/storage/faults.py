"""What goes wrong with a store behind a URL, in one true line."""

from __future__ import annotations

import re

from ocr_precompute.errors import StoreError, one_line

# obstore's errors are of few kinds; what is behind one stands in its text, as the fields of
# structures, and of these the first line is for people.
_STATUS = re.compile(r"\bstatus: (\d{3})\b")
_NO_BUCKET = re.compile(r"no ?such ?bucket|specified bucket does not|bucketnotfound", re.IGNORECASE)
# Where there are no credentials, those of the machine are asked for at an address that clouds have.
_NO_CREDENTIALS = re.compile(
    r"169\.254\.169\.254|metadata\.google\.internal|credential", re.IGNORECASE
)
_DENIED = {"PermissionDeniedError", "UnauthenticatedError"}
_SECRETS = re.compile(
    r"(?<=[?&])[^=&\s]*(?:sig|signature|token|key|secret)[^=&\s]*=[^&\s]+|//[^/@\s]+@", re.I
)


class RemoteError(StoreError):
    """A store behind a URL cannot be reached, or may not be used."""


def is_cut(error: BaseException | None) -> bool:
    """Whether an answer of a service came in part."""
    return "response body error" in str(error)


def explanation(error: BaseException, limit: float) -> str | None:
    """What an error of obstore means and what to do; None for one that says what it is about.

    limit: seconds that a request may take.
    """
    text = str(error)
    said = f" ({one_line(_SECRETS.sub('', text.partition(chr(10))[0]))})"
    if _NO_BUCKET.search(text):
        return "there is no such bucket; correct the URL"
    if isinstance(error, FileNotFoundError):
        return None
    failed = _STATUS.search(text)
    if type(error).__name__ in _DENIED or (failed and failed[1] in ("401", "403")):
        return f"access is denied; give credentials that may do this{said}"
    if _NO_CREDENTIALS.search(text):
        return f"access is denied, for there are no credentials; give some in the environment{said}"
    if "kind: Timeout" in text:
        return f"gave no answer within {limit:g} s; see to the network, or set a longer timeout"
    if "kind: Connect" in text:
        return f"cannot be reached; see to the network and the URL{said}"
    if failed and failed[1] >= "500":
        return f"the server fails with status {failed[1]}; try again later"
    return f"the request failed{said}"
