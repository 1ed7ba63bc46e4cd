# T22: leave something at every place where two sandboxes could meet, or look for it at all of them.
import glob, socket, subprocess

PORT, KEY, NAME = 17722, 0x57414c4c, "wall-of-another"
files = [f"{place}/{NAME}" for place in ("/workspace", "/tmp", "/dev/shm", "/etc", "/root", "/var/tmp")]
program = "/usr/bin/yes"

def plant():
    for path in files:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(NAME)
    try:
        with open(program, "w") as file:
            file.write("#!/bin/sh\necho " + NAME + "\n")
    except PermissionError:
        # The machine's own root owns it, and a server without root maps no other user.
        pass
    os.unlink("/etc/hostname")
    ipc = [libc.shmget(KEY, 4096, 0o1666) >= 0, libc.msgget(KEY, 0o1666) >= 0]
    listener = r'''
import socket, time
held = []
for family, kind, at in ((socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", %d)), (socket.AF_INET6, socket.SOCK_STREAM, ("::1", %d)),
                         (socket.AF_UNIX, socket.SOCK_STREAM, "\0%s"), (socket.AF_UNIX, socket.SOCK_DGRAM, "\0%s-datagram")):
    try:
        held.append(socket.socket(family, kind)); held[-1].bind(at); kind == socket.SOCK_STREAM and held[-1].listen()
    except OSError as error:
        print(at, error)
print("listening", flush=True)
time.sleep(600)
''' % (PORT, PORT, NAME, NAME)
    child = subprocess.Popen([sys.executable, "-c", listener], start_new_session=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = child.stdout.readline().decode()
    report(planted=len(files), ipc=ipc, said=said)

def look():
    found = []
    for family, kind, at in ((socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", PORT)),
                             (socket.AF_INET6, socket.SOCK_STREAM, ("::1", PORT)),
                             (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + NAME),
                             (socket.AF_UNIX, socket.SOCK_DGRAM, "\0" + NAME + "-datagram")):
        try:
            with socket.socket(family, kind) as sock:
                sock.settimeout(2)
                sock.connect(at)
                found.append(f"connected to {at!r}")
        except OSError:
            pass
    for table in ("tcp", "tcp6", "unix"):
        text = open(f"/proc/net/{table}").read()
        if f":{PORT:04X} " in text or NAME in text:
            found.append(f"/proc/net/{table}")
    for what, get, arguments in (("shm", libc.shmget, (KEY, 0, 0)), ("msg", libc.msgget, (KEY, 0))):
        if get(*arguments) >= 0:
            found.append(f"System V {what}")
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if f"-{NAME}-".encode() in open(path, "rb").read().replace(b"\0", b"-"):
                found.append(path)
        except OSError:
            continue
    if len(sys.argv) < 3 or sys.argv[2] != "fork":
        found += [path for path in files if os.path.exists(path)]
        if NAME.encode() in open(program, "rb").read(4096):
            found.append(program)
        if not os.path.exists("/etc/hostname"):
            found.append("/etc/hostname is gone")
    report(found=sorted(found))

def change():
    # What a fork does to the files that it came with.
    for path in files:
        if os.path.exists(path):
            os.unlink(path)
    with open("/workspace/of-fork", "w") as file:
        file.write(sys.argv[2])
    report(files=sorted(os.listdir("/workspace")))

def have():
    # What is in memory is no file of the sandbox.
    report(planted=[path for path in files if os.path.exists(path) and path[:5] != "/dev/"], workspace=sorted(os.listdir("/workspace")))

{"plant": plant, "look": look, "change": change, "have": have}[sys.argv[1]]()
