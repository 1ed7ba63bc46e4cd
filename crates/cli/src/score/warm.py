# What of the trusted side is in a warm interpreter only: a context, root of a sandbox that judges one attempt after another,
# each in a fork of it. It follows harness.py in one program. A solution runs as another user, which can reach neither the
# context nor its zygote; what it leaves is looked for after each attempt, and where something is, the sandbox is thrown away.
#
# The context never sees a solution, a test or what one printed, of which a later fork could find remains in its memory: the
# fork takes its job from a file, and what it has to say goes to the context's outputs.

PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock")
# Where jobs come, readable by root alone.
JOBS = "/.score"


def prepare():
    """Looks at a sandbox that no solution has seen; True when solutions can be a user apart in it."""
    global UID, KNOWN, BASELINE
    UID = uid = worker_uid()
    if uid is None:
        return False
    # Message queues have no place where they could be looked for.
    resource = __import__("resource")
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
    posix.mkdir(JOBS, 0o700)
    # What this leaves, e.g. copies of directories in the writable layer, is there from now on.
    posix.mkdir(SCRATCH, 0o700)
    posix.chown(SCRATCH, uid, uid)
    stop(uid, 0)
    posix.rmdir(SCRATCH)
    KNOWN = {entry for entry in posix.listdir("/proc") if entry.isdigit()}
    BASELINE = traces()
    # A fork that looks through what is here would copy it.
    __import__("gc").freeze()
    return True


def attempt(name, limit_s):
    """Judges the job of this name, in a fork. Returns how that ended: an exit code, a signal as a negative number, or None
    when it took longer than the limit; then what `clean` returns."""
    pid = posix.fork()
    if pid == 0:
        try:
            judge(name)
        except BaseException as error:
            posix.write(2, explain(error).encode("utf-8", "replace"))
        posix._exit(1)
    death = posix.pidfd_open(pid)
    poll = select.poll()
    poll.register(death, select.POLLIN)
    in_time = poll.poll(limit_s * 1000)
    posix.close(death)
    if not in_time:
        posix.kill(pid, 9)
    status = posix.waitpid(pid, 0)[1]
    ended = -posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else posix.WEXITSTATUS(status)
    return [ended if in_time else None] + clean()


def judge(name):
    """In the fork: starts the worker, before the tests are there; then runs them, and ends with the verdict. The worker is
    forked before all else, while both still share their pages with the context."""
    path = JOBS + "/" + name
    file = posix.open(path, posix.O_RDONLY)
    posix.unlink(path)
    trial = Trial(UID, lambda: part(file, 0))
    job, tests = trial.job, part(file, 1)
    # The context's own line to the guest is nobody's here.
    own = {trial.requests, trial.replies, trial.death, *trial.outputs}
    for fd in map(int, posix.listdir("/proc/self/fd")):
        if fd > 2 and fd not in own:
            try:
                posix.close(fd)
            except OSError:
                pass  # that of the listing itself
    space = helpers(job["prompt"] or "")
    _signal.signal(_signal.SIGALRM, trial.out_of_time)
    _signal.setitimer(_signal.ITIMER_REAL, job["timeout_ms"] / 1000)
    run_tests(trial, space, tests)


def part(file, number):
    """One frame of a file. Where others read in it does not matter, nor is any of what follows read: the worker, which is
    root until then, takes the first one this way."""
    at = 0
    for _ in range(number):
        at += 8 + int(posix.pread(file, 8, at), 16)
    return decode(posix.pread(file, int(posix.pread(file, 8, at), 16), at + 8))


def stop(uid, signal):
    """Sends a signal to all processes of the solutions' user at once: none can slip through by forking on."""
    pid = posix.fork()
    if pid == 0:
        try:
            become_nobody(uid)
            posix.kill(-1, signal)
        finally:
            posix._exit(0)
    posix.waitpid(pid, 0)


def contents(path):
    """What a file of the kernel's says, without the buffers of a file object, which cost more than the reading."""
    file = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        pieces = [posix.read(file, 4096)]
        while pieces[-1]:
            pieces.append(posix.read(file, 4096))
    finally:
        posix.close(file)
    return b"".join(pieces)


def last_pid():
    """The number of the process that was made last in this sandbox."""
    return contents("/proc/loadavg").split()[4]


def strangers():
    """Names of processes that were not here before the first solution. None are seen for sure: a chain of processes that
    each fork the next and end can outrun one look, but not without making processes."""
    for _ in range(64):
        last = last_pid()
        entries = [entry for entry in posix.listdir("/proc") if entry.isdigit() and entry not in KNOWN]
        states = [process_state(entry) for entry in entries]
        found = [state[0] for state in states if state is not None]
        if found or last_pid() == last:
            return found
    return ["a chain of processes"]


def traces():
    """What a solution could leave that is no process: used blocks and inodes of the one store of all that is writable,
    System V objects, connections that linger."""
    store = posix.statvfs("/dev/shm")
    found = [store.f_blocks - store.f_bfree, store.f_files - store.f_ffree]
    for name in ("sysvipc/shm", "sysvipc/sem", "sysvipc/msg", "net/unix"):
        try:
            found.append(contents("/proc/" + name).count(b"\n"))
        except OSError:
            found.append(None)
    # The tables themselves are the whole machine's, and take long to look through; these are the sandbox's own counts.
    for name in ("net/sockstat", "net/sockstat6"):
        try:
            for words in map(bytes.split, contents("/proc/" + name).splitlines()):
                found += [words[at + 1] for at, word in enumerate(words) if word in (b"inuse", b"tw")]
        except OSError:
            found.append(None)
    for place in PLACES:
        try:
            found.append(sorted(posix.listdir(place)))
        except OSError:
            found.append(None)
    return found


def remove(path):
    """Removes a tree whose owner runs no process any more."""
    for entry in list(posix.scandir(path)):
        if entry.is_dir(follow_symlinks=False):
            remove(entry.path)
        else:
            posix.unlink(entry.path)
    posix.rmdir(path)


def clean():
    """Between two attempts: ends and removes what the last one left where it may leave something. Returns which processes
    it left, and what else is not as it was; with the second one empty, the sandbox is as no solution had seen it."""
    # Children that end with their parent get a moment.
    deadline = time.monotonic() + 0.25
    pause = 0.0002
    found = left = strangers()
    while found and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, 0.004)
        found = left = strangers()
    if found:
        stop(UID, 19)
        left = strangers()
        stop(UID, 9)
        deadline = time.monotonic() + 2
        found = strangers()
        while found and time.monotonic() < deadline:
            time.sleep(0.002)
            found = strangers()
    try:
        # Its owner may have put a link in its place, which must not lead anywhere.
        if posix.lstat(SCRATCH).st_mode & 0o170000 == 0o040000:
            remove(SCRATCH)
    except OSError:
        pass  # what is left of it shows below
    changed = ["%r instead of %r" % pair for pair in zip(traces(), BASELINE) if pair[0] != pair[1]]
    # Where none was left, none can have come since.
    changed += ["a process stays: " + name for name in found[:5]]
    return [left[:5], [text[:300] for text in changed]]
