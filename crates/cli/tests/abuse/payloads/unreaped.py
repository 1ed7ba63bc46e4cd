# T10's control: 100 grandchildren end whose parent is gone; their new one is this program, PID 1, which reaps nothing.
def zombies():
    count = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            count += fields[0] == "Z" and fields[1] == "1"
    return count
child = os.fork()
if child == 0:
    for _ in range(100):
        if os.fork() == 0:
            os._exit(0)
    os._exit(0)
os.waitpid(child, 0)
until = time.monotonic() + 10
while zombies() < 100 and time.monotonic() < until:
    pass
report(zombies=zombies())
