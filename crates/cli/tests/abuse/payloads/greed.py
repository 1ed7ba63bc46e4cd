# T05: how much CPU four spinning processes get in argv[1] seconds, and what the scheduler lets one ask for.
seconds = float(sys.argv[1])
began = time.monotonic()
for _ in range(4):
    if os.fork() == 0:
        while time.monotonic() - began < seconds:
            pass
        os._exit(0)
for _ in range(4):
    os.wait()
wall = time.monotonic() - began
used = os.times()
cores = (used.children_user + used.children_system) / wall
def ioprio():
    return syscall(251, 1, 0, (1 << 13) | 0)
report(
    cores=cores,
    fifo=attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
    deadline=syscall(314, 0, struct.pack("IIQiIQQQ", 48, 6, 0, 0, 0, 10_000_000, 30_000_000, 30_000_000), 0),
    nice=attempt(os.setpriority, os.PRIO_PROCESS, 0, -20),
    ioprio_rt=ioprio(),
)
