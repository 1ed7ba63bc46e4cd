# T16: every way to read or steer the processes argv[1:].
def process_vm(number, pid):
    buffer = ctypes.create_string_buffer(8)
    local = struct.pack("QQ", ctypes.addressof(buffer), 8)
    remote = struct.pack("QQ", 0x400000, 8)
    return syscall(number, pid, local, 1, remote, 1, 0)
def attach(pid):
    result = syscall(101, 16, pid, 0, 0)
    if result == 0:
        os.waitpid(pid, 0x40000000)
        syscall(101, 17, pid, 0, 0)
    return result
facts = {}
for pid in map(int, sys.argv[1:]):
    facts[str(pid)] = dict(
        attach=in_child(lambda: attach(pid)),
        seize=in_child(lambda: syscall(101, 0x4206, pid, 0, 0)),
        vm_read=in_child(lambda: process_vm(310, pid)),
        vm_write=in_child(lambda: process_vm(311, pid)),
        mem=attempt(lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))),
        environ=attempt(lambda: open(f"/proc/{pid}/environ", "rb").read()),
        maps=attempt(lambda: open(f"/proc/{pid}/maps").read()),
        fd=attempt(lambda: os.readlink(f"/proc/{pid}/fd/0")),
        pidfd_getfd=syscall(438, syscall(434, pid, 0), 0, 0) if isinstance(syscall(434, pid, 0), int) else syscall(434, pid, 0),
    )
report(**facts)
