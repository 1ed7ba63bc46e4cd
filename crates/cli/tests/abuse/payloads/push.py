# T17: pushes a byte into its own terminal's input, as if somebody had typed it.
import fcntl
report(
    tiocsti=attempt(fcntl.ioctl, 0, 0x5412, b"x"),
    tioclinux=attempt(fcntl.ioctl, 0, 0x541C, b"\x03"),
    tty=os.isatty(0),
)
