"""Given to schemathesis by schemathesis_pds.py: most requests get a new X-Request-ID and a patient who is there."""

import itertools
import uuid

import schemathesis

COUNT = itertools.count()
NUMBERS = ("9000000009", "9000000017", "9000000025", "9000000041", "9000000068", "9000000076")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Of ten random digits few are an NHS number, and an identifier that came before is refused."""
    at = next(COUNT)
    if at % 8 == 0:
        return
    number = NUMBERS[at % len(NUMBERS)]
    if case.headers is not None:
        case.headers["X-Request-ID"] = str(uuid.uuid4())
        case.headers.pop("NHSD-Session-URID", None)
    if case.path_parameters and "id" in case.path_parameters:
        case.path_parameters["id"] = number
    if case.query and "subscriber:identifier" in case.query:
        case.query["subscriber:identifier"] = NUMBERS[0]
