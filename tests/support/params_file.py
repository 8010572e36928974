"""`params.yaml` as the repository has it, and with some keys changed."""

import copy
from pathlib import Path

import yaml

FILE = Path(__file__).parents[2] / "params.yaml"
GOOD = yaml.safe_load(FILE.read_text())
GONE = object()


def written(folder, changes):
    """The repository's file with some keys changed, as dotted path → value."""
    values = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = values
        for name in parents:
            section = section[name]
        if value is GONE:
            del section[last]
        else:
            section[last] = value
    target = folder / "params.yaml"
    target.write_text(yaml.safe_dump(values, sort_keys=False))
    return target
