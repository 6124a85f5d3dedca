"""Answers in JSON, and mistakes as one sentence with the status that fits."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from entrocraft.app.errors import ConflictError, NotFoundError
from entrocraft.app.gate import Refusal
from entrocraft.errors import EntrocraftError, os_error_line
from entrocraft.runs.lines import finite


def to_json(data: Any) -> str:
    """Return data as JSON; what is not finite is null, as no browser reads NaN."""
    return json.dumps(finite(data), allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def answer(data: Mapping[str, Any], status: int = 200) -> Response:
    """Return data as the answer to a request."""
    return Response(to_json(data).encode("utf-8", "replace"), status, media_type="application/json")


def status_of(error: Exception) -> int:
    """Return the status that an error is answered with."""
    match error:
        case Refusal():
            return error.status
        case HTTPException():
            return error.status_code
        case NotFoundError():
            return 404
        case ConflictError():
            return 409
        case EntrocraftError():
            return 422
        case OSError():  # a full disk, a folder that cannot be written to
            return 409
    return 500


def mistake(request: Request, error: Exception) -> Response:
    """Return an error as the answer to a request."""
    status = status_of(error)
    if isinstance(error, HTTPException):
        message = {404: "there is nothing here", 405: "that cannot be done here"}.get(status, str(error.detail))
    elif isinstance(error, OSError) and not isinstance(error, EntrocraftError):
        message = os_error_line(error)
    elif status == 500:
        message = "the server made a mistake; what it was stands in its terminal"
    else:
        message = str(error)
    return answer({"message": message}, status)
