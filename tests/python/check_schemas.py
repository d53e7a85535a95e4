"""Holds recorded exchanges against the response schemas of an OpenAPI file. Arguments: specification, exchanges."""

import json
import re
import sys

import jsonschema
import yaml

specification = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
exchanges = json.load(open(sys.argv[2], encoding="utf-8"))


def template_of(path):
    """The template that fits a path best: the one with the fewest variables."""
    path = path.split("?")[0]
    fitting = []
    for template in specification["paths"]:
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
        if re.fullmatch(pattern, path):
            fitting.append((template.count("{"), template))
    return min(fitting)[1] if fitting else None


failures, checked = [], 0
for exchange in exchanges:
    where = "{method} {path} {accept} -> {status}".format(**exchange)
    template = template_of(exchange["path"])
    operation = specification["paths"].get(template, {}).get(exchange["method"].lower())
    if operation is None:
        continue
    responses = operation["responses"]
    if str(exchange["status"]) not in responses:
        # The specification leaves these out of single calls and names them in its table of statuses.
        if exchange["status"] not in (404, 406, 410, 417, 422, 423):
            failures.append(f"{where}: status not in the specification")
        continue
    content = responses[str(exchange["status"])].get("content") or {}
    wanted = "application/vnd.mesh.v2+json" if "v2" in exchange["accept"] else "application/json"
    schema = (content.get(wanted) or content.get("application/json") or {}).get("schema")
    if not schema or exchange["body"] in (None, "", "null"):
        continue
    if exchange["status"] == 400 and "417" in responses:
        # A header refused for what it says (code 06) has the shape of a refused message, in every implementation.
        refusal = responses["417"]["content"][wanted]["schema"]
        schema = {"anyOf": [schema, {**refusal, "required": ["errorCode"] if "v2" not in wanted else ["detail"]}]}
    try:
        body = json.loads(exchange["body"])
        jsonschema.validate(body, schema)
        checked += 1
    except (ValueError, jsonschema.ValidationError) as error:
        failures.append(f"{where}: {getattr(error, 'message', error)}: {exchange['body'][:300]}")

print(f"{checked} answers fit, {len(failures)} do not, {len(exchanges)} exchanges")
for failure in failures:
    print(failure)
sys.exit(1 if failures or not checked else 0)
