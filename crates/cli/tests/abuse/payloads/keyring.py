# T18: the kernel's keyrings are not namespaced: read them, fill them.
SESSION, PROCESS, USER = -3, -2, -4
def add(index):
    return syscall(248, b"user", b"abuse%d" % index, b"secret", 6, PROCESS)
flood = 0
while flood < 500 and isinstance(add(flood), int):
    flood += 1
report(
    add=add(1000),
    flood=flood,
    get=syscall(250, 0, SESSION, 0),
    request=syscall(249, b"user", b"abuse", 0, SESSION),
    keys=attempt(lambda: open("/proc/keys").read()),
    keys_bytes=len(open("/proc/keys").read()) if os.access("/proc/keys", os.R_OK) else 0,
)
