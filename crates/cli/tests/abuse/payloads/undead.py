# T10: argv[1] children that end and are never waited for.
most, made, stopped_by = int(sys.argv[1]), 0, None
while made < most:
    try:
        if os.fork() == 0:
            os._exit(0)
    except OSError as error:
        stopped_by = name_of(error.errno)
        break
    made += 1
report(made=made, stopped_by=stopped_by)
