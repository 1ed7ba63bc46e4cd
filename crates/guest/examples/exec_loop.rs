//! Times execs and shell commands against a real guest, beside what the kernel alone needs, interleaved in one run:
//! `cargo run --profile guest -p hothouse-guest --features program --example exec_loop -- [ROUNDS]`
//!
//! The guest program is the one of the same profile.

#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing to say")]

#[path = "../tests/driver/mod.rs"]
mod driver;

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use driver::{Guest, argv, fresh_id};
use hothouse_guest::message::{Ending, OutputMode, Request, ShellOpenRequest, ShellRunRequest};

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn posix_spawn() {
    let mut child = Command::new("/bin/true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut out).unwrap();
    child.wait().unwrap();
}

#[expect(clippy::print_stdout, reason = "it is what the example is for")]
fn main() {
    let rounds = std::env::args().nth(1).map_or(2000, |text| text.parse().expect("a number of rounds"));
    let guest = Guest::start();
    let mut driver = guest.connect();
    let open = ShellOpenRequest { shell_id: "s".to_owned(), env: vec![], cwd: "/".to_owned(), user: None };
    driver.request(&Request::ShellOpen(open));
    let mut times: [(&str, Vec<Duration>); 4] =
        ["posix_spawn true", "exec true", "shell true", "info"].map(|name| (name, Vec::new()));
    for _ in 0..rounds {
        times[0].1.push(timed(posix_spawn));
        times[1].1.push(timed(|| {
            let answer = driver.exec(argv(&["/bin/true"]));
            assert_eq!(answer.ending(), &Ending::Exited(0));
        }));
        times[2].1.push(timed(|| {
            let request = ShellRunRequest {
                shell_id: "s".to_owned(),
                exec_id: fresh_id(),
                command: "true".to_owned(),
                timeout_ms: None,
                output_limit: 1 << 20,
                output: OutputMode::Collect,
            };
            driver.request(&Request::ShellRun(request));
        }));
        times[3].1.push(timed(|| {
            driver.request(&Request::ExecStatus { exec_id: "none".to_owned() });
        }));
    }
    for (name, times) in &mut times {
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100];
        println!("{name:18} p50 {:?}  p90 {:?}  p99 {:?}", at(50), at(90), at(99));
    }
}
