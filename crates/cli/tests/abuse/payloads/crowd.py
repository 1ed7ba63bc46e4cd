# T01: as many processes or threads as the kernel gives, at most argv[2].
kind, most = sys.argv[1], int(sys.argv[2])
made, stopped_by = 0, None
if kind == "fork":
    children = []
    while made < most:
        try:
            pid = os.fork()
        except OSError as error:
            stopped_by = name_of(error.errno)
            break
        if pid == 0:
            signal.pause()
            os._exit(0)
        children.append(pid)
        made += 1
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)
else:
    import threading
    threading.stack_size(64 << 10)
    end = threading.Event()
    threads = []
    while made < most:
        thread = threading.Thread(target=end.wait, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            stopped_by = "EAGAIN"
            break
        threads.append(thread)
        made += 1
    end.set()
report(made=made, stopped_by=stopped_by)
