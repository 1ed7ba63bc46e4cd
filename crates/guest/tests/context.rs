//! Contexts against the real program and this machine's python3.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]

mod driver;

use std::time::{Duration, Instant};

use driver::{Answer, Driver, Guest, fresh_id, is_alive, wait_for};
use hothouse_guest::message::{
    ContextEntry, ContextOpenRequest, ContextRunRequest, ContextState, Ending, GuestErrorCode, OutputMode,
    Reply, Request,
};
use hothouse_guest::program::tree::{Facts, scan};
use rustix::process::{Pid, Signal, kill_process};

fn terms(id: &str) -> ContextOpenRequest {
    ContextOpenRequest {
        context_id: id.to_owned(),
        imports: None,
        env: vec![("GIVEN".to_owned(), "yes".to_owned())],
        secrets: vec![("SECRET".to_owned(), "hidden".to_owned())],
        cwd: "/usr".to_owned(),
        user: None,
        memory_bytes: None,
    }
}

fn opened(answer: &Answer) -> ContextEntry {
    match answer.last() {
        Reply::ContextOpened(entry) => entry.clone(),
        other => panic!("{other:?}"),
    }
}

fn open(driver: &mut Driver, id: &str) -> ContextEntry {
    let answer = driver.request(&Request::ContextOpen(terms(id)));
    opened(&answer)
}

fn code(id: &str, text: &str) -> ContextRunRequest {
    ContextRunRequest {
        context_id: id.to_owned(),
        exec_id: fresh_id(),
        code: text.to_owned(),
        timeout_ms: None,
        grace_ms: 500,
        output_limit: 1 << 20,
        output: OutputMode::Collect,
    }
}

fn run(driver: &mut Driver, id: &str, text: &str) -> Answer {
    driver.request(&Request::ContextRun(code(id, text)))
}

/// The JSON of what code came to.
fn eval(driver: &mut Driver, id: &str, text: &str) -> String {
    let answer = run(driver, id, text);
    assert_eq!(answer.ending(), &Ending::Exited(0), "{text}: {}", answer.value());
    answer.value()
}

fn list(driver: &mut Driver) -> Vec<ContextEntry> {
    match driver.request(&Request::ContextList).last() {
        Reply::Contexts(entries) => entries.clone(),
        other => panic!("{other:?}"),
    }
}

fn state(driver: &mut Driver, id: &str) -> ContextState {
    list(driver).into_iter().find(|entry| entry.context_id == id).expect("it is listed").state
}

fn fork(driver: &mut Driver, id: &str, new_id: &str) -> Answer {
    driver.request(&Request::ContextFork { context_id: id.to_owned(), new_id: new_id.to_owned() })
}

fn pid_of(driver: &mut Driver, id: &str) -> i32 {
    run(driver, id, "import os; print(os.getpid())").out().trim().parse().expect("a process id")
}

/// The guest's child that is none of these contexts.
fn zygote_of(guest: &Guest, driver: &mut Driver, contexts: &[&str]) -> i32 {
    let contexts: Vec<i32> = contexts.iter().map(|id| pid_of(driver, id)).collect();
    let is_it = |facts: &&Facts| facts.parent == guest.pid() && !contexts.contains(&facts.process.pid);
    scan().iter().find(is_it).expect("a zygote").process.pid
}

fn send_signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process");
    kill_process(pid, signal).expect("it can be signalled");
}

#[test]
fn a_context_keeps_its_variables_and_tells_what_code_came_to() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let entry = open(&mut driver, "c");
    assert!(entry.version.starts_with("3."), "{entry:?}");
    assert_eq!(entry.state, ContextState::Idle);
    assert_eq!(eval(&mut driver, "c", "x = 20"), "{}");
    assert_eq!(eval(&mut driver, "c", "x + 1"), r#"{"value": {"repr": "21", "json": 21}}"#);
    let answer = run(
        &mut driver,
        "c",
        "import sys, os\nprint('out', os.getcwd(), os.environ['GIVEN'], os.environ['SECRET'])\nprint('err', file=sys.stderr)\n[x, 'é']",
    );
    assert_eq!((answer.out().as_str(), answer.err().as_str()), ("out /usr yes hidden\n", "err\n"));
    assert_eq!(answer.value(), r#"{"value": {"repr": "[20, 'é']", "json": [20, "é"]}}"#);
    let answer = run(&mut driver, "c", "def f():\n    return 1 / 0\nf()");
    assert_eq!(answer.ending(), &Ending::Exited(1));
    let told = answer.value();
    for part in ["ZeroDivisionError", "division by zero", "line 3, in <module>", "return 1 / 0"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert!(!told.contains("hothouse"), "{told}");
    let answer = run(&mut driver, "c", "import sys; sys.exit(7)");
    assert_eq!(answer.ending(), &Ending::Exited(7));
    assert_eq!(
        eval(&mut driver, "c", "await __import__('asyncio').sleep(0, 5)"),
        r#"{"value": {"repr": "5", "json": 5}}"#
    );
    assert!(eval(&mut driver, "c", "input() if 0 else f.__name__").contains("'f'"));
    assert!(run(&mut driver, "c", "input()").value().contains("EOFError"));
}

#[test]
fn what_is_no_code_of_a_well_behaved_kind_is_an_answer_too() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "c");
    for (text, part) in [
        ("1 +", "SyntaxError"),
        ("a\0b", "null bytes"),
        ("class R:\n def __repr__(self): raise OSError('no repr')\nR()", "no repr"),
        ("class E(Exception):\n def __str__(self): raise ValueError('no text')\nraise E", "ValueError"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("raise BaseException('base')", "base"),
    ] {
        let answer = run(&mut driver, "c", text);
        assert_eq!(answer.ending(), &Ending::Exited(1), "{text:?}");
        assert!(answer.value().contains(part), "{text:?}: {}", answer.value());
    }
    for (text, part) in [
        ("'\\ud800'", "ud800"),
        ("float('nan')", r#""repr": "nan""#),
        ("l = []; l.append(l); l", "[[...]]"),
        ("'x' * 9_000_000", "characters"),
        ("list(range(2_000_000))", "characters"),
        (
            "class H:\n def _repr_png_(self): return b'\\x89PNG'\n def _repr_html_(self): return '<b>'\nH()",
            r#""image/png": "iVBORw==""#,
        ),
        ("display(5)", r#""displays": [{"text/plain": "5"}]"#),
    ] {
        let answer = run(&mut driver, "c", text);
        assert_eq!(answer.ending(), &Ending::Exited(0), "{text:?}: {}", answer.value());
        assert!(
            answer.value().len() < 4 << 20 && answer.value().contains(part),
            "{text:?}: {}",
            answer.value()
        );
    }
    // A child that comes back from the code has no part in what follows, and closed outputs come back.
    let answer = run(&mut driver, "c", "import os, sys\nif os.fork() == 0: print('child')\nelse: os.wait()");
    assert_eq!((answer.out().as_str(), answer.value().as_str()), ("child\n", "{}"));
    run(&mut driver, "c", "sys.stdout.close(); os.close(2)");
    let answer = run(&mut driver, "c", "print('out'); os.write(2, b'err')");
    assert_eq!((answer.out().as_str(), answer.err().as_str()), ("out\n", "err"));
    // What a thread prints later holds nothing up and goes nowhere.
    let text = "import threading, time\nthreading.Timer(0.05, lambda: [print('late' * 50000), open(PATH, 'w').close()]).start()";
    run(&mut driver, "c", &text.replace("PATH", &format!("{:?}", guest.path("late"))));
    wait_for("the thread has printed", || std::path::Path::new(&guest.path("late")).exists());
}

#[test]
fn an_interrupt_is_a_keyboard_interrupt_and_the_context_lives() {
    let guest = Guest::start();
    let (mut driver, mut other) = (guest.connect(), guest.connect());
    open(&mut driver, "c");
    for text in [
        "print('begun', flush=True)\nimport time\ntime.sleep(1000)",
        "print('begun', flush=True)\nwhile True: pass",
        "print('begun', flush=True)\nimport subprocess\nsubprocess.run(['sleep', '1000'])",
        "print('begun', flush=True)\nclass R:\n def __repr__(self):\n  while True: pass\nR()",
        "print('begun', flush=True)\nimport asyncio\nawait asyncio.sleep(1000)",
    ] {
        run(&mut driver, "c", "keep = 1");
        let request = ContextRunRequest { output: OutputMode::Follow, ..code("c", text) };
        let stream = driver.open(&Request::ContextRun(request));
        assert_eq!(driver.reply_of(stream), Reply::Started { replayed: false });
        let again = other.request(&Request::ContextRun(code("c", "1")));
        assert_eq!(again.error().0, GuestErrorCode::ContextBusy);
        assert_eq!(fork(&mut other, "c", "d").error().0, GuestErrorCode::ContextBusy);
        assert_eq!(state(&mut other, "c"), ContextState::Busy);
        let interrupt = Request::ContextInterrupt { context_id: "c".to_owned() };
        assert_eq!(other.request(&interrupt).last(), &Reply::Done);
        let answer = driver.drain(stream);
        assert_eq!(answer.ending(), &Ending::Exited(1), "{text}");
        assert!(answer.value().contains("KeyboardInterrupt"), "{text}: {}", answer.value());
        assert!(eval(&mut driver, "c", "keep").contains('1'));
    }
}

#[test]
fn a_timeout_interrupts_and_then_ends_what_does_not_give_way() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "c");
    let request =
        ContextRunRequest { timeout_ms: Some(200), ..code("c", "x = 5\nprint('part')\nwhile True: pass") };
    let answer = driver.request(&Request::ContextRun(request));
    assert_eq!((answer.out().as_str(), answer.ending()), ("part\n", &Ending::TimedOut));
    assert!(answer.value().contains("KeyboardInterrupt"), "{}", answer.value());
    assert!(eval(&mut driver, "c", "x").contains('5'));
    let pid: i32 = run(
        &mut driver,
        "c",
        "import subprocess\np = subprocess.Popen(['sleep', '1000'], start_new_session=True)\nprint(p.pid)",
    )
    .out()
    .trim()
    .parse()
    .unwrap();
    let stubborn =
        "while True:\n    try:\n        for i in range(10**9): pass\n    except BaseException: pass";
    let request = ContextRunRequest { timeout_ms: Some(200), ..code("c", stubborn) };
    let started = Instant::now();
    let answer = driver.request(&Request::ContextRun(request));
    assert_eq!(answer.ending(), &Ending::TimedOut);
    assert_eq!(answer.value(), r#"{"died":"its code did not give way to an interrupt"}"#);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(!is_alive(pid));
    let (code_, message) = run(&mut driver, "c", "1").error();
    assert_eq!(code_, GuestErrorCode::ContextEnded, "{message}");
    assert!(message.contains("did not give way"), "{message}");
    let answer = driver.request(&Request::ContextReset { context_id: "c".to_owned() });
    assert_eq!(opened(&answer).state, ContextState::Idle);
    assert!(run(&mut driver, "c", "x").value().contains("NameError"));
}

#[test]
fn a_context_that_dies_says_why_and_its_run_is_not_lost() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    for (text, ending, why) in [
        ("import os; print('bye', flush=True); os._exit(3)", Ending::Exited(3), "it exited with status 3"),
        (
            "import os; print('bye', flush=True); os.kill(os.getpid(), 11)",
            Ending::Signalled(11),
            "signal 11 ended it",
        ),
        (
            "import os; print('bye', flush=True)\nos.closerange(3, 4000)",
            Ending::Signalled(9),
            "it closed the socket that it is told by what to run",
        ),
    ] {
        open(&mut driver, "c");
        let request = code("c", text);
        let answer = driver.request(&Request::ContextRun(request.clone()));
        assert_eq!((answer.out().as_str(), answer.ending()), ("bye\n", &ending), "{text}");
        assert_eq!(answer.value(), format!("{{\"died\":\"{why}\"}}"));
        assert_eq!(state(&mut driver, "c"), ContextState::Ended(why.to_owned()));
        let again = driver.request(&Request::ContextRun(request));
        assert!(again.replayed());
        assert_eq!((again.ending(), again.value()), (&ending, answer.value()));
        let close = Request::ContextClose { context_id: "c".to_owned() };
        assert_eq!(driver.request(&close).last(), &Reply::Done);
        assert_eq!(driver.request(&close).error().0, GuestErrorCode::ContextNotFound);
    }
    // While it is idle too.
    open(&mut driver, "c");
    run(&mut driver, "c", "import threading, os\nthreading.Timer(0.05, lambda: os._exit(4)).start()");
    wait_for("it has ended", || {
        state(&mut driver, "c") == ContextState::Ended("it exited with status 4".to_owned())
    });
}

#[test]
fn what_code_says_on_the_guests_socket_harms_its_own_context_only() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "good");
    for (send, ends) in [
        ("b'x' * 100", true),
        ("b'd\\xff\\xff\\xff\\xff'", true),
        ("b'o\\x00\\x00\\x00\\x00'", true),
        ("b'h\\x01\\x00\\x00\\x00x'", true),
        ("b'p\\x00\\x00\\x00\\x00'", true),
        ("b'd\\x03\\x00\\x00\\x00\\x00{}' * 2", true),
        ("b'd\\x05\\x00\\x00\\x00\\x00lies'", false),
    ] {
        open(&mut driver, "bad");
        let text = format!(
            "import os, stat, time\nfor fd in range(3, 100):\n    try:\n        if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, {send})\n    except OSError: pass\ntime.sleep(ends) if (ends := {}) else None",
            if ends { 1000 } else { 0 }
        );
        let answer = run(&mut driver, "bad", &text);
        if ends && !send.contains("* 2") {
            assert_eq!(answer.ending(), &Ending::Signalled(9), "{send}: {}", answer.value());
        }
        assert!(eval(&mut driver, "good", "1 + 1").contains('2'));
        driver.request(&Request::ContextClose { context_id: "bad".to_owned() });
    }
    // A child that tells in its parent's place what the parent's code came to.
    open(&mut driver, "bad");
    let text = "import os, stat, time\nif os.fork() == 0:\n    for fd in range(3, 100):\n        try:\n            if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b'd\\x03\\x00\\x00\\x00\\x00{}')\n        except OSError: pass\n    os._exit(0)\ntime.sleep(1000)";
    let answer = run(&mut driver, "bad", text);
    assert_eq!(answer.ending(), &Ending::Signalled(9), "{}", answer.value());
    assert_eq!(answer.value(), r#"{"died":"another process spoke in its place"}"#);
}

#[test]
fn a_fork_has_everything_and_shares_nothing() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "c");
    let path = guest.path("file");
    run(&mut driver, "c", &format!("import random, uuid\nx = [1]\nf = open({path:?}, 'w+')\nf.write('abc')"));
    let parent = pid_of(&mut driver, "c");
    let answer = fork(&mut driver, "c", "d");
    let entry = opened(&answer);
    assert_eq!((entry.forked_from.as_deref(), entry.state), (Some("c"), ContextState::Idle));
    assert_eq!(fork(&mut driver, "c", "d").error().0, GuestErrorCode::ContextExists);
    opened(&fork(&mut driver, "d", "e"));
    let pids = ["c", "d", "e"].map(|id| pid_of(&mut driver, id));
    assert!(pids[0] == parent && pids[1] != parent && pids[2] != parent && pids[1] != pids[2]);
    for id in ["c", "d", "e"] {
        eval(&mut driver, id, &format!("x.append({id:?})"));
    }
    for id in ["c", "d", "e"] {
        assert!(eval(&mut driver, id, "x").contains(&format!(r#""json": [1, "{id}"]"#)));
    }
    // An offset of its own, and nothing written twice.
    assert!(eval(&mut driver, "d", "f.write('d'); f.flush(); f.tell()").contains('4'));
    assert!(eval(&mut driver, "c", "f.tell()").contains('3'));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "abcd");
    let numbers: std::collections::HashSet<String> =
        ["c", "d", "e"].map(|id| eval(&mut driver, id, "random.random(), str(uuid.uuid4())")).into();
    assert_eq!(numbers.len(), 3);
    // The parent's end is not the branches'.
    driver.request(&Request::ContextClose { context_id: "c".to_owned() });
    wait_for("the parent is gone", || !is_alive(parent));
    assert!(eval(&mut driver, "e", "x").contains('e'));
    let exit = run(&mut driver, "e", "import os; os._exit(9)");
    assert_eq!(exit.ending(), &Ending::Exited(9));
}

#[test]
fn two_contexts_of_a_zygote_have_different_random_numbers() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let numbers: std::collections::HashSet<String> = ["a", "b", "c"]
        .map(|id| {
            open(&mut driver, id);
            eval(&mut driver, id, "import random; random.random()")
        })
        .into();
    assert_eq!(numbers.len(), 3);
    // The secret is in none but the context: its zygote's environment has what was given, and no more.
    let zygote = zygote_of(&guest, &mut driver, &["a", "b", "c"]);
    let env = std::fs::read(format!("/proc/{zygote}/environ")).unwrap();
    let env = String::from_utf8_lossy(&env);
    assert!(env.contains("GIVEN=yes") && !env.contains("hidden"), "{env}");
}

#[test]
fn a_zygote_that_is_killed_costs_no_context() {
    let guest = Guest::start();
    let (mut driver, mut other) = (guest.connect(), guest.connect());
    open(&mut driver, "a");
    let zygote = zygote_of(&guest, &mut driver, &["a"]);
    send_signal(zygote, Signal::STOP);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| open(&mut other, "b"));
        wait_for("it is asked for", || list(&mut driver).len() == 2);
        send_signal(zygote, Signal::KILL);
        assert_eq!(asked.join().unwrap().state, ContextState::Idle);
    });
    assert!(eval(&mut driver, "b", "1 + 1").contains('2'));
    assert!(eval(&mut driver, "a", "1 + 1").contains('2'));
}

#[test]
fn a_memory_limit_is_a_memory_error_and_the_context_lives() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let request = ContextOpenRequest { memory_bytes: Some(64 << 20), ..terms("c") };
    opened(&driver.request(&Request::ContextOpen(request)));
    let answer = run(&mut driver, "c", "x = bytearray(200 << 20)");
    assert_eq!(answer.ending(), &Ending::Exited(1));
    assert!(answer.value().contains("MemoryError"), "{}", answer.value());
    assert!(eval(&mut driver, "c", "len(bytearray(8 << 20))").contains("8388608"));
    let request = ContextOpenRequest { memory_bytes: Some(1 << 20), ..terms("d") };
    let answer = driver.request(&Request::ContextOpen(request));
    assert!(answer.error().1.contains("memory_bytes 1048576 is less"), "{answer:?}");
}

#[test]
fn what_cannot_be_opened_says_why() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let mut refused = |request: ContextOpenRequest| driver.request(&Request::ContextOpen(request)).error();
    let imports = Some(vec!["json".to_owned(), "no_such_module".to_owned()]);
    for _ in 0..2 {
        let (code, message) = refused(ContextOpenRequest { imports: imports.clone(), ..terms("c") });
        assert_eq!(code, GuestErrorCode::Invalid);
        assert!(message.contains("no_such_module"), "{message}");
    }
    let (code, message) = refused(ContextOpenRequest { cwd: "/nope".to_owned(), ..terms("c") });
    assert!(code == GuestErrorCode::Invalid && message.contains("/nope"), "{message}");
    let imports = Some(vec!["os; x".to_owned()]);
    assert_eq!(refused(ContextOpenRequest { imports, ..terms("c") }).0, GuestErrorCode::Invalid);
    assert_eq!(
        refused(ContextOpenRequest { user: Some("eve".to_owned()), ..terms("c") }).0,
        GuestErrorCode::Invalid
    );
    let env = vec![("PATH".to_owned(), guest.path(""))];
    let (code, message) = refused(ContextOpenRequest { env, ..terms("c") });
    assert!(code == GuestErrorCode::Unsupported && message.contains("no python3"), "{message}");
    // One that cannot start, and one that is too old.
    for (script, part) in [
        ("#!/bin/sh\necho broken >&2\nexit 5\n", "status 5: broken"),
        ("#!/bin/sh\nexit 77\n", "older than 3.8"),
    ] {
        let name = guest.path("python3");
        std::fs::write(&name, script).unwrap();
        std::fs::set_permissions(&name, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let env = vec![("PATH".to_owned(), format!("{}:/bin", guest.path("")))];
        let (code, message) = refused(ContextOpenRequest { env, ..terms("c") });
        assert!(code == GuestErrorCode::Unsupported && message.contains(part), "{message}");
    }
    assert_eq!(run(&mut driver, "c", "1").error().0, GuestErrorCode::ContextNotFound);
    assert!(list(&mut driver).is_empty());
    open(&mut driver, "c");
    assert_eq!(driver.request(&Request::ContextOpen(terms("c"))).error().0, GuestErrorCode::ContextExists);
}

#[test]
fn closing_ends_everything_in_it_and_a_run_under_it_is_told() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "c");
    let text = "import subprocess\nprint(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid)";
    let pid: i32 = run(&mut driver, "c", text).out().trim().parse().unwrap();
    let close = Request::ContextClose { context_id: "c".to_owned() };
    assert_eq!(driver.request(&close).last(), &Reply::Done);
    wait_for("what it started has ended", || !is_alive(pid));
    open(&mut driver, "c");
    let stream = driver.open(&Request::ContextRun(code("c", "import time\ntime.sleep(1000)")));
    let mut other = guest.connect();
    assert_eq!(other.request(&close).last(), &Reply::Done);
    let answer = driver.drain(stream);
    assert_eq!(answer.ending(), &Ending::Signalled(9));
    assert_eq!(answer.value(), r#"{"died":"it was closed"}"#);
    assert!(list(&mut driver).is_empty());
}

#[test]
fn what_a_context_writes_is_followed_with_back_pressure_and_kept_within_its_limit() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    open(&mut driver, "c");
    driver.grants = false;
    let text = "for i in range(300000): print(i)\n'end'";
    let request = ContextRunRequest { output: OutputMode::Follow, output_limit: 100, ..code("c", text) };
    let stream = driver.open(&Request::ContextRun(request));
    driver.reply_of(stream);
    driver.grants = true;
    driver.grant(stream, 1 << 20);
    let answer = driver.drain(stream);
    assert_eq!(answer.out(), (0..300_000).map(|i| format!("{i}\n")).collect::<String>());
    assert!(answer.value().contains("end"));
    let answer =
        driver.request(&Request::ContextRun(ContextRunRequest { output_limit: 100, ..code("c", text) }));
    assert_eq!((answer.stdout.len(), answer.finished().stdout_dropped > 0), (100, true));
}
