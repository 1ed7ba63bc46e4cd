# T03: fills the disk in directory argv[2]: with bytes, with a sparse file, or with empty files; argv[3] MiB or files.
kind, where, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
made, stopped_by = 0, None
os.makedirs(where, exist_ok=True)
try:
    if kind == "bytes":
        with open(f"{where}/fill", "wb", buffering=0) as file:
            while made < most:
                if file.write(b"x" * (1 << 20)) < 1 << 20:
                    continue
                made += 1
    elif kind == "sparse":
        with open(f"{where}/sparse", "wb", buffering=0) as file:
            os.ftruncate(file.fileno(), most << 20)
            # Holes cost nothing; filling them must.
            while made < most:
                os.pwrite(file.fileno(), b"x" * (1 << 20), made << 20)
                made += 1
    else:
        while made < most:
            os.close(os.open(f"{where}/f{made}", os.O_CREAT | os.O_WRONLY))
            made += 1
except OSError as error:
    stopped_by = name_of(error.errno)
report(made=made, stopped_by=stopped_by)
