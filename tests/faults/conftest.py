"""Finds the modules of this folder, and cleans up after nothing: each test has servers of its own."""

from __future__ import annotations

import sys
from pathlib import Path

# What the tests stand on lies beside them, in no package.
sys.path.append(str(Path(__file__).parent))
