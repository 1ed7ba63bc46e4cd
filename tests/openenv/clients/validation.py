"""`openenv validate --url`: what the package itself says of a running server."""

from __future__ import annotations

import json

from checks import Report, same
from openenv.cli.__main__ import app
from typer.testing import CliRunner


def run(report: Report, url: str) -> None:
    """Each of its criteria is a check."""
    with report.check("openenv validate"):
        # The command line, in this process: its imports take seconds.
        ended = CliRunner().invoke(app, ["validate", "--url", url, "--json"])
        verdict = json.loads(ended.stdout)
        for criterion in verdict["criteria"]:
            with report.check(criterion["id"]):
                assert criterion["passed"], criterion
        same((ended.exit_code, verdict["passed"], verdict["mode"]), (0, True, "simulation"))
        same((verdict["summary"]["passed_count"], verdict["summary"]["total_count"]), (6, 6))
