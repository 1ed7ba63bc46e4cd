# T31: kills, stops and starves PID 1.
def sends():
    facts = {}
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT):
        facts[number.name] = attempt(os.kill, 1, number)
    return facts
def limits():
    import resource
    return attempt(resource.prlimit, 1, resource.RLIMIT_NOFILE, (0, 0))
report(
    signals=sends(),
    prlimit=limits(),
    nice=attempt(os.setpriority, os.PRIO_PROCESS, 1, 19),
    oom_score=attempt(lambda: open("/proc/1/oom_score_adj", "w").write("1000")),
    affinity=attempt(os.sched_setaffinity, 1, {0}),
    fds=attempt(lambda: os.open("/proc/1/fd/3", os.O_RDONLY)),
)
