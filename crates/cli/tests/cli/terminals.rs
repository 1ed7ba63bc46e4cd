//! The program on a terminal: a pseudo-terminal of the test's, controlled by the program's own session.

use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};

use crate::program::hothouse;

/// Slower than this is not seen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program on a terminal.
struct OnTerminal {
    /// The side of the person.
    master: OwnedFd,
    /// The side of the program, held open so that its modes can be looked at in the end.
    slave: OwnedFd,
    child: Child,
    /// All that was shown.
    shown: Vec<u8>,
    /// How much of it was looked for already.
    seen: usize,
}

impl OnTerminal {
    /// Starts the program on a terminal of 24 rows and 80 columns.
    fn start(args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&master).expect("its owner");
        unlockpt(&master).expect("its lock");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&name, flags, Mode::empty()).expect("its other side");
        tcsetwinsize(&master, size(24, 80)).expect("its size");
        let wanted = hothouse(args);
        // It makes a session whose terminal is its standard input, as a login does.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(wanted.get_program()).args(wanted.get_args());
        for (name, value) in wanted.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let end = || slave.try_clone().expect("a descriptor");
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("starting setsid");
        Self { master, slave, child, shown: Vec::new(), seen: 0 }
    }

    /// Types.
    fn type_in(&self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            rest = &rest[rustix::io::write(&self.master, rest).expect("typing")..];
        }
    }

    /// Waits until the terminal shows this, after what was waited for before.
    fn wait_for(&mut self, text: &str) {
        let begin = Instant::now();
        loop {
            let fresh = String::from_utf8_lossy(&self.shown[self.seen..]).into_owned();
            if let Some(at) = fresh.find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{text:?} was not shown, but {fresh:?}");
            self.read();
        }
    }

    /// Takes what is there, or waits a moment for it.
    fn read(&mut self) {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut fds, Some(&second)).expect("waiting") > 0 {
            let mut piece = [0; 4096];
            let count = rustix::io::read(&self.master, &mut piece).expect("reading");
            self.shown.extend_from_slice(&piece[..count]);
            // A terminal says where its cursor is when it is asked.
            if piece[..count].windows(4).any(|four| four == b"\x1b[6n") {
                self.type_in("\x1b[1;1R");
            }
        }
    }

    /// Waits for the program's end; its exit status.
    fn status(&mut self) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status.code();
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end: {}", self.text());
            self.read();
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Whether the terminal itself shows what is typed and makes lines of it.
    fn modes(&self) -> LocalModes {
        tcgetattr(&self.slave).expect("its modes").local_modes
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Hanging up would do; a test that failed does not wait for that.
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn a_shell_on_a_terminal_from_prompt_to_exit() {
    let mut shell = OnTerminal::start(&["shell"]);
    let before = shell.modes();
    shell.wait_for("# ");
    assert!(!shell.modes().contains(LocalModes::ECHO), "the inner terminal echoes, ours is raw");
    shell.type_in("echo got-$((6 * 7))\r");
    shell.wait_for("got-42\r\n");
    shell.type_in("stty size\r");
    shell.wait_for("24 80\r\n");

    tcsetwinsize(&shell.master, size(50, 132)).unwrap();
    assert_eq!(tcgetwinsize(&shell.slave).unwrap().ws_col, 132);
    // The new size goes in beside what is typed, and may come later.
    shell.type_in("until [ \"$(stty size)\" = '50 132' ]; do :; done; echo re''sized\r");
    shell.wait_for("resized\r\n");

    // It tells itself that it has begun: until then the terminal is the shell's, and so is an interrupt.
    shell.type_in("sh -c \"echo be''gun; exec sleep 1000\"; echo not ''this\r");
    shell.wait_for("begun\r\n");
    shell.type_in("\x03");
    shell.wait_for("# ");
    shell.type_in("cd /tmp; pwd; exit 7\r");
    shell.wait_for("/tmp\r\n");
    assert_eq!(shell.status(), Some(7));
    assert_eq!(shell.modes(), before, "the terminal is as it was");
    assert!(!shell.text().contains("\nnot this"), "{}", shell.text());
}

#[test]
fn a_live_python_on_a_terminal_from_prompt_to_exit() {
    let mut repl = OnTerminal::start(&["repl"]);
    let before = repl.modes();
    repl.wait_for("Ctrl-D leaves.");
    repl.wait_for(">>> ");
    repl.type_in("x = 20\r");
    repl.type_in("x * 1000 + 1\r");
    repl.wait_for("20001\r\n");
    // A block goes on until an empty line ends it.
    repl.type_in("for i in range(2):\rprint('line', i + 40)\r\r");
    repl.wait_for("IndentationError");
    repl.type_in("for i in range(2): print('line', i + 40)\r");
    repl.wait_for("line 40\r\nline 41\r\n");
    repl.type_in("print('be' + 'gun', flush=True); exec('while True: pass')\r");
    repl.wait_for("begun\r\n");
    repl.type_in("\x03");
    repl.wait_for("KeyboardInterrupt");
    repl.type_in("import os; os._exit(3)\r");
    repl.wait_for("a fresh interpreter was started");
    repl.type_in("x\r");
    repl.wait_for("NameError");
    repl.type_in("exit(7)\r");
    assert_eq!(repl.status(), Some(7), "{}", repl.text());
    assert_eq!(repl.modes(), before, "the terminal is as it was");
}

#[test]
fn a_program_that_is_given_a_terminal_has_one() {
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size; tty; exit 3";
    let mut program = OnTerminal::start(&["run", "--tty", "--", "sh", "-c", script]);
    program.wait_for("24 80\r\n");
    program.wait_for("/dev/pts/0\r\n");
    assert_eq!(program.status(), Some(3));
}

#[test]
fn an_interrupt_on_the_terminal_ends_a_program_that_has_none_of_its_own() {
    let mut program = OnTerminal::start(&["run", "--", "sh", "-c", "echo begun; sleep 1000"]);
    program.wait_for("begun");
    program.type_in("\x03");
    assert_eq!(program.status(), Some(130), "{}", program.text());
}

#[test]
fn scoring_shows_how_far_it_is_on_a_terminal_only() {
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/scoring/tasks.jsonl");
    let solutions = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/scoring/solutions-right.jsonl");
    let args = ["score", tasks, "--solutions", solutions];
    let mut scoring = OnTerminal::start(&args);
    scoring.wait_for("/43 passed ");
    scoring.wait_for("VERDICT");
    assert_eq!(scoring.status(), Some(0), "{}", scoring.text());

    let output = hothouse(&args).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "nobody reads a bar in a file");
}
