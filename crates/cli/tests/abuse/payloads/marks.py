# T26: leave a mark in every place that a sandbox has, or look for marks in all of them.
import glob, subprocess, sysconfig

MARK = "mark-of-another"
KEY = 0x4d41524b
site = sysconfig.get_paths()["purelib"]
files = [f"{place}/{MARK}" for place in ("/workspace", "/tmp", "/dev/shm", "/etc", "/root", "/var/tmp", site)]

def plant():
    planted = []
    for path in files:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(MARK)
            planted.append(path)
        except OSError as error:
            planted.append(f"{path}: {name_of(error.errno)}")
    # shmget, msgget, semget: objects of System V outlive every process.
    segment = libc.shmget(KEY, 4096, 0o1666)
    queue = libc.msgget(KEY, 0o1666)
    semaphores = libc.semget(KEY, 1, 0o1666)
    subprocess.Popen(["/bin/sleep", "600"], start_new_session=True,
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    report(planted=planted, ipc=[segment >= 0, queue >= 0, semaphores >= 0])

def look():
    found = [path for path in files if os.path.exists(path)]
    for what, get in (("shm", libc.shmget), ("msg", libc.msgget), ("sem", libc.semget)):
        arguments = (KEY, 0) if what == "msg" else (KEY, 0, 0)
        if get(*arguments) >= 0:
            found.append(f"System V {what}")
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = open(path, "rb").read()
        except OSError:
            continue
        if b"sleep\0600" in words:
            found.append(f"process {words!r}")
    if os.environ.get("WHOSE") != sys.argv[2]:
        found.append(f"variable WHOSE={os.environ.get('WHOSE')}")
    report(found=sorted(found))

plant() if sys.argv[1] == "plant" else look()
