"""Reads FHIR R4 resources with the published fhir.resources. Argument: a file of resources, one a line."""

import importlib
import json
import sys
from collections import Counter
from datetime import datetime


def model_of(kind):
    """R4B changed none of the resources that are read here; there are no models of R4 alone."""
    return getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)


def differences(sent, read, path=""):
    """Where what was read, written again, says other than what was sent."""
    if isinstance(sent, dict) and isinstance(read, dict):
        for name in sorted(set(sent) | set(read)):
            yield from differences(sent.get(name), read.get(name), f"{path}/{name}")
    elif isinstance(sent, list) and isinstance(read, list) and len(sent) == len(read):
        for at, (one, other) in enumerate(zip(sent, read)):
            yield from differences(one, other, f"{path}/{at}")
    elif path == "/entry" and sent == [] and read is None:
        return  # "Empty if none found", says the specification of PDS; FHIR has no empty lists.
    elif sent != read and moment(sent) != moment(read):
        yield f"{path}: {sent!r} was read as {read!r}"


def moment(text):
    """The same time has several spellings."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return text


failures, read = Counter(), Counter()
for line in open(sys.argv[1], encoding="utf-8"):
    sent = json.loads(line)
    kind = sent["resourceType"]
    try:
        again = json.loads(model_of(kind).model_validate_json(line).model_dump_json())
    except Exception as error:  # pydantic's own, and those of its validators
        failures[f"{kind}: {str(error)[:600]}"] += 1
        continue
    read[kind] += 1
    for entry in sent.get("entry", []):
        read[entry["resource"]["resourceType"]] += 1
    for difference in differences(sent, again):
        failures[f"{kind}{difference[:200]}"] += 1

print(", ".join(f"{count} {kind}" for kind, count in sorted(read.items())))
for failure, count in failures.most_common(20):
    print(f"{count} times {failure}")
sys.exit(1 if failures or not read else 0)
