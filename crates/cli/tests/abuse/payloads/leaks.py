# T25: what the kernel and the host tell. argv[1:] are words that must not show up.
def text(path):
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode(errors="replace")
    except OSError as error:
        return name_of(error.errno)
def addresses():
    return sum(1 for line in text("/proc/kallsyms").splitlines() if line[:16].strip("0 ") and " " in line)
def others():
    seen = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if file.read(1):
                        seen.append(int(entry))
            except OSError:
                pass
    return seen
mountinfo = text("/proc/self/mountinfo")
report(
    kallsyms=addresses(),
    kcore=len(text("/proc/kcore")) if text("/proc/kcore") not in ("EACCES", "EPERM", "ENOENT") else 0,
    keys=text("/proc/keys"),
    timer_list=len(text("/proc/timer_list")) if not text("/proc/timer_list").startswith("E") else 0,
    sched_debug=os.path.exists("/sys/kernel/debug/sched"),
    sysfs=os.path.exists("/sys/kernel") or os.path.exists("/sys/class"),
    dmesg=syscall(103, 3, ctypes.create_string_buffer(64), 64),
    kmsg=attempt(lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY))),
    disks=[name for name in os.listdir("/dev") if name.startswith(("vd", "sd", "nvme", "loop", "mem", "kvm", "fuse", "net"))],
    words=[word for word in sys.argv[1:] if word in mountinfo],
    environ_of=others(),
    sysctl=attempt(lambda: open("/proc/sys/kernel/core_pattern", "w").close()),
    sysrq=attempt(lambda: os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))),
    shadow=attempt(lambda: open("/etc/shadow").close()),
    ssh=os.path.exists("/etc/ssh") or os.path.exists("/root/.ssh"),
    homes=os.listdir("/home") if os.path.isdir("/home") else [],
    processes=sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()),
)
