"""Where a recording shows what a server does otherwise on purpose: each with its reason."""

from __future__ import annotations

import os

SANDBOX = "code runs as Python in a sandbox, not in an interpreter that forbids words"
ENDLESS = "not played"
"""An endless loop ends after a number of turns there, and by the step's time limit here: a test would wait for that."""
OUTPUT = "the interpreter cuts what is printed at 50,000 characters in its own words"

OURS: dict[str, dict[str, str]] = {
    stem: {
        "import os": SANDBOX,
        "import  os  # short": SANDBOX,
        "import subprocess": SANDBOX,
        "import sys": SANDBOX,
        "import numpy": SANDBOX,
        "open('/etc/passwd').read()": SANDBOX,
        "eval('1+1')": SANDBOX,
        "exec('a=1')": SANDBOX,
        "__import__('os')": SANDBOX,
        "x = ().__class__.__bases__": SANDBOX,
        "input('q')": SANDBOX,
        # An unknown name is a NameError of Python's here, and an InterpreterError there.
        "print(undef)": SANDBOX,
        "final_answer(42)": SANDBOX,
        "while True:\n    pass": ENDLESS,
        "print('x'*60000)": OUTPUT,
    }
    for stem in ("http_seed_coding", "ws_0.10_coding")
}

WORDS = "the text of a SyntaxError is CPython's own"
LAST = "the value of the last expression is shown, not that of a last assignment"
OURS["http_seed_coding"] |= {"print('Hello'": WORDS}
OURS["ws_0.10_coding"] |= {"x = 'a'*200\n" + "y = 1\n" * 8: LAST}

MORE = "what today's servers have is there beside what the first ones had"
OURS["http_seed_echo"] = {
    "schema": MORE,
    "metadata": MORE,
    "openapi": MORE,
    "web": MORE,
    "root": MORE,
    "state": "a step that fails is none; there it was counted",
}

SHORT = "the recording shows only the beginning of this code"
OURS["http_seed_coding"] |= {
    "#aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": SHORT,
    "import time\nimport random\nimport re\nimport collections\nimport datetime": SHORT,
}

REFERENCE: dict[str, dict[str, str]] = {
    "http_seed_echo": {
        "step no action key": "0.1.1 takes the whole body for the action; the recorded commit before it did not",
        "state": "so that was one step more",
    },
}


def allowed(stem: str, name: str) -> str | None:
    """Why this part of a recording is not compared in full, if it is not."""
    known = (REFERENCE if "OPENENV_REFERENCE" in os.environ else OURS).get(stem, {})
    return known.get(name) or known.get(name[:60])
