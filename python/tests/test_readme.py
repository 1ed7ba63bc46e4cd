"""What README.md shows works as it stands there, each block by itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hothouse import Client

from .server import Server

TEXT = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
HEADINGS = [re.findall(r"^#+ (.*)$", TEXT[: TEXT.index(block)], re.MULTILINE)[-1] for block in BLOCKS]


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 10
    assert len(SHELL_BLOCKS) == 4


@pytest.mark.parametrize("block", BLOCKS, ids=HEADINGS)
def test_a_block_works(block: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


CURL = """\
set -e
curl() {
  # An answer with an error fails the test; a stream of events has no end, so its time is up.
  command curl --silent --show-error --fail --max-time 3 "$@" || [ $? = 28 ]
}
"""


def test_the_same_works_with_curl(start: Callable[..., Server]) -> None:
    server = start()
    environment = {**os.environ, "HOTHOUSE_SERVER": server.url, "ID": "example"}
    with Client(server.url) as client:
        client.create(id="example", secrets={"TOKEN": "s3cr3t"})
        client.group(1, id="example")
        client.templates.put("py", memory_bytes=128 << 20)
        client.pools.create("warm", template="py", min=0, max=1)
        for block in SHELL_BLOCKS:
            done = subprocess.run(
                ["/bin/sh", "-c", CURL + block],
                capture_output=True,
                text=True,
                timeout=50,
                check=False,
                env=environment,
            )
            assert done.returncode == 0, (block, done.stdout, done.stderr)
        assert len([info for info in client.sandboxes(labels={"run": "42"})]) == 1
        assert len([info for info in client.sandboxes(labels={"run": "43"})]) == 3
        assert [info for info in client.sandboxes(labels={"job": "7"})] == []
