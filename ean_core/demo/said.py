"""What the page says where something fails."""

from __future__ import annotations

import logging

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ean_core.demo.limits import RefusedError
from ean_core.errors import UserError

LOG = "ean_core.demo"


def said(error: Exception) -> tuple[int, str]:
    """HTTP's number for an error, and a sentence; what the system says of this machine's files stays on it."""
    if isinstance(error, RequestValidationError):
        problems = {str(problem["loc"][1]): problem["msg"] for problem in error.errors()}
        if "file" in problems:
            return 422, "Choose a file first."
        return 422, f"This was not understood: {'; '.join(f'{field}: {text}' for field, text in problems.items())}."
    if isinstance(error, RefusedError):
        return error.status, str(error)
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    if isinstance(error, UserError):
        return 400, str(error)
    if isinstance(error, OSError):
        logging.getLogger(LOG).warning("%s", error)
        return 400, "A file cannot be read: the terminal says which."
    logging.getLogger(LOG).error("a request failed", exc_info=error)
    return 500, "That failed, and the fault is ours: the terminal says more."
