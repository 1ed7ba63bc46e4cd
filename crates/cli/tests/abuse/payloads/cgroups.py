# T20: looks for control files of cgroups, tries to write them, and to mount a hierarchy of its own. argv[1:] are roots.
LIMITS = ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max")
ESCAPES = ("release_agent", "notify_on_release", "cgroup.procs", "tasks", "devices.allow")
found, written = [], []
for root in sys.argv[1:]:
    for directory, _, files in os.walk(root):
        for name in files:
            if name in LIMITS or name in ESCAPES:
                path = f"{directory}/{name}"
                found.append(path)
                try:
                    with open(path) as file:
                        old = file.read()
                    value = old if name not in ("cgroup.procs", "tasks") else str(os.getpid())
                    with open(path, "w") as file:
                        file.write(value or "0")
                    written.append(path)
                except (OSError, UnicodeDecodeError):
                    pass
os.makedirs("/tmp/cg", exist_ok=True)
report(
    found=len(found),
    written=written[:20],
    mount_v1=in_child(lambda: syscall(165, b"cgroup", b"/tmp/cg", b"cgroup", 0, b"memory")),
    mount_v2=in_child(lambda: syscall(165, b"cgroup2", b"/tmp/cg", b"cgroup2", 0, 0)),
    own=open("/proc/self/cgroup").read().split("\n")[:-1],
)
