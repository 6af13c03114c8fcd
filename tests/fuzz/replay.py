"""Run a kept input again, and tell the time of each part: `python tests/fuzz/replay.py build/fuzz/FILE`.

The name of the file begins with that of its target. Ends with 1 when the input fails.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import measures
import targets


def main(path: Path) -> int:
    """Run the input of a file."""
    measures.settle()
    target = targets.TARGETS[path.name.partition("-")[0]]
    try:
        found = measures.least_times(target, path.read_bytes())
    except Exception as exc:  # noqa: BLE001 - whatever comes out is what is looked for
        print(measures.fault(target, exc).what, file=sys.stderr)
        return 1
    print(json.dumps(found))
    return int(measures.slowness(target, path.read_bytes(), found) is not None)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
