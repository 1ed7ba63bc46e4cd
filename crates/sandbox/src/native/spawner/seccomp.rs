//! The system calls that nothing in a sandbox needs and that have let programs out of sandboxes.
//!
//! A deny-list searched as a tree. The kernel runs a fresh filter once for every system call that exists, to learn which
//! are always allowed, and it does so at each install: the length of the paths is paid at every create.

use libc::sock_filter;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL: u32 = 0x8000_0000;

/// Offsets in `struct seccomp_data`, little-endian: low words of the 64-bit arguments.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENT: [u32; 2] = [16, 24];

/// `open_tree_attr`, which libc does not know yet; one number for all architectures.
const OPEN_TREE_ATTR: libc::c_long = 467;

/// Refused with EPERM whatever their arguments.
fn denied() -> Vec<libc::c_long> {
    let mut calls = vec![
        // Mounts: the root file system is made before the program runs.
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_fsconfig,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        OPEN_TREE_ATTR,
        libc::SYS_pivot_root,
        // The root of a sandbox is a directory of its store: a second one inside would be a way out of it.
        libc::SYS_chroot,
        libc::SYS_setns,
        // The keyring is not namespaced by process.
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        // Large attack surfaces that ordinary programs do without.
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_kcmp,
        // The machine itself.
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_acct,
        libc::SYS_syslog,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_adjtimex,
        libc::SYS_clock_adjtime,
        libc::SYS_vhangup,
        // File handles pass by mounts and permissions.
        libc::SYS_open_by_handle_at,
        libc::SYS_name_to_handle_at,
        libc::SYS_fanotify_init,
        libc::SYS_lookup_dcookie,
        // NUMA placement of others.
        libc::SYS_move_pages,
        libc::SYS_migrate_pages,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        libc::SYS_kexec_file_load,
        libc::SYS_iopl,
        libc::SYS_ioperm,
        libc::SYS_modify_ldt,
        libc::SYS_nfsservctl,
        libc::SYS_uselib,
        libc::SYS_ustat,
        libc::SYS_sysfs,
        libc::SYS__sysctl,
    ]);
    calls
}

/// Refused with ENOSYS: callers then fall back to what is allowed.
const ABSENT: [libc::c_long; 5] = [
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
];

/// Every CLONE_NEW* flag, CLONE_NEWTIME aside, whose bit is a signal number's in `clone`.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
const CLONE_NEWTIME: u32 = 0x80;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
/// Address families that network namespaces do not hold back.
const AF_ALG: u32 = 38;
const AF_VSOCK: u32 = 40;
const PR_SET_CHILD_SUBREAPER: u32 = 36;

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("system call numbers are small")
}

/// Where a test leads: to the next instruction, or to a place by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Next,
    Allow,
    Refuse,
    Absent,
    Kill,
    /// The right half of a branch of the tree, by number of the branch.
    Branch(usize),
    /// A block of tests of arguments, by its system call.
    Block(u32),
}

#[derive(Debug, Clone, Copy)]
struct Line {
    code: u16,
    operand: u32,
    yes: Target,
    no: Target,
}

/// A program whose jumps are resolved at the end.
#[derive(Debug, Default)]
struct Assembler {
    lines: Vec<Line>,
    places: Vec<(Target, usize)>,
    branches: usize,
}

impl Assembler {
    fn load(&mut self, offset: u32) {
        self.lines.push(Line { code: LOAD, operand: offset, yes: Target::Next, no: Target::Next });
    }

    fn test(&mut self, code: u16, operand: u32, yes: Target, no: Target) {
        self.lines.push(Line { code, operand, yes, no });
    }

    fn place(&mut self, target: Target) {
        self.places.push((target, self.lines.len()));
    }

    fn end(&mut self, target: Target, verdict: u32) {
        self.place(target);
        self.lines.push(Line { code: RETURN, operand: verdict, yes: Target::Next, no: Target::Next });
    }

    /// Searches the sorted calls for the number that is loaded.
    fn search(&mut self, calls: &[(u32, Target)]) {
        match calls {
            [] => self.test(JUMP_AT_LEAST, 0, Target::Allow, Target::Allow),
            [(call, target)] => self.test(JUMP_EQUAL, *call, *target, Target::Allow),
            more => {
                let (left, right) = more.split_at(more.len() / 2);
                let branch = Target::Branch(self.branches);
                self.branches += 1;
                self.test(JUMP_AT_LEAST, right[0].0, branch, Target::Next);
                self.search(left);
                self.place(branch);
                self.search(right);
            }
        }
    }

    /// Tests of one argument of a call: those that hold refuse it.
    fn block(&mut self, call: libc::c_long, argument: usize, code: u16, operands: &[u32]) {
        self.place(Target::Block(number(call)));
        self.load(ARGUMENT[argument]);
        let last = operands.len() - 1;
        for (at, &operand) in operands.iter().enumerate() {
            let otherwise = if at == last { Target::Allow } else { Target::Next };
            self.test(code, operand, Target::Refuse, otherwise);
        }
    }

    fn assemble(self) -> Vec<sock_filter> {
        let distance = |from: usize, target: Target| {
            let to = match target {
                Target::Next => from + 1,
                named => {
                    let found = self.places.iter().find(|(place, _)| *place == named);
                    found.expect("every target is placed").1
                }
            };
            u8::try_from(to - from - 1).expect("the program is short and its jumps lead forward")
        };
        let step = |(at, line): (usize, &Line)| sock_filter {
            code: line.code,
            jt: if matches!(line.code, LOAD | RETURN) { 0 } else { distance(at, line.yes) },
            jf: if matches!(line.code, LOAD | RETURN) { 0 } else { distance(at, line.no) },
            k: line.operand,
        };
        self.lines.iter().enumerate().map(step).collect()
    }
}

fn errno(code: i32) -> u32 {
    ERRNO | u32::try_from(code).expect("errnos are positive")
}

/// Calls whose arguments decide.
const BY_ARGUMENT: [libc::c_long; 7] = [
    libc::SYS_clone,
    libc::SYS_unshare,
    libc::SYS_ioctl,
    libc::SYS_socket,
    libc::SYS_personality,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
];

/// The filter of every sandbox.
pub(super) fn filter() -> Vec<sock_filter> {
    let mut calls: Vec<(u32, Target)> = Vec::new();
    calls.extend(denied().into_iter().map(|call| (number(call), Target::Refuse)));
    calls.extend(ABSENT.map(|call| (number(call), Target::Absent)));
    calls.extend(BY_ARGUMENT.map(|call| (number(call), Target::Block(number(call)))));
    calls.sort_unstable_by_key(|(call, _)| *call);

    let mut program = Assembler::default();
    program.load(ARCH);
    program.test(JUMP_EQUAL, ARCHITECTURE, Target::Next, Target::Kill);
    program.load(NUMBER);
    // The x32 numbers reach the same calls by other names.
    program.test(JUMP_AT_LEAST, 0x4000_0000, Target::Kill, Target::Next);
    program.search(&calls);
    program.block(libc::SYS_clone, 0, JUMP_SET, &[NAMESPACE_FLAGS]);
    program.block(libc::SYS_unshare, 0, JUMP_SET, &[NAMESPACE_FLAGS | CLONE_NEWTIME]);
    program.block(libc::SYS_ioctl, 1, JUMP_EQUAL, &[TIOCSTI, TIOCLINUX]);
    program.block(libc::SYS_socket, 0, JUMP_EQUAL, &[AF_ALG, AF_VSOCK]);
    // Equal users may limit each other, whatever their capabilities; but nobody the guest.
    program.block(libc::SYS_prlimit64, 0, JUMP_EQUAL, &[1]);
    // Legacy execution domains relax memory protections; 0xffffffff only asks.
    program.place(Target::Block(number(libc::SYS_personality)));
    program.load(ARGUMENT[0]);
    program.test(JUMP_EQUAL, 0, Target::Allow, Target::Next);
    program.test(JUMP_EQUAL, 0xffff_ffff, Target::Allow, Target::Refuse);
    // The guest makes each exec's leader a subreaper, so that its daemons stay its descendants; it must stay one.
    program.place(Target::Block(number(libc::SYS_prctl)));
    program.load(ARGUMENT[0]);
    program.test(JUMP_EQUAL, PR_SET_CHILD_SUBREAPER, Target::Next, Target::Allow);
    program.load(ARGUMENT[1]);
    program.test(JUMP_EQUAL, 0, Target::Refuse, Target::Allow);

    program.end(Target::Allow, ALLOW);
    program.end(Target::Refuse, errno(libc::EPERM));
    program.end(Target::Absent, errno(libc::ENOSYS));
    program.end(Target::Kill, KILL);
    program.assemble()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn verdict(program: &[sock_filter], arch: u32, number: u32, arguments: [u32; 2]) -> u32 {
        let load = |offset: u32| match offset {
            NUMBER => number,
            ARCH => arch,
            16 => arguments[0],
            24 => arguments[1],
            other => panic!("load of offset {other}"),
        };
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let i = &program[at];
            let branch = |taken: bool| at + 1 + usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                LOAD => {
                    accumulator = load(i.k);
                    at += 1;
                }
                JUMP_EQUAL => at = branch(accumulator == i.k),
                JUMP_AT_LEAST => at = branch(accumulator >= i.k),
                JUMP_SET => at = branch(accumulator & i.k != 0),
                RETURN => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn of(call: libc::c_long, arguments: [u32; 2]) -> u32 {
        verdict(&filter(), ARCHITECTURE, number(call), arguments)
    }

    const EPERM: u32 = ERRNO | 1;
    const ENOSYS: u32 = ERRNO | 38;

    #[test]
    fn every_denied_call_is_refused_and_ordinary_ones_are_not() {
        for call in denied() {
            assert_eq!(of(call, [0, 0]), EPERM, "call {call}");
        }
        for call in ABSENT {
            assert_eq!(of(call, [0, 0]), ENOSYS, "call {call}");
        }
        for call in [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_openat,
            libc::SYS_futex,
            libc::SYS_ptrace,
            libc::SYS_kill,
        ] {
            assert_eq!(of(call, [0, 0]), ALLOW, "call {call}");
        }
    }

    #[test]
    fn arguments_decide_where_a_call_has_good_uses() {
        assert_eq!(of(libc::SYS_clone, [libc::CLONE_NEWUSER as u32 | 17, 0]), EPERM);
        assert_eq!(of(libc::SYS_clone, [17, 0]), ALLOW);
        assert_eq!(of(libc::SYS_unshare, [libc::CLONE_NEWNS as u32, 0]), EPERM);
        assert_eq!(of(libc::SYS_unshare, [libc::CLONE_FILES as u32, 0]), ALLOW);
        assert_eq!(of(libc::SYS_ioctl, [0, TIOCSTI]), EPERM);
        assert_eq!(of(libc::SYS_ioctl, [0, TIOCLINUX]), EPERM);
        assert_eq!(of(libc::SYS_ioctl, [0, 0x5413]), ALLOW);
        assert_eq!(of(libc::SYS_socket, [40, 0]), EPERM);
        assert_eq!(of(libc::SYS_socket, [2, 0]), ALLOW);
        assert_eq!(of(libc::SYS_personality, [0x0040_0000, 0]), EPERM);
        assert_eq!(of(libc::SYS_personality, [0xffff_ffff, 0]), ALLOW);
        assert_eq!(of(libc::SYS_personality, [0, 0]), ALLOW);
        assert_eq!(of(libc::SYS_prctl, [36, 0]), EPERM);
        assert_eq!(of(libc::SYS_prctl, [36, 1]), ALLOW);
        assert_eq!(of(libc::SYS_prctl, [15, 0]), ALLOW);
        assert_eq!(of(libc::SYS_prlimit64, [1, 7]), EPERM);
        assert_eq!(of(libc::SYS_prlimit64, [0, 7]), ALLOW);
    }

    #[test]
    fn no_call_takes_many_steps() {
        let program = filter();
        let longest = (0..500_u32)
            .map(|number| {
                let (mut at, mut steps) = (0, 0);
                // All arguments zero, as the kernel's own trial has it: it stops at the first load of one.
                loop {
                    let i = &program[at];
                    steps += 1;
                    let taken = match i.code {
                        LOAD | RETURN if i.k == ARCH || i.k == NUMBER => false,
                        LOAD | RETURN => break steps,
                        JUMP_EQUAL => (if at == 1 { ARCHITECTURE } else { number }) == i.k,
                        JUMP_AT_LEAST => number >= i.k,
                        other => panic!("instruction {other:#x}"),
                    };
                    at += 1;
                    if i.code != LOAD {
                        at += usize::from(if taken { i.jt } else { i.jf });
                    }
                }
            })
            .max();
        assert!(longest.is_some_and(|steps| steps <= 14), "{longest:?} steps of {}", program.len());
    }

    #[test]
    fn foreign_architectures_and_x32_are_killed() {
        assert_eq!(verdict(&filter(), 0x4000_0003, 1, [0, 0]), KILL);
        assert_eq!(verdict(&filter(), ARCHITECTURE, 0x4000_0000 + 1, [0, 0]), KILL);
    }
}
