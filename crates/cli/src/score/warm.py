# What of the trusted side is in a warm interpreter only: a context, root of a sandbox that judges one attempt after another,
# each in a fork of it. It follows harness.py in one program. A solution runs as another user, which can reach neither the
# context nor its zygote; what it leaves is looked for after each attempt, and where something is, the sandbox is thrown away.

PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock")


def prepare():
    """Looks at a sandbox that no solution has seen; True when solutions can be a user apart in it."""
    global KNOWN, BASELINE
    uid = worker_uid()
    if uid is None:
        return False
    # What this leaves, e.g. copies of directories in the writable layer, is there from now on.
    posix.mkdir(SCRATCH, 0o700)
    posix.chown(SCRATCH, uid, uid)
    stop(uid, 0)
    posix.rmdir(SCRATCH)
    KNOWN = {entry for entry in posix.listdir("/proc") if entry.isdigit()}
    BASELINE = traces()
    return True


def begin(job):
    """In the fork: starts the worker, before the tests are there."""
    global TRIAL, SPACE
    job = decode(job)
    SPACE = helpers(job["prompt"] or "")
    TRIAL = Trial(job)


def judge(tests):
    """In the fork: runs the tests, and ends with the verdict."""
    _signal.signal(_signal.SIGALRM, TRIAL.out_of_time)
    _signal.setitimer(_signal.ITIMER_REAL, TRIAL.job["timeout_ms"] / 1000)
    run_tests(TRIAL, SPACE, decode(tests))


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


def strangers():
    """Names of processes that were not here before the first solution."""
    states = [process_state(entry) for entry in posix.listdir("/proc") if entry.isdigit() and entry not in KNOWN]
    return [state[0] for state in states if state is not None]


def traces():
    """What a solution could leave that is no process: used blocks and inodes of the one store of all that is writable,
    System V objects, connections that linger."""
    store = posix.statvfs("/dev/shm")
    found = [store.f_blocks - store.f_bfree, store.f_files - store.f_ffree]
    for name in ("sysvipc/shm", "sysvipc/sem", "sysvipc/msg", "net/tcp", "net/tcp6", "net/udp", "net/udp6", "net/unix"):
        try:
            with open("/proc/" + name, "rb") as file:
                found.append(file.read().count(b"\n"))
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
    uid = worker_uid()
    # Children that end with their parent get a moment.
    deadline = time.monotonic() + 0.25
    while strangers() and time.monotonic() < deadline:
        time.sleep(0.002)
    stop(uid, 19)
    left = strangers()[:5]
    if left:
        stop(uid, 9)
        deadline = time.monotonic() + 2
        while strangers() and time.monotonic() < deadline:
            time.sleep(0.002)
    try:
        # Its owner may have put a link in its place, which must not lead anywhere.
        if posix.lstat(SCRATCH).st_mode & 0o170000 == 0o040000:
            remove(SCRATCH)
    except OSError:
        pass  # what is left of it shows below
    changed = ["%r instead of %r" % pair for pair in zip(traces(), BASELINE) if pair[0] != pair[1]]
    changed += ["a process stays: " + name for name in strangers()[:5]]
    return [left, [text[:300] for text in changed]]
