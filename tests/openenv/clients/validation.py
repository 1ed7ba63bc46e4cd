"""`openenv validate --url`: what the package itself says of a running server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from checks import Report, same


def run(report: Report, url: str) -> None:
    """Each of its criteria is a check."""
    with report.check("openenv validate"):
        program = Path(sys.executable).with_name("openenv")
        ended = subprocess.run(
            [program, "validate", "--url", url, "--json"], capture_output=True, text=True, timeout=120, check=False
        )
        verdict = json.loads(ended.stdout)
        for criterion in verdict["criteria"]:
            with report.check(criterion["id"]):
                assert criterion["passed"], criterion
        same((ended.returncode, verdict["passed"], verdict["mode"]), (0, True, "simulation"))
        same((verdict["summary"]["passed_count"], verdict["summary"]["total_count"]), (6, 6))
