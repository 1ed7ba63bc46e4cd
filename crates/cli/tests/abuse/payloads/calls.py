# T24: ways around a system call filter.
import mmap
def machine(code):
    """Runs machine code in a child; what it leaves in eax, or the signal that ended it."""
    def run():
        area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        area.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(area))
        value = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        return name_of(-value) if value < 0 else value
    return in_child(run)
def io_uring():
    return syscall(425, 4, ctypes.create_string_buffer(120))
def bpf():
    return syscall(321, 0, struct.pack("IIIIIIQ", 2, 4, 8, 1, 0, 0, 0) + bytes(80), 112)
def handle():
    return syscall(303, -100, b"/etc/passwd", ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128)), ctypes.byref(ctypes.c_int()), 0)
report(
    # mov eax, 20 (getpid of i386); int 0x80; ret
    int80=machine(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"),
    # mov eax, 0x40000027 (getpid of x32); syscall; ret
    x32=machine(b"\xb8\x27\x00\x00\x40\x0f\x05\xc3"),
    clone3=in_child(lambda: syscall(435, 0, 0)),
    io_uring=in_child(io_uring),
    io_uring_enter=in_child(lambda: syscall(426, 0, 0, 0, 0, 0, 0)),
    bpf=in_child(bpf),
    perf=in_child(lambda: syscall(298, struct.pack("II", 1, 112) + bytes(104), 0, -1, -1, 0)),
    userfaultfd=in_child(lambda: syscall(323, 1)),
    handle=in_child(handle),
    open_by_handle=in_child(lambda: syscall(304, -100, bytes(128), 0)),
    kexec=in_child(lambda: syscall(246, 0, 0, 0, 0)),
    module=in_child(lambda: syscall(175, 0, 0, b"")),
    swapon=in_child(lambda: syscall(167, b"/nowhere", 0)),
    reboot=in_child(lambda: syscall(169, 0, 0, 0, 0)),
    personality_query=in_child(lambda: syscall(135, 0xFFFFFFFF)),
    personality_i386=in_child(lambda: syscall(135, 0x0008)),
    personality_no_aslr=in_child(lambda: syscall(135, 0x0040000)),
)
