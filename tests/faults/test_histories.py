"""Ten thousand acknowledged writes while everything fails: nothing is lost, doubled, out of order or untrue.

The long version is `make soak`. USHER_FAULTS_SEED brings back the load and the faults of a run; what a run
that fails leaves behind is kept in `build/faults`.
"""

from __future__ import annotations

from pathlib import Path

import nemeses
import runs
import uvloop
from rich.console import Console

ACKNOWLEDGED = 10_000


def test_ten_thousand_writes_survive_every_fault(tmp_path: Path) -> None:
    seed = runs.seed()
    print(f"USHER_FAULTS_SEED={seed}")
    result = uvloop.run(runs.run(tmp_path, seed, acknowledged=ACKNOWLEDGED, pause=1.5, later=8.0))
    runs.show(result, Console(width=140))
    if result.violations:
        print(f"kept in {runs.keep(result)}")
    assert result.violations == []
    assert result.acknowledged >= ACKNOWLEDGED
    faults = {*nemeses.SERVERS, *nemeses.LINKS, "worker killed by a change"}
    assert faults <= {name for name, count in result.struck.items() if count}
    # While one slept in the middle of a transaction, others went on; what it held it never committed.
    assert result.naps
    assert result.committed_during_naps > 0
    assert any(evidence.dead_letters for evidence in result.found.values())
