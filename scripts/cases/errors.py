"""What is wrong with the data of a case, said by an exception whose message names the file and the remedy."""

from __future__ import annotations

import zlib

from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

try:
    from starlette.exceptions import HTTPException as HttpError
except ImportError:
    HttpError = Exception  # type: ignore[assignment, misc]

READ_ERRORS = (OSError, ValueError, EOFError, MemoryError, OverflowError, zlib.error, ImageFileError, HeaderDataError)


class CaseError(HttpError):
    """The data of a case cannot be used; the message names the file and says the remedy.

    Where Starlette is installed it is one of its HTTP errors, so that a server that runs the bundle (MONAI Label)
    answers a bad request with this message and the code 422 rather than with "Internal Server Error".
    """

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)
        self.status_code, self.detail, self.headers = 422, message, None

    def __str__(self) -> str:
        return self.detail


class UnreadableCase(CaseError):
    """A file cannot be read: the case has no initial mask, and nothing is written."""


class UnrefinableCase(CaseError):
    """The mask can be read but not refined: it is passed through."""
