# The life of a context: what the guest asks of it, one thing after another.


def re_seed():
    """Makes this process' random numbers its own."""
    random.seed()
    mtrand = sys.modules.get("numpy.random")
    if mtrand is not None:
        mtrand.seed(int.from_bytes(os.urandom(4), "little"))
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "seed"):
        torch.seed()


def open_files(own):
    """Descriptors of regular files, which a fork shares with its parent, and whether they are written to."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number in own or fcntl is None:
            continue
        try:
            if stat.S_ISREG(os.fstat(number).st_mode):
                found.append((number, fcntl.fcntl(number, fcntl.F_GETFL)))
        except OSError:
            continue
    return found


def flush_files(files):
    """Writes out what is buffered, which would else be written twice."""
    if all(flags & os.O_ACCMODE == os.O_RDONLY for _, flags in files):
        return
    import io

    kinds = (io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)
    for item in gc.get_objects():
        if isinstance(item, kinds):
            try:
                item.flush()
            except Exception:
                continue


def reopen_files(files):
    """Gives this process offsets of its own in the files that it shares."""
    for number, flags in files:
        keep = flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)
        try:
            fresh = os.open("/proc/self/fd/%d" % number, keep)
            try:
                os.lseek(fresh, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
                os.dup2(fresh, number, os.get_inheritable(number))
            finally:
                os.close(fresh)
        except OSError:
            continue  # It stays shared: better than lost.


class Ended(BaseException):
    """The guest wants no more of this context."""


class Context:
    def __init__(self, descriptors):
        self.buffer = bytearray()
        self.waiting = []
        self.outputs = []
        self.take_over(descriptors)
        self.interpreter = Interpreter()

    def take_over(self, descriptors):
        """Moves to these descriptors and says hello, by which the guest learns who this is."""
        for old in self.outputs:
            os.close(old)
        control, stdout, stderr = descriptors
        self.control = socket.socket(fileno=control)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        # For when the code closes 1 or 2.
        self.outputs = [stdout, stderr]
        # Where no SIGINT can be meant for anybody yet.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.control.sendall(frame(b"h", sys.version.split()[0].encode()))

    def own(self):
        return {0, 1, 2, self.control.fileno()} | set(self.outputs)

    def next(self):
        """The next message: its kind and payload."""
        while True:
            try:
                if len(self.buffer) >= HEADER.size:
                    kind, length = HEADER.unpack_from(self.buffer)
                    end = HEADER.size + length
                    if len(self.buffer) >= end:
                        payload = bytes(self.buffer[HEADER.size : end])
                        del self.buffer[:end]
                        return kind, payload
                data, ancillary, _, _ = self.control.recvmsg(1 << 16, ANCILLARY)
                self.waiting += descriptors_of(ancillary)
                if not data:
                    raise Ended
                self.buffer += data
            except OSError:
                raise
            except Ended:
                raise
            except BaseException:
                continue  # From a signal handler of the code's own.

    def serve(self):
        while True:
            kind, payload = self.next()
            if kind == b"r":
                self.restore_outputs()
                status, report = self.interpreter.run(payload.decode("utf-8", "replace"))
                del payload
                self.control.sendall(frame(b"d", bytes([status]) + report))
            elif kind == b"p":
                self.interpreter.pending = False
                self.control.sendall(frame(b"p"))
            elif kind == b"k":
                self.branch()
            elif kind in (b"c", b"n"):
                self.begin(kind, payload)

    def restore_outputs(self):
        for number, kept in ((1, self.outputs[0]), (2, self.outputs[1])):
            try:
                os.fstat(number)
            except OSError:
                os.dup2(kept, number)
        for name, number in (("stdout", 1), ("stderr", 2)):
            stream = getattr(sys, name, None)
            if stream is None or getattr(stream, "closed", False):
                fresh = open(number, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
                setattr(sys, name, fresh)
                setattr(sys, "__%s__" % name, fresh)

    def begin(self, kind, payload):
        """What a fresh context does, once the guest knows it: `c` by its own terms, `n` as a branch of another."""
        try:
            os.setsid()
            re_seed()
            if kind == b"c":
                self.set_up(payload)
            signal.signal(signal.SIGINT, self.interpreter.on_interrupt)
            answer = frame(b"o")
        except BaseException as error:
            answer = frame(b"f", ("%s: %s" % (type(error).__name__, error)).encode("utf-8", "replace"))
        self.control.sendall(answer)

    def set_up(self, payload):
        fields, at = [], 0
        while at < len(payload):
            (length,) = struct.unpack_from("<I", payload, at)
            fields.append(payload[at + 4 : at + 4 + length])
            at += 4 + length
        os.chdir(fields[0])
        memory = int(fields[1])
        for name, value in zip(fields[2::2], fields[3::2]):
            os.environb[name] = value
        os.environ.setdefault("MPLBACKEND", "agg")
        warnings.filterwarnings("ignore", message=".*non-interactive, and thus cannot be shown")
        sys.path.insert(0, "")
        for stream, number in (("stdout", 1), ("stderr", 2)):
            opened = open(number, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
            setattr(sys, stream, opened)
            setattr(sys, "__%s__" % stream, opened)
        if memory:
            self.limit_memory(memory)

    def limit_memory(self, memory):
        if resource is None:
            raise OSError("this Python cannot limit memory: it has no module resource")
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        try:
            bytearray(1 << 20)
        except MemoryError:
            raise MemoryError("memory_bytes %d is less than this interpreter with its imports has already" % memory)

    def branch(self):
        """Forks, between two runs; the fork goes on with descriptors that the guest sent."""
        descriptors, self.waiting = self.waiting[:3], self.waiting[3:]
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                continue
        files = open_files(self.own() | set(descriptors))
        flush_files(files)
        if not fork_apart(descriptors):
            return
        self.control.close()
        self.buffer.clear()
        reopen_files(files)
        self.take_over(descriptors)


def main():
    context = zygote()
    try:
        context.serve()
    except Ended:
        os._exit(0)
    except OSError:
        # The code has closed our socket. Nothing can be told any more; the guest sees it and ends this.
        while True:
            signal.pause()


main()
