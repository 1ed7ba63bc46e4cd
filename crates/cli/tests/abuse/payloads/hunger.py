# T02: argv[2] MiB of one kind of memory.
kind, mib = sys.argv[1], int(sys.argv[2])
block = b"x" * (1 << 20)
eaten, stopped_by = 0, None
def keep():
    if kind == "heap":
        hold = []
        while True:
            yield hold.append(bytearray(block))
    elif kind == "sysv":
        libc.shmat.restype = ctypes.c_void_p
        while True:
            ctypes.set_errno(0)
            number = libc.shmget(0, len(block), 0o1600)
            if number < 0:
                raise OSError(ctypes.get_errno(), "shmget")
            where = libc.shmat(number, None, 0)
            if where in (None, ctypes.c_void_p(-1).value):
                raise OSError(ctypes.get_errno(), "shmat")
            ctypes.memmove(where, block, len(block))
            yield libc.shmdt(ctypes.c_void_p(where))
    else:
        fd = os.memfd_create("hunger") if kind == "memfd" else \
            os.open({"tmpfs": "/tmp/hunger", "shm": "/dev/shm/hunger"}[kind], os.O_CREAT | os.O_RDWR)
        while True:
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view):]
            yield
try:
    for _ in keep():
        eaten += 1
        if eaten >= mib:
            break
except (OSError, MemoryError) as error:
    stopped_by = name_of(error.errno) if isinstance(error, OSError) else "ENOMEM"
report(eaten=eaten, stopped_by=stopped_by)
