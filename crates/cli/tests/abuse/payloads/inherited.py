# T12: which descriptors and which directory the program was born with.
fds = {}
for entry in os.listdir("/proc/self/fd"):
    try:
        fds[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
    except OSError:
        pass
# A directory outside is reached by climbing from a leaked descriptor, or from a working directory outside the root.
escapes = []
for fd in fds:
    if fd > 2 and os.path.isdir(f"/proc/self/fd/{fd}") and os.path.exists(f"/proc/self/fd/{fd}/etc"):
        escapes.append(fd)
report(extra=sorted(fd for fd in fds if fd > 2), fds=fds, escapes=escapes, cwd=os.getcwd(), parent=os.readlink("/proc/self/cwd"))
