# T09: leaves something behind in one of many ways, then waits to be killed. argv[2] names the marker that it carries.
kind = sys.argv[1]
def forever():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            forever()
        os._exit(0)
    os.wait()
if kind == "double_fork":
    daemon()
elif kind == "nohup":
    if os.fork() == 0:
        os.setsid()
        os.setpgid(0, 0) if os.getpgid(0) != os.getpid() else None
        forever()
elif kind == "subreaper":
    if os.fork() == 0:
        os.setsid()
        libc.prctl(36, 1, 0, 0, 0)
        daemon()
        forever()
elif kind == "respawn":
    # Two that watch each other: whoever loses its twin makes another.
    def twin(other):
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            try:
                os.kill(other, 0)
                time.sleep(0.001)
            except ProcessLookupError:
                me = os.getpid()
                other = os.fork()
                if other == 0:
                    other = me
    if os.fork() == 0:
        first = os.getpid()
        second = os.fork()
        twin(second if second else first)
elif kind == "stopped":
    if os.fork() == 0:
        os.setsid()
        os.kill(os.getpid(), signal.SIGSTOP)
        forever()
sys.stdout.write("ready\n")
sys.stdout.flush()
forever()
