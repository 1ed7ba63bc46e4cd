"""The trusted side of one scored attempt.

It runs as root of a fresh sandbox. It reads the solution, forks a worker that becomes an unprivileged user and runs the
solution, and only then reads the tests, so that no process that runs the solution's code ever holds them. Tests run
here; the solution is called through a pipe, takes plain data and gives plain data back. The verdict is this process'
exit code. Only modules that are built into the interpreter are imported, and `site` only when something asks for an
installed package: an interpreter's start is most of an attempt's cost.
"""
import _signal
import builtins
import posix
import select
import sys
import time

PASSED, FAILED, TIMED_OUT, BROKEN = 90, 91, 92, 93
FRAME_LIMIT = 16 << 20
ITEM_LIMIT = 1 << 20
EXCERPT = 2048
NOBODY = 65534
SCRATCH = "/tmp/solution"
# True where one sandbox judges several attempts, see warm.py.
WARM = globals().get("WARM", False)


# ---- values on the wire ---------------------------------------------------------------------------------------------


class Unserialisable(Exception):
    """A value is not plain data."""


def encode(value, out):
    if value is None:
        out.append(b"n")
    elif value is True:
        out.append(b"t")
    elif value is False:
        out.append(b"f")
    elif isinstance(value, int):
        out.append(b"i%x;" % int(value))
    elif isinstance(value, str):
        data = str.encode(value, "utf-8", "surrogatepass")
        out += (b"s%d:" % len(data), data)
    elif isinstance(value, float):
        out.append(b"d%s;" % float.hex(value).encode())
    elif isinstance(value, (bytes, bytearray)):
        out += (b"%c%d:" % (b"b" if isinstance(value, bytes) else b"y", len(value)), bytes(value))
    elif isinstance(value, complex):
        out.append(b"c%s,%s;" % (value.real.hex().encode(), value.imag.hex().encode()))
    elif isinstance(value, range):
        out.append(b"r%x,%x,%x;" % (value.start, value.stop, value.step))
    elif isinstance(value, dict):
        out.append(b"m%d:" % len(value))
        for key, item in value.items():
            encode(key, out)
            encode(item, out)
    else:
        encode_items(value, out)


def encode_items(value, out):
    for kind, tag in ((list, b"l"), (tuple, b"u"), (set, b"e"), (frozenset, b"z")):
        if isinstance(value, kind):
            break
    else:
        if hasattr(type(value), "tolist"):  # numpy's scalars and arrays
            return encode(value.tolist(), out)
        if not hasattr(type(value), "__next__"):
            raise Unserialisable(type(value).__name__)
        tag, items = b"g", []  # a generator crosses as its items
        for item in value:
            items.append(item)
            if len(items) > ITEM_LIMIT:
                raise Unserialisable("%s with over %d items" % (type(value).__name__, ITEM_LIMIT))
        value = items
    out.append(b"%c%d:" % (tag, len(value)))
    for item in value:
        encode(item, out)


def dump(value):
    out = []
    encode(value, out)
    return b"".join(out)


def decode(data):
    """Reads one value. Whatever the other side sends, this makes plain data or raises."""
    at = 0
    find = data.index

    def one():
        nonlocal at
        tag = data[at]
        at += 1
        if tag == 110:
            return None
        if tag == 116:
            return True
        if tag == 102:
            return False
        end = find(b";" if tag in b"idcr" else b":", at)
        head = data[at:end]
        at = end + 1
        if tag == 105:
            return int(head, 16)
        if tag == 100:
            return float.fromhex(head.decode("ascii"))
        if tag == 99:
            real, imag = head.decode("ascii").split(",")
            return complex(float.fromhex(real), float.fromhex(imag))
        if tag == 114:
            return range(*[int(part, 16) for part in head.split(b",")])
        count = int(head)
        if not 0 <= count <= len(data) - at:
            raise ValueError("a length that does not fit")
        if tag in b"sby":
            piece = data[at : at + count]
            at += count
            if tag == 115:
                return piece.decode("utf-8", "surrogatepass")
            return piece if tag == 98 else bytearray(piece)
        if tag == 109:
            return {one(): one() for _ in range(count)}
        items = [one() for _ in range(count)]
        if tag == 108:
            return items
        if tag == 117:
            return tuple(items)
        if tag == 101:
            return set(items)
        if tag == 122:
            return frozenset(items)
        if tag == 103:
            return iter(items)
        raise ValueError("an unknown tag")

    value = one()
    if at != len(data):
        raise ValueError("bytes after the value")
    return value


def read_exactly(fd, count):
    pieces = []
    while count:
        piece = posix.read(fd, min(count, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def read_frame(fd):
    return decode(read_exactly(fd, int(read_exactly(fd, 8), 16)))


def write_frame(fd, body):
    data = memoryview(b"%08x" % len(body) + body)
    while data:
        data = data[posix.write(fd, data) :]


class InstalledPackages:
    """Runs `site` on the first import that the standard library cannot serve."""

    def find_spec(self, name, path=None, target=None):
        sys.meta_path.remove(self)
        import site

        site.main()
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None


# ---- the worker: everything below here, until `serve` returns, is at the solution's mercy -----------------------------


def become_nobody(uid):
    posix.setsid()
    if uid is None:
        enter_landlock()
    else:
        posix.setgroups([])
        posix.setresgid(uid, uid, uid)
        posix.setresuid(uid, uid, uid)


def enter_landlock():
    """Where there is only one user, Landlock keeps the solution from other processes and from files that are not its
    own."""
    import ctypes

    syscall = ctypes.CDLL(None, use_errno=True).syscall
    version = syscall(444, None, 0, 1)
    if version < 1:
        raise OSError("this kernel has no Landlock")
    # Everything that changes a file: WRITE_FILE, REMOVE_*, MAKE_*, then REFER and TRUNCATE where known.
    changes = 2 | 0x1FF0 | (0x2000 if version >= 2 else 0) | (0x4000 if version >= 3 else 0)
    sizes = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}
    attr = (ctypes.c_uint64 * 3)(changes, 0, 3)
    ruleset = syscall(444, ctypes.byref(attr), ctypes.c_size_t(sizes.get(version, 24)), 0)
    if ruleset < 0:
        raise OSError("landlock_create_ruleset failed with errno %d" % ctypes.get_errno())
    for place in (SCRATCH, "/workspace", "/dev"):
        try:
            fd = posix.open(place, posix.O_PATH | posix.O_CLOEXEC)
        except FileNotFoundError:
            continue
        rule = (ctypes.c_char * 12)()
        rule[:8] = changes.to_bytes(8, "little")
        rule[8:] = fd.to_bytes(4, "little")
        if syscall(445, ruleset, 1, ctypes.byref(rule), 0):
            raise OSError("landlock_add_rule failed with errno %d" % ctypes.get_errno())
        posix.close(fd)
    if syscall(446, ruleset, 0):
        raise OSError("landlock_restrict_self failed with errno %d" % ctypes.get_errno())
    posix.close(ruleset)


def place(error):
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "solution.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    # A syntax error's own text names the line.
    return "" if line is None or isinstance(error, SyntaxError) else " (solution.py line %d)" % line


def explain(error):
    try:
        message = str(error)[:500]
    except BaseException:
        message = ""
    return type(error).__name__ + (": " + message if message else "") + place(error)


def raised(error):
    """An exception as it crosses: its name and place, and its arguments where they are plain data."""
    about = [type(error).__name__, place(error)]
    try:
        reply = dump(("raised", about, list(error.args)))
        if len(reply) < FRAME_LIMIT:
            return reply
    except (Unserialisable, RecursionError):
        pass
    return dump(("raised", about, [explain(error)]))


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass  # the solution may have closed or replaced it


def load(job):
    builtins.exit = builtins.quit = sys.exit  # as `site` would define them
    sys.argv = ["solution.py"]
    for name in ("HOME", "TMPDIR"):
        posix.putenv(name, SCRATCH)
        posix.environ[name.encode()] = SCRATCH.encode()
        if "os" in sys.modules:
            sys.modules["os"].environ[name] = SCRATCH
    if job["source"] is None:
        sys.path.insert(0, job["directory"])
        return
    module = type(sys)("solution")
    module.__file__ = "solution.py"
    sys.modules["solution"] = module
    exec(compile(job["source"], "solution.py", "exec", 0, True), module.__dict__)


def answer(module, name, args, kwargs):
    __import__(module)
    target = sys.modules[module]
    for part in name.split("."):
        target = getattr(target, part)
    if args is None:
        return ("callable", None) if callable(target) else ("value", target)
    return "value", target(*args, **kwargs)


def serve(job, requests, replies):
    try:
        load(job)
        reply = dump(("ready", None, None))
    except BaseException as error:
        reply = dump(("stopped", "the solution does not load: " + explain(error), None))
    flush()
    while True:
        write_frame(replies, reply)
        request = read_exactly(requests, int(read_exactly(requests, 8), 16))
        module, name, args, kwargs = decode(request)
        try:
            kind, value = answer(module, name, args, kwargs)
            changed = None
            if args is not None and dump((module, name, args, kwargs)) != request:
                changed = args
            try:
                reply = dump((kind, value, changed))
            except Unserialisable as error:
                reply = dump(("stopped", "returned unserialisable " + str(error), None))
            except RecursionError:
                reply = dump(("stopped", "returned unserialisable data: nested too deeply", None))
            if len(reply) > FRAME_LIMIT:
                reply = dump(("stopped", "returned %d bytes; at most %d" % (len(reply), FRAME_LIMIT), None))
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            reply = dump(("stopped", "ended itself: " + explain(error), None))
        except BaseException as error:
            reply = raised(error)
        flush()


# ---- the trusted side -------------------------------------------------------------------------------------------------


def worker_uid():
    """An unprivileged user that exists in this sandbox, or None where root is the only one."""
    with open("/proc/self/setgroups", "rb") as file:
        if file.read(4) == b"deny":
            return None
    with open("/proc/self/uid_map", "rb") as file:
        ends = [int(start) + int(count) - 1 for start, _, count in map(bytes.split, file)]
    return min(NOBODY, max(ends)) or None


def hide_memory():
    """Keeps processes of the same user from reading or tracing this one."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(4, 0, 0, 0, 0):
        raise OSError("prctl(PR_SET_DUMPABLE) failed")


class Output:
    """The start and the end of what the solution wrote to one stream."""

    def __init__(self, fd):
        self.fd = fd
        self.head = b""
        self.tail = b""
        self.total = 0

    def take(self):
        """Reads once; False at the end."""
        piece = posix.read(self.fd, 1 << 16)
        self.total += len(piece)
        room = EXCERPT - len(self.head)
        self.head += piece[:room]
        self.tail = (self.tail + piece[max(room, 0) :])[-EXCERPT:]
        return bool(piece)

    def text(self):
        cut = self.total - len(self.head) - len(self.tail)
        middle = b"\n[... %d bytes ...]\n" % cut if cut else b""
        return (self.head + middle + self.tail).decode("utf-8", "replace")


class Trial:
    """One attempt: the worker, the way to call it, and the end. `take` gives the job, in the worker and here: what is read
    before the fork is copied again by whoever of the two writes beside it."""

    def __init__(self, uid, take):
        self.uid = uid
        self.calls = 0
        self.last = ""
        self.raised = (None, "")
        self.waiting = False
        self.ready = False
        self.ending = False
        self.buffer = b""
        if self.uid is None:
            hide_memory()
        self.fork(take)
        self.job = take()

    def fork(self, take):
        requests, self.requests = posix.pipe()
        self.replies, replies = posix.pipe()
        out, stdout = posix.pipe()
        err, stderr = posix.pipe()
        posix.mkdir(SCRATCH, 0o700)
        if self.uid is not None:
            posix.chown(SCRATCH, self.uid, self.uid)
        self.pid = posix.fork()
        if self.pid == 0:
            try:
                null = posix.open("/dev/null", posix.O_RDONLY)
                for old, new in ((null, 0), (stdout, 1), (stderr, 2)):
                    posix.dup2(old, new)
                job = take()
                # Everything else: a warm interpreter has more open than what is made here.
                for fd in map(int, posix.listdir("/proc/self/fd")):
                    if fd > 2 and fd not in (requests, replies):
                        try:
                            posix.close(fd)
                        except OSError:
                            pass  # that of the listing itself
                become_nobody(self.uid)
                posix.chdir(job["directory"] or SCRATCH)
                serve(job, requests, replies)
            except EOFError:
                posix._exit(0)
            except BaseException as error:
                posix.write(2, b"the worker stopped: " + explain(error).encode("utf-8", "replace"))
            posix._exit(1)
        for fd in (requests, replies, stdout, stderr):
            posix.close(fd)
        self.outputs = {out: Output(out), err: Output(err)}
        self.poll = select.poll()
        for fd in (self.replies, out, err):
            self.poll.register(fd, select.POLLIN)
        try:
            self.death = posix.pidfd_open(self.pid)
            self.poll.register(self.death, select.POLLIN)
        except OSError:
            self.death = -1  # then the end of the pipe tells of the worker's death

    def receive(self):
        """The worker's next reply. Does not return when the worker is gone or talks nonsense."""
        gone = False
        while True:
            if len(self.buffer) >= 8:
                try:
                    size = int(self.buffer[:8], 16)
                    if not 0 <= size <= FRAME_LIMIT:
                        raise ValueError("a frame of %d bytes" % size)
                    if len(self.buffer) >= 8 + size:
                        data, self.buffer = self.buffer[8 : 8 + size], self.buffer[8 + size :]
                        kind, value, more = decode(data)
                        return kind, value, more
                except Exception as error:
                    self.finish(FAILED, "the solution broke the protocol: " + explain(error))
            if gone:
                self.worker_died()
            events = self.poll.poll()
            for fd, _ in events:
                if fd == self.replies:
                    # As much as a pipe holds; room for more would be mapped and unmapped each time.
                    piece = posix.read(fd, 1 << 16)
                    if piece:
                        self.buffer = self.buffer + piece if self.buffer else piece
                    else:
                        self.channel_closed()
                elif fd in self.outputs:
                    if not self.outputs[fd].take():
                        self.poll.unregister(fd)
                elif len(events) == 1:  # dead, and nothing else is left to read
                    gone = True

    def call(self, module, name, args, kwargs):
        if self.ending:
            posix._exit(BROKEN)
        try:
            request = dump((module, name, args, kwargs))
        except (Unserialisable, RecursionError) as error:
            self.finish(BROKEN, "the tests pass a value that is not plain data: " + explain(error))
        self.calls += args is not None
        self.last = (name, args, kwargs)
        self.waiting = True
        if not self.ready:
            self.check(self.receive())
            self.ready = True
        try:
            write_frame(self.requests, request)
        except OSError:
            pass  # the worker is gone; receive() finds out how
        reply = self.receive()
        self.waiting = False
        return self.check(reply, args)

    def check(self, reply, args=None):
        kind, value, more = reply
        if kind == "stopped" or kind not in ("ready", "value", "callable", "raised"):
            self.finish(FAILED, str(value))
        if kind == "raised":
            self.raise_here(*value, more)
        if more is not None and args is not None:
            update(args, more)
        return kind, value

    def raise_here(self, name, place, args):
        known = getattr(builtins, name, None)
        try:
            if not (isinstance(known, type) and issubclass(known, Exception)):
                raise TypeError
            error = known(*args)
        except TypeError:  # a class of the solution's own, or arguments that the class does not take
            error = Exception(": ".join([name, *map(str, args)]))
        self.raised = (error, place)
        raise error

    def channel_closed(self):
        """The worker died, or closed the pipe so as to live on unseen."""
        deadline = time.monotonic() + 0.25
        while time.monotonic() < deadline:
            pid, status = posix.waitpid(self.pid, posix.WNOHANG)
            if pid:
                self.worker_died(status)
            time.sleep(0.001)
        self.finish(FAILED, "the solution closed the pipe on which it is called")

    def worker_died(self, status=None):
        if status is None:
            status = posix.waitpid(self.pid, 0)[1]
        self.pid = 0
        if posix.WIFSIGNALED(status):
            signal = posix.WTERMSIG(status)
            if signal == 9:
                # Memory may have run out. Ending the same way lets the guest, who sees the kernel's counter, tell.
                self.finish(-9, "the solution's process was killed")
            self.finish(FAILED, "the solution's process was ended by signal %d" % signal)
        self.finish(FAILED, "the solution ended its process with exit code %d" % posix.WEXITSTATUS(status))

    def describe_last(self):
        if not self.last:
            return ""
        name, args, kwargs = self.last
        try:
            parts = [repr(arg) for arg in args or ()] + ["%s=%r" % pair for pair in (kwargs or {}).items()]
        except ValueError:  # an integer too long to print
            parts = ["..."]
        text = ", ".join(parts)
        return "%s(%s)" % (name, text if len(text) <= 300 else text[:300] + " ...")

    def left_behind(self):
        """What of the solution outlived its worker, or None. Ends the worker."""
        mine = ("1", str(posix.getpid()), str(self.pid))
        for entry in posix.listdir("/proc"):
            if entry.isdigit() and entry not in mine:
                state = process_state(entry)
                if state is not None and state[1] == 1:
                    return state[0]
        posix.kill(self.pid, 9)
        posix.waitpid(self.pid, 0)
        self.pid = 0
        # Children that end with their parent get a moment; the kernel answers for all processes at once.
        deadline = time.monotonic() + 0.25
        while True:
            try:
                posix.kill(-1, 0)
            except ProcessLookupError:
                return None
            if time.monotonic() > deadline:
                posix.kill(-1, 19)  # stopped, none can slip through the listing by forking on
                others = [process_state(e) for e in posix.listdir("/proc") if e.isdigit() and e not in mine]
                return ", ".join([state[0] for state in others if state is not None][:5]) or None
            time.sleep(0.002)

    def finish(self, code, reason):
        """Reports and ends. Nothing that a test catches can come between."""
        if self.ending:
            return
        self.ending = True
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        if code == PASSED and not WARM:
            left = self.left_behind()
            if left is not None:
                code, reason = FAILED, "left processes behind: " + left
        if self.pid:
            posix.kill(self.pid, 9)
            if WARM:
                # Gone before it is looked for.
                posix.waitpid(self.pid, 0)
        for fd, output in self.outputs.items():
            posix.set_blocking(fd, False)
            try:
                for _ in range(64):
                    if not output.take():
                        break
            except OSError:
                pass  # drained
        report = [reason, self.describe_last() if code != PASSED else ""]
        report += [output.text() for output in self.outputs.values()]
        write_frame(1, dump([text.encode("utf-8", "replace").decode() for text in report]))
        if code == -9:
            posix.kill(posix.getpid(), 9)
        posix._exit(code)

    def out_of_time(self, _signal_number, _frame):
        where = " in " + self.describe_last() if self.waiting else ""
        if not self.ready:
            where = " while the solution was loaded"
        self.finish(TIMED_OUT, "no answer within %g s%s" % (self.job["timeout_ms"] / 1000, where))


def process_state(pid):
    """Its name and its parent's pid; None when it is gone or only waits to be reaped."""
    try:
        with open("/proc/%s/stat" % pid, "rb") as file:
            head, tail = file.read().rsplit(b")", 1)
    except OSError:
        return None
    state, parent = tail.split()[:2]
    if state in (b"Z", b"X"):
        return None
    return head.split(b"(", 1)[1].decode("utf-8", "replace"), int(parent)


def update(old, new):
    """Makes an argument look as the solution left it, in place, as a call in this process would have."""
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        kept = [update(a, b) for a, b in zip(old, new)] + list(new[len(old) :])
        if isinstance(old, tuple):
            return old
        if isinstance(new, tuple):
            return new
        old[:] = kept
        return old
    if type(old) is not type(new):
        return new
    if isinstance(old, dict):
        kept = {key: update(old[key], item) if key in old else item for key, item in new.items()}
        old.clear()
        old.update(kept)
        return old
    if isinstance(old, set):
        old.clear()
        old.update(new)
        return old
    if isinstance(old, bytearray):
        old[:] = new
        return old
    return new


def proxy(trial, module, name):
    def candidate(*args, **kwargs):
        return trial.call(module, name, list(args), kwargs)[1]

    candidate.__name__ = candidate.__qualname__ = name
    return candidate


class SolutionModule(type(sys)):
    """What the tests get when they import a module of the solution."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        kind, value = self.__dict__["__trial__"].call(self.__name__, name, None, None)
        if kind == "callable":
            return proxy(self.__dict__["__trial__"], self.__name__, name)
        return value


def offer_modules(trial, names):
    for name in names:
        for end in range(1, name.count(".") + 2):
            prefix = ".".join(name.split(".")[:end])
            module = SolutionModule(prefix)
            module.__dict__.update(__trial__=trial, __path__=[])
            parent, _, last = prefix.rpartition(".")
            if parent:
                sys.modules[parent].__dict__[last] = module
            sys.modules.setdefault(prefix, module)


def where(error, source):
    """The last line of the tests that an exception passed through."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "tests.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == "tests.py":
        line = error.lineno
    lines = source.splitlines()
    if line is None or not 0 < line <= len(lines):
        return ""
    return " at tests.py line %d: %s" % (line, lines[line - 1].strip()[:300])


def run_tests(trial, space, tests):
    source, entry = tests["source"], trial.job["entry_point"]
    try:
        code = compile(source, "tests.py", "exec", 0, True)
        if entry is None:
            offer_modules(trial, tests["modules"])
        else:
            space[entry] = proxy(trial, "solution", entry)
            space.setdefault("candidate", space[entry])
        exec(code, space)
        if entry is not None and callable(space.get("check")):
            space["check"](space[entry])
        elif entry is None:
            for name, test in list(space.items()):
                if name.startswith("test") and callable(test):
                    test()
    except BaseException as error:
        text = type(error).__name__ + (": " + str(error)[:500] if str(error) else "")
        if error is trial.raised[0]:
            text += str(trial.raised[1])
        if trial.calls == 0:
            trial.finish(BROKEN, "the tests do not run: " + text + where(error, source))
        trial.finish(FAILED, text + where(error, source))
    if trial.calls == 0:
        trial.finish(BROKEN, "the tests never call the solution")
    trial.finish(PASSED, "")


def helpers(prompt):
    """The prompt's own functions, for tests that call them. The solution's versions stay in the worker."""
    space = {"__name__": "tests", "__builtins__": builtins}
    for source in (prompt + "\n    pass\n", prompt):
        try:
            exec(compile(source, "prompt.py", "exec", 0, True), space)
            break
        except SyntaxError:
            continue  # prose, or a prompt that ends elsewhere; its functions then are not there for the tests
        except Exception:
            break  # the solution, which has the same text, fails on it and says why
    return space


def main():
    sys.meta_path.append(InstalledPackages())
    job = read_frame(0)
    space = helpers(job["prompt"] or "")
    trial = Trial(worker_uid(), lambda: job)
    _signal.signal(_signal.SIGALRM, trial.out_of_time)
    _signal.setitimer(_signal.ITIMER_REAL, job["timeout_ms"] / 1000)
    run_tests(trial, space, read_frame(0))
