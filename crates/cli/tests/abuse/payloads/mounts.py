# T19: every way to change what is mounted, directly and from a namespace of one's own.
CLONE = dict(user=0x10000000, mount=0x20000, pid=0x20000000, net=0x40000000, ipc=0x8000000, uts=0x4000000, cgroup=0x2000000)
os.makedirs("/tmp/mounts", exist_ok=True)
def mount():
    return syscall(165, b"none", b"/tmp/mounts", b"tmpfs", 0, b"size=1m")
def user_mount():
    first = syscall(272, CLONE["user"] | CLONE["mount"])
    return first if first != 0 else mount()
def clone_user():
    result = syscall(56, CLONE["user"] | signal.SIGCHLD, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    return result
def clone3_user():
    result = syscall(435, struct.pack("QQQQQQQQ", CLONE["user"], 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64)
    if result == 0:
        os._exit(0)
    return result
facts = {f"unshare_{name}": in_child(lambda flag=flag: syscall(272, flag)) for name, flag in CLONE.items()}
report(
    mount=in_child(mount),
    bind=in_child(lambda: syscall(165, b"/", b"/tmp/mounts", 0, 4096, 0)),
    remount=in_child(lambda: syscall(165, b"none", b"/", 0, 32 | 4096, 0)),
    fsopen=in_child(lambda: syscall(430, b"tmpfs", 0)),
    open_tree=in_child(lambda: syscall(428, -100, b"/", 1)),
    move_mount=in_child(lambda: syscall(429, -1, b"", -100, b"/tmp/mounts", 4)),
    mount_setattr=in_child(lambda: syscall(442, -100, b"/", 0, struct.pack("QQQQ", 1, 0, 0, 0), 32)),
    pivot_root=in_child(lambda: syscall(155, b"/", b"/tmp/mounts")),
    chroot_escape=in_child(lambda: syscall(161, b"/tmp/mounts")),
    setns=in_child(lambda: syscall(308, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)),
    unshare_user_then_mount=in_child(user_mount),
    clone_user=in_child(clone_user),
    clone3_user=in_child(clone3_user),
    umount=in_child(lambda: syscall(166, b"/proc", 2)),
    **facts,
)
