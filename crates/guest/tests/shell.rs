//! Shell sessions against the real program.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]

mod driver;

use std::time::{Duration, Instant};

use driver::{Answer, Driver, Guest, fresh_id, is_alive, wait_for};
use hothouse_guest::message::{
    Ending, GuestErrorCode, OutputMode, Reply, Request, ShellOpenRequest, ShellRunRequest,
};
use hothouse_guest::program::tree::{self, Stage};

fn open(driver: &mut Driver, id: &str) {
    let request = ShellOpenRequest {
        shell_id: id.to_owned(),
        env: vec![("GIVEN".to_owned(), "yes".to_owned())],
        cwd: "/usr".to_owned(),
        user: None,
    };
    let answer = driver.request(&Request::ShellOpen(request));
    assert!(matches!(answer.last(), Reply::ShellOpened { .. }), "{answer:?}");
}

fn command(text: &str) -> ShellRunRequest {
    ShellRunRequest {
        shell_id: "s".to_owned(),
        exec_id: fresh_id(),
        command: text.to_owned(),
        timeout_ms: None,
        output_limit: 1 << 20,
        output: OutputMode::Collect,
    }
}

fn run(driver: &mut Driver, text: &str) -> Answer {
    driver.request(&Request::ShellRun(command(text)))
}

fn shells(driver: &mut Driver) -> usize {
    match driver.request(&Request::ShellList).last() {
        Reply::Shells(shells) => shells.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_keeps_its_state_and_reports_each_command() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "s");
    let mut expect = |text: &str, out: &str, code: i32| {
        let answer = run(&mut driver, text);
        assert_eq!(
            (answer.out().as_str(), answer.ending()),
            (out, &Ending::Exited(code)),
            "{text}: {}",
            answer.err()
        );
        answer.err()
    };
    assert_eq!(expect("pwd; echo $GIVEN", "/usr\nyes\n", 0), "");
    expect("cd /tmp; x='a b'; f() { echo f:$1; }", "", 0);
    expect("pwd; f \"$x\"; false", "/tmp\nf:a b\n", 1);
    expect("echo $?", "0\n", 0);
    expect("cat <<'END'\nit's\n\"quoted\" $x `x` \\\nEND\n", "it's\n\"quoted\" $x `x` \\\n", 0);
    expect("for i in 1 2; do\n echo $i\ndone", "1\n2\n", 0);
    expect("echo 'hello!' \"wow!!\"", "hello! wow!!\n", 0);
    expect("", "", 0);
    expect("# nothing", "", 0);
    expect("read line; echo \"[$line]\"", "[]\n", 0);
    expect("printf 'no newline'", "no newline", 0);
    expect("(exit 42)", "", 42);
    assert!(expect("no-such-command", "", 127).contains("not found"));
    assert!(!expect("if then", "", 2).is_empty());
    expect("echo still here", "still here\n", 0);
    assert_eq!(expect("set -x; set +x", "", 0), "++ set +x\n");
    expect("sh -c 'kill -9 $$'", "", 137);
    let long = format!("v='{}'\necho ${{#v}}", "y".repeat(100_000));
    expect(&long, "100000\n", 0);
}

#[test]
fn output_cannot_fake_a_status_and_background_jobs_go_on() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "s");
    let answer = run(
        &mut driver,
        "echo '1 0'; for fd in $(ls /proc/self/fd); do [ $fd -gt 2 ] && echo '1 0' >&$fd; done 2>/dev/null; exit_code() { return 3; }; exit_code",
    );
    assert_eq!(answer.ending(), &Ending::Exited(3));
    let started = Instant::now();
    let answer = run(
        &mut driver,
        "(sleep 0.3; head -c 300000 /dev/zero; echo late > DIR/late) & echo $!"
            .replace("DIR", &guest.path(""))
            .as_str(),
    );
    assert!(started.elapsed() < Duration::from_millis(290));
    assert_eq!(answer.ending(), &Ending::Exited(0));
    // What it writes between commands does not block it.
    wait_for("the job has ended", || std::path::Path::new(&guest.path("late")).exists());
}

#[test]
fn an_interrupt_aborts_the_command_and_not_the_shell() {
    let guest = Guest::start();
    let (mut driver, mut other) = (guest.connect(), guest.connect());
    open(&mut driver, "s");
    for text in
        ["sleep 1000; echo after", "while :; do :; done", "for i in 1 2 3; do sleep 500; done; echo after"]
    {
        run(&mut driver, "keep=1");
        let stream =
            driver.open(&Request::ShellRun(ShellRunRequest { output: OutputMode::Follow, ..command(text) }));
        assert_eq!(driver.reply_of(stream), Reply::Started { replayed: false });
        let again = other.request(&Request::ShellRun(command("echo no")));
        assert_eq!(again.error().0, GuestErrorCode::ShellBusy);
        let interrupt = Request::ShellInterrupt { shell_id: "s".to_owned() };
        assert_eq!(other.request(&interrupt).last(), &Reply::Done);
        let answer = driver.drain(stream);
        assert_eq!((answer.out().as_str(), answer.ending()), ("", &Ending::Exited(130)), "{text}");
        assert_eq!(run(&mut driver, "echo $keep").out(), "1\n");
    }
}

/// Interrupts a command once `when` holds; it must end all the same, and the session go on.
fn interrupt_when(driver: &mut Driver, other: &mut Driver, text: &str, when: impl FnMut() -> bool) {
    let stream = driver.open(&Request::ShellRun(command(text)));
    wait_for("the moment has come", when);
    let interrupt = Request::ShellInterrupt { shell_id: "s".to_owned() };
    assert_eq!(other.request(&interrupt).last(), &Reply::Done);
    let answer = driver.drain(stream);
    assert_eq!((answer.out().as_str(), answer.ending()), ("", &Ending::Exited(130)), "{text}");
    assert_eq!(run(driver, "sleep 0.1; echo whole").out(), "whole\n");
}

#[test]
fn an_interrupt_that_meets_a_program_which_is_exiting_ends_the_command() {
    let guest = Guest::start();
    let (mut driver, mut other) = (guest.connect(), guest.connect());
    open(&mut driver, "s");
    let shell: i32 = run(&mut driver, "echo $$").out().trim().parse().unwrap();
    // The kernel takes a while to take so many mappings away.
    let slow = "import mmap, os; maps = [mmap.mmap(-1, 4096) for _ in range(30000)]; os._exit(0)";
    interrupt_when(&mut driver, &mut other, &format!("python3 -c '{slow}'; sleep 1000; echo after"), || {
        tree::scan().iter().any(|facts| facts.parent == shell && facts.stage == Stage::Exiting)
    });
}

#[test]
fn an_interrupt_is_repeated_for_a_program_that_the_shell_waits_for_after_its_report() {
    let guest = Guest::start();
    let (mut driver, mut other) = (guest.connect(), guest.connect());
    open(&mut driver, "s");
    // A program that was only forked when the interrupt came has the shell wait like this. The lines are those of the
    // report, the first of them empty.
    let (up, late) = (guest.path("up"), guest.path("late"));
    let prompt = format!("lines=$((lines + 1)); [ $lines != 3 ] || {{ touch {late}; sleep 1000; }}");
    let text = format!("PROMPT_COMMAND='{prompt}'; touch {up}; sleep 1000; echo after");
    interrupt_when(&mut driver, &mut other, &text, || std::path::Path::new(&up).exists());
    assert!(std::path::Path::new(&late).exists());
}

#[test]
fn a_command_that_gives_way_late_has_its_own_status() {
    let guest = Guest::start();
    let (mut driver, mut other) = (guest.connect(), guest.connect());
    open(&mut driver, "s");
    // Meanwhile its status is asked for again, and the second answer comes right behind the first.
    let up = guest.path("up");
    let late = format!(
        r#"
import os, signal, time
def late(*_):
    time.sleep(0.3)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, late)
open("{up}", "w")
while True:
    time.sleep(0.05)"#
    );
    let text = format!("python3 -c '{late}'; echo after");
    interrupt_when(&mut driver, &mut other, &text, || std::path::Path::new(&up).exists());
}

#[test]
fn a_timeout_interrupts_and_then_ends_what_does_not_give_way() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "s");
    let request = ShellRunRequest { timeout_ms: Some(200), ..command("echo part; sleep 1000") };
    let answer = driver.request(&Request::ShellRun(request));
    assert_eq!((answer.out().as_str(), answer.ending()), ("part\n", &Ending::TimedOut));
    assert_eq!(run(&mut driver, "echo alive").out(), "alive\n");
    let pid_file = guest.path("pid");
    let text = format!("setsid sh -c 'trap \"\" INT TERM; echo $$ > {pid_file}; while :; do sleep 1; done'");
    let request = ShellRunRequest { timeout_ms: Some(200), ..command(&text) };
    let started = Instant::now();
    let answer = driver.request(&Request::ShellRun(request));
    assert_eq!(answer.ending(), &Ending::TimedOut);
    assert!(answer.err().contains("its shell was ended"), "{}", answer.err());
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let pid = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    assert!(!is_alive(pid));
    assert_eq!(run(&mut driver, "true").error().0, GuestErrorCode::ShellNotFound);
    assert_eq!(shells(&mut driver), 0);
}

#[test]
fn exit_ends_the_session_with_its_status() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "s");
    let request = command("echo bye; exit 3");
    let answer = driver.request(&Request::ShellRun(request.clone()));
    assert_eq!((answer.out().as_str(), answer.ending()), ("bye\n", &Ending::Exited(3)));
    assert_eq!(shells(&mut driver), 0);
    // The result outlives the session.
    let again = driver.request(&Request::ShellRun(request));
    assert!(again.replayed());
    assert_eq!(again.ending(), &Ending::Exited(3));
    open(&mut driver, "s");
    assert_eq!(run(&mut driver, "exec echo replaced").out(), "replaced\n");
    assert_eq!(shells(&mut driver), 0);
}

#[test]
fn closing_ends_everything_in_it() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "s");
    let pid: i32 = run(&mut driver, "sleep 1000 & echo $!").out().trim().parse().unwrap();
    let close = Request::ShellClose { shell_id: "s".to_owned() };
    assert_eq!(driver.request(&close).last(), &Reply::Done);
    assert_eq!(driver.request(&close).error().0, GuestErrorCode::ShellNotFound);
    wait_for("the job has ended", || !is_alive(pid));
    open(&mut driver, "s");
    let stream = driver.open(&Request::ShellRun(command("sleep 1000")));
    let mut other = guest.connect();
    assert_eq!(other.request(&close).last(), &Reply::Done);
    assert!(matches!(driver.drain(stream).ending(), Ending::Signalled(9)));
}

#[test]
fn a_command_with_much_output_is_followed_with_back_pressure() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "s");
    driver.grants = false;
    let request =
        ShellRunRequest { output: OutputMode::Follow, output_limit: 100, ..command("seq 1 300000") };
    let stream = driver.open(&Request::ShellRun(request));
    driver.reply_of(stream);
    driver.grants = true;
    driver.grant(stream, 1 << 20);
    let answer = driver.drain(stream);
    assert_eq!(answer.out(), (1..=300_000).map(|i| format!("{i}\n")).collect::<String>());
    assert_eq!(answer.ending(), &Ending::Exited(0));
}

#[test]
fn sessions_are_refused_with_a_reason() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "s");
    let request = |id: &str, cwd: &str, user: Option<&str>| {
        Request::ShellOpen(ShellOpenRequest {
            shell_id: id.to_owned(),
            env: Vec::new(),
            cwd: cwd.to_owned(),
            user: user.map(str::to_owned),
        })
    };
    assert_eq!(driver.request(&request("s", "/", None)).error().0, GuestErrorCode::ShellExists);
    assert_eq!(driver.request(&request("t", "/nope", None)).error().0, GuestErrorCode::Invalid);
    assert_eq!(driver.request(&request("t", "/", Some("eve"))).error().0, GuestErrorCode::Invalid);
    assert_eq!(run(&mut driver, "a\0b").error().0, GuestErrorCode::Invalid);
}
