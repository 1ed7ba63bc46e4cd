"""The package as others get it: built, installed into a clean environment, and used without any setting."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]


def output(*command: str | Path, **variables: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_a_wheel_works_in_a_clean_environment(binary: str, tmp_path: Path) -> None:
    output(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, HERE)
    (wheel,) = tmp_path.glob("hothouse-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "hothouse/py.typed" in names
    assert not [name for name in names if not name.startswith("hothouse")], "only the package is in it"
    output(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    output(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    place = tmp_path / "bin"
    place.mkdir()
    (place / "hothouse").symlink_to(binary)
    lines = "import hothouse\nwith hothouse.Sandbox.create() as sandbox:\n    print(sandbox.run('echo works').stdout)"
    variables = {"HOTHOUSE_BINARY": "", "PATH": f"{place}:{os.environ['PATH']}", "PYTHONPATH": ""}
    assert output(python, "-W", "error", "-c", lines, **variables) == "works\n\n"
    # Nothing that is optional is there, and environments work all the same.
    lines = (
        "from hothouse.env import Environment, create_app\n"
        "from hothouse.worker import zygote\n"
        "class Bare(Environment):\n"
        "    def step(self, action): return {'seen': action}\n"
        "print(create_app(Bare, dict, dict).session().step(b'{\"a\": 1}').splitlines()[0].decode())"
    )
    assert output(python, "-W", "error", "-c", lines, **variables) == '{"seen":{"a":1}}\n'
    located = output(python, "-c", "import hothouse; print(hothouse.__version__, hothouse.__file__)", **variables)
    assert str(tmp_path / "venv") in located
    assert located.startswith("0.1.0 ")
