# The zygote: an interpreter that has imported what contexts usually need, and forks them. It is the first of three files
# that make one program: interpreter.py evaluates code, branch.py is the life of a context.
#
# Only what comes with Python 3.8 is used. No thread is started, and nothing is kept that a context could be told apart
# by: what a context's owner sends goes to the context alone, never through here.
import ast
import gc
import importlib
import json
import linecache
import os
import random
import signal
import socket
import stat
import struct
import sys
import traceback
import types
import warnings
from base64 import b64encode

OURS = "<hothouse>"
# The guest's end of things, with the numbers that it gave them.
CONTROL = 3
HEADER = struct.Struct("<cI")
# Room for three descriptors beside a message.
ANCILLARY = socket.CMSG_SPACE(3 * struct.calcsize("i"))

try:
    import fcntl
    import resource
except ImportError:  # A Python that was built without them can do with less.
    fcntl = resource = None


def frame(kind, payload=b""):
    return HEADER.pack(kind, len(payload)) + payload


def fork_apart(descriptors):
    """Forks a process that is the guest's child, not ours; returns True in it, False here.

    What is between them ends at once. Why there is none is told on its own socket.
    """
    with warnings.catch_warnings():
        # Newer Pythons warn of threads, which numerical libraries start on import and know how to start again.
        warnings.simplefilter("ignore")
        between = None
        try:
            between = os.fork()
            if between == 0:
                if os.fork() == 0:
                    return True
                os._exit(0)
        except BaseException as error:
            os.write(descriptors[0], frame(b"f", ("no process: %s" % error).encode("utf-8", "replace")))
            if between == 0:
                os._exit(0)
    for descriptor in descriptors:
        os.close(descriptor)
    if between is not None:
        try:
            os.waitpid(between, 0)
        except ChildProcessError:
            pass
    return False


def descriptors_of(ancillary):
    found = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = len(data) - len(data) % struct.calcsize("i")
            found.extend(struct.unpack("%di" % (whole // struct.calcsize("i")), data[:whole]))
    return found


def import_all(names):
    """Imports modules; those whose name begins with `?` may be missing. Returns what went wrong."""
    for name in names:
        try:
            importlib.import_module(name.lstrip("?"))
        except BaseException as error:
            if name[0] != "?":
                return "import %s: %s: %s" % (name, type(error).__name__, error)
    return None


def zygote():
    names = sys.argv[1:]
    # `-c` has put the working directory in front, which is nobody's yet.
    sys.path[:] = [entry for entry in sys.path if entry != ""]
    failure = import_all(names)
    sys.argv[:] = [""]
    control = socket.socket(fileno=CONTROL)
    gc.collect()
    # What is here now is looked through no more: a collection would copy these pages in every context.
    gc.freeze()
    while True:
        message, ancillary, _, _ = control.recvmsg(1, ANCILLARY)
        if not message:
            os._exit(0)
        descriptors = descriptors_of(ancillary)
        if failure is not None:
            # Another try may find what is missing now: this zygote is over once the first has been told.
            os.write(descriptors[0], frame(b"f", failure.encode("utf-8", "replace")))
            os._exit(0)
        if fork_apart(descriptors):
            control.close()
            return Context(descriptors)
