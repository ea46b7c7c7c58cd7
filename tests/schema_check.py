"""Checks payloads, one JSON text a line on standard input, against the JSON Schema in the file of the first argument.

Prints each violation and exits 1 if there is any, or if nothing was read.
"""

import json
import sys

try:
    import jsonschema
except ImportError:
    sys.exit("python3-jsonschema is missing: apt-get install -y python3-jsonschema")

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
checked = 0
bad = 0
for line in sys.stdin:
    checked += 1
    for error in validator.iter_errors(json.loads(line)):
        bad += 1
        print(f"payload {checked}: {error.json_path}: {error.message}")
print(f"checked {checked}")
sys.exit(1 if bad or not checked else 0)
