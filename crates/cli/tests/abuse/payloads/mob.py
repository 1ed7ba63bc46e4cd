# T02, T31: argv[1] processes that each hold argv[2] MiB. Those that hold it all at the same time are counted; with
# argv[3] they go on for ever instead, each making another that takes as much, again and again.
count, mib, forever = int(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
def take():
    return [bytearray(b"x" * (1 << 20)) for _ in range(mib)]
def serve():
    while True:
        try:
            if os.fork() == 0:
                take()
                os._exit(0)
            os.wait()
        except (OSError, MemoryError):
            pass
reader, writer = os.pipe()
children = []
for _ in range(count):
    child = os.fork()
    if child == 0:
        try:
            hold = take()
        except MemoryError:
            os._exit(1)
        # The end of the pipe tells that all have taken what they could, or are gone.
        os.close(writer)
        serve() if forever else signal.pause()
    children.append(child)
if forever:
    serve()
os.close(writer)
os.read(reader, 1)
report(holding=sum(os.waitpid(child, os.WNOHANG) == (0, 0) for child in children))
os.kill(0, signal.SIGKILL)
