//! Execs against the real program.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]

mod driver;

use std::time::{Duration, Instant};

use driver::{Guest, argv, is_alive, sh, wait_for};
use hothouse_guest::frame::{Channel, Kind};
use hothouse_guest::message::{
    Ending, ExecRequest, GuestErrorCode, OutputMode, OutputStream, Reply, Request, SignalTarget,
};

#[test]
fn argv_and_shell_run_with_separate_outputs_and_exit_codes() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let answer = driver.exec(argv(&["printf", "%s-%s", "a", "b c"]));
    assert_eq!((answer.out().as_str(), answer.ending()), ("a-b c", &Ending::Exited(0)));
    let answer = driver.sh("echo out; echo err >&2; exit 7");
    assert_eq!((answer.out().as_str(), answer.err().as_str()), ("out\n", "err\n"));
    assert_eq!(answer.ending(), &Ending::Exited(7));
    assert!(answer.finished().max_rss > 0);
    let answer = driver.sh("kill -USR1 $$");
    assert_eq!(answer.ending(), &Ending::Signalled(10));
}

#[test]
fn environment_directory_and_defaults() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let env = vec![("A".to_owned(), "x y".to_owned()), ("HOME".to_owned(), "/tmp".to_owned())];
    let answer = driver.exec(ExecRequest {
        env,
        cwd: "/usr".to_owned(),
        ..sh("echo $A $HOME $USER $PWD; env | wc -l")
    });
    assert!(answer.out().starts_with("x y /tmp root /usr\n"), "{}", answer.out());
}

#[test]
fn what_does_not_start_says_why() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let mut reason = |request: ExecRequest| match driver.exec(request).ending() {
        Ending::FailedToStart(reason) => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(argv(&["python9"])), "python9: no such program in PATH");
    assert_eq!(reason(argv(&["/etc/passwd"])), "/etc/passwd: not executable");
    assert_eq!(reason(argv(&["/nope"])), "/nope: no such program");
    let cwd = "/no/such".to_owned();
    assert_eq!(reason(ExecRequest { cwd, ..sh("true") }), "cwd /no/such: no such directory");
    let user = Some("nobody-here".to_owned());
    assert_eq!(reason(ExecRequest { user, ..sh("true") }), "user nobody-here: not in /etc/passwd");
}

#[test]
fn another_user_is_another_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let guest = Guest::start();
    let mut driver = guest.connect();
    let answer =
        driver.exec(ExecRequest { user: Some("nobody".to_owned()), ..sh("id -u; id -G; echo $HOME") });
    let nobody = driver.sh("id -u nobody; id -G nobody; getent passwd nobody | cut -d: -f6").out();
    assert_eq!(answer.out(), nobody);
    let answer = driver.exec(ExecRequest { user: Some("1234:5678".to_owned()), ..sh("id -u; id -g") });
    assert_eq!(answer.out(), "1234\n5678\n");
}

#[test]
fn standard_input_inline_and_streamed_with_back_pressure() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let answer = driver.exec(ExecRequest { stdin: b"a\0b".to_vec(), ..argv(&["cat"]) });
    assert_eq!(answer.stdout, b"a\0b");
    let answer = driver.sh("cat; echo end");
    assert_eq!(answer.out(), "end\n");
    let big = vec![b'x'; 5 << 20];
    let request = ExecRequest { stdin: b"y".to_vec(), stdin_open: true, ..argv(&["wc", "-c"]) };
    let stream = driver.open(&Request::Exec(request));
    driver.upload(stream, Channel::Stdin, &big);
    let answer = driver.drain(stream);
    assert_eq!(answer.out().trim(), (big.len() + 1).to_string());
    let answer =
        driver.exec(ExecRequest { stdin: big[..3 << 20].to_vec(), ..sh("exec 0<&-; sleep 0.05; echo ok") });
    assert_eq!(answer.out(), "ok\n");
}

#[test]
fn a_second_stream_feeds_standard_input() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let request = ExecRequest { stdin_open: true, output: OutputMode::Detach, ..argv(&["cat"]) };
    let exec_id = request.exec_id.clone();
    driver.exec(request);
    for (text, close) in [("one ", false), ("two", true)] {
        let stream = driver.open(&Request::Stdin { exec_id: exec_id.clone(), close });
        driver.upload(stream, Channel::Stdin, text.as_bytes());
        assert_eq!(driver.drain(stream).last(), &Reply::Done);
    }
    let answer = driver.request(&Request::Attach {
        exec_id: exec_id.clone(),
        stdout_from: 0,
        stderr_from: 0,
        output: OutputMode::Collect,
    });
    assert_eq!(answer.out(), "one two");
    let answer = driver.request(&Request::Stdin { exec_id, close: false });
    assert_eq!(answer.error().0, GuestErrorCode::ExecFinished);
}

#[test]
fn output_over_the_limit_keeps_head_and_tail_and_counts() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let line = "head -c 3000000 /dev/zero; printf end";
    let answer = driver.exec(ExecRequest { output_limit: 1000, ..sh(line) });
    assert_eq!(answer.stdout.len(), 1000);
    assert!(answer.stdout.ends_with(b"end"));
    let finished = answer.finished();
    assert_eq!((finished.stdout_total, finished.stdout_dropped), (3_000_003, 2_999_003));
}

#[test]
fn a_follower_gets_all_of_it_and_a_slow_one_slows_the_exec() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let request = ExecRequest { output: OutputMode::Follow, output_limit: 10, ..sh("seq 1 400000") };
    let answer = driver.exec(request);
    let expected: String = (1..=400_000).map(|i| format!("{i}\n")).collect();
    assert!(answer.out() == expected);
    assert!(!answer.replies.iter().any(|reply| matches!(reply, Reply::Skipped { .. })));

    driver.grants = false;
    let request = ExecRequest { output: OutputMode::Follow, ..sh("seq 1 2000000; echo done >&2") };
    let exec_id = request.exec_id.clone();
    let stream = driver.open(&Request::Exec(request));
    let mut other = guest.connect();
    let total = |driver: &mut driver::Driver| match driver
        .request(&Request::ExecStatus { exec_id: exec_id.clone() })
        .replies
        .remove(0)
    {
        Reply::Status(entry) => (entry.stdout_total, entry.finished.is_some()),
        other => panic!("{other:?}"),
    };
    let mut last = 0;
    wait_for("the exec is held up", || {
        let (now, finished) = total(&mut other);
        assert!(!finished);
        let stands = now > 256 << 10 && now == last;
        last = now;
        stands
    });
    assert!(last < 2 << 20, "{last} bytes were read for a follower who reads nothing");
    // The rest comes when the follower takes it.
    driver.grants = true;
    driver.grant(stream, 1 << 20);
    let answer = driver.drain(stream);
    assert_eq!(answer.err(), "done\n");
    assert!(answer.out().ends_with("\n2000000\n"));
}

#[test]
fn a_follower_that_goes_away_holds_nothing_up() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    driver.grants = false;
    let request = ExecRequest { output: OutputMode::Follow, ..sh("seq 1 2000000") };
    let exec_id = request.exec_id.clone();
    let stream = driver.open(&Request::Exec(request));
    driver.reply_of(stream);
    drop(driver);
    let mut driver = guest.connect();
    let answer = driver.request(&Request::Attach {
        exec_id,
        stdout_from: 0,
        stderr_from: 0,
        output: OutputMode::Collect,
    });
    assert_eq!(answer.ending(), &Ending::Exited(0));
}

#[test]
fn output_can_be_read_again_from_an_offset() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let request = ExecRequest { output: OutputMode::Detach, ..sh("printf 0123456789; exec sleep 100") };
    let exec_id = request.exec_id.clone();
    assert_eq!(driver.exec(request).replies, [Reply::Started { replayed: false }]);
    let mut read = |offset| {
        let from = OutputStream::Stdout;
        let request = Request::ReadOutput { exec_id: exec_id.clone(), from, offset, max: 4 };
        driver.request(&request).replies.remove(0)
    };
    let expected =
        |offset, bytes: &[u8]| Reply::Output { offset, bytes: bytes.to_vec(), total: 10, ended: false };
    wait_for("the output is there", || read(3) == expected(3, b"3456"));
    assert_eq!(read(8), expected(8, b"89"));
    assert_eq!(read(10), expected(10, b""));
    assert_eq!(read(99), expected(10, b""));
    // A follower may begin anywhere too.
    let follow = Request::Attach {
        exec_id: exec_id.clone(),
        stdout_from: 6,
        stderr_from: 0,
        output: OutputMode::Follow,
    };
    let stream = driver.open(&follow);
    assert_eq!(driver.reply_of(stream), Reply::Started { replayed: true });
    assert_eq!(driver.frame_of(stream).payload, b"6789");
    driver.request(&Request::Signal { exec_id, signal: 15, target: SignalTarget::Leader });
    assert_eq!(driver.drain(stream).ending(), &Ending::Signalled(15));
}

#[test]
fn a_repeat_replays_and_another_body_conflicts() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let file = guest.path("count");
    let request = sh(&format!("echo x >> {file}; wc -l < {file}"));
    let first = driver.exec(request.clone());
    let again = guest.connect().exec(ExecRequest { output: OutputMode::Follow, ..request.clone() });
    assert!(!first.replayed() && again.replayed());
    assert_eq!((first.out(), first.finished()), (again.out(), again.finished()));
    assert_eq!(first.out().trim(), "1");
    let other = ExecRequest { cwd: "/tmp".to_owned(), ..request };
    assert_eq!(driver.exec(other).error().0, GuestErrorCode::ExecConflict);
}

#[test]
fn a_timeout_ends_the_whole_tree_and_keeps_the_output() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let pids = guest.path("pids");
    // A double-forked daemon in its own session that ignores TERM, one that was stopped, and a leader that ignores TERM.
    let line = format!(
        "trap '' TERM; echo partial; \
         (setsid sh -c 'trap \"\" TERM; echo $$ >> {pids}; while :; do sleep 1; done' &) ; \
         nohup sh -c 'echo $$ >> {pids}; kill -STOP $$; sleep 1000' & \
         echo $$ >> {pids}; while :; do sleep 1; done"
    );
    let started = Instant::now();
    let answer = driver.exec(ExecRequest { timeout_ms: Some(600), grace_ms: 200, ..sh(&line) });
    assert_eq!(answer.ending(), &Ending::TimedOut);
    assert_eq!(answer.out(), "partial\n");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let pids = std::fs::read_to_string(pids).unwrap();
    let pids: Vec<i32> = pids.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    for pid in pids {
        assert!(!is_alive(pid), "{pid} survived");
    }
}

#[test]
fn a_daemon_survives_the_term_of_its_leader_but_not_the_kill() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let pid_file = guest.path("pid");
    // Another exec's daemon must live.
    let other_file = guest.path("other");
    driver.sh(&format!("(setsid sh -c 'echo $$ > {other_file}; exec sleep 1000' >/dev/null 2>&1 &)"));
    wait_for("the other daemon runs", || std::fs::read_to_string(&other_file).is_ok_and(|t| !t.is_empty()));
    let line = format!(
        "(setsid sh -c 'trap \"\" TERM; echo $$ > {pid_file}; sleep 1000; sleep 1000' &); sleep 1000"
    );
    let answer = driver.exec(ExecRequest { timeout_ms: Some(400), grace_ms: 300, ..sh(&line) });
    assert_eq!(answer.ending(), &Ending::TimedOut);
    let pid = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    assert!(!is_alive(pid));
    let other = std::fs::read_to_string(other_file).unwrap().trim().parse().unwrap();
    assert!(is_alive(other));
}

#[test]
fn terminate_ends_an_exec_as_a_timeout_would_but_says_how_it_ended() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let request = ExecRequest { output: OutputMode::Detach, ..argv(&["sleep", "1000"]) };
    let exec_id = request.exec_id.clone();
    driver.exec(request);
    assert_eq!(
        driver.request(&Request::Terminate { exec_id: exec_id.clone(), grace_ms: 5000 }).last(),
        &Reply::Done
    );
    let attach = Request::Attach { exec_id, stdout_from: 0, stderr_from: 0, output: OutputMode::Collect };
    assert_eq!(driver.request(&attach).ending(), &Ending::Signalled(15));
}

#[test]
fn an_exec_ends_with_its_leader_even_if_its_output_is_held_open() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let started = Instant::now();
    let file = guest.path("alive");
    let line = format!("(sleep 0.5; echo late; echo late; echo yes > {file}; sleep 100) & echo now");
    let answer = driver.sh(&line);
    assert!(started.elapsed() < Duration::from_millis(450), "{:?}", started.elapsed());
    assert_eq!((answer.out().as_str(), answer.finished().held_open), ("now\n", true));
    // The holder gets no SIGPIPE for what it writes later.
    wait_for("the daemon has written", || std::fs::read_to_string(&file).is_ok_and(|text| text == "yes\n"));
}

#[test]
fn a_terminal_is_a_terminal_and_is_resized() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let line = "stty size; tty >/dev/null && echo tty; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.1; done";
    let request = ExecRequest { pty: Some((30, 90)), output: OutputMode::Follow, ..sh(line) };
    let exec_id = request.exec_id.clone();
    let stream = driver.open(&Request::Exec(request));
    let mut seen = Vec::new();
    while !seen.ends_with(b"ready\r\n") {
        let frame = driver.frame_of(stream);
        if frame.kind == Kind::Data {
            seen.extend(frame.payload);
        }
    }
    assert_eq!(String::from_utf8_lossy(&seen), "30 90\r\ntty\r\nready\r\n");
    assert_eq!(driver.request(&Request::Resize { exec_id, rows: 40, cols: 100 }).last(), &Reply::Done);
    let answer = driver.drain(stream);
    assert_eq!((answer.out().as_str(), answer.ending()), ("40 100\r\n", &Ending::Exited(4)));
}

#[test]
fn typing_on_a_terminal_echoes_and_end_of_input_ends_cat() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let request = ExecRequest { pty: Some((24, 80)), stdin_open: true, ..argv(&["cat"]) };
    let stream = driver.open(&Request::Exec(request));
    driver.upload(stream, Channel::Stdin, b"hi\n");
    let answer = driver.drain(stream);
    assert_eq!((answer.out().as_str(), answer.ending()), ("hi\r\nhi\r\n", &Ending::Exited(0)));
}

#[test]
fn many_execs_run_at_once_on_several_connections() {
    let guest = Guest::start();
    let mut drivers: Vec<_> = (0..4).map(|_| guest.connect()).collect();
    let mut open = Vec::new();
    for i in 0..200_usize {
        let driver = &mut drivers[i % 4];
        open.push((i, driver.open(&Request::Exec(sh(&format!("sleep 0.2; echo {i}; exit {}", i % 100))))));
    }
    for (i, stream) in open {
        let answer = drivers[i % 4].drain(stream);
        let code = i32::try_from(i % 100).unwrap();
        assert_eq!((answer.out(), answer.ending()), (format!("{i}\n"), &Ending::Exited(code)));
    }
}

#[test]
fn execs_get_only_their_three_descriptors_and_plain_signals() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let answer = driver.sh("ls /proc/$$/fd; cat /proc/self/oom_score_adj");
    assert_eq!(answer.out(), "0\n1\n2\n1000\n");
    // Not by a shell, which blocks signals for moments of its own.
    let answer = driver.exec(argv(&["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]));
    let zero = "0000000000000000";
    assert_eq!(answer.out(), format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n"));
}

#[test]
fn ten_thousand_orphans_are_reaped() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let line = "i=0; while [ $i -lt 2000 ]; do (true & true &); i=$((i+1)); done";
    assert_eq!(driver.sh(line).ending(), &Ending::Exited(0));
    let guest_pid = guest.pid();
    wait_for("no zombie is left", || {
        !hothouse_guest::program::tree::scan()
            .iter()
            .any(|facts| facts.parent == guest_pid && facts.is_gone())
    });
}

#[test]
fn a_chain_of_processes_that_fork_and_exit_is_ended() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let line = "f() { f & }; f; sleep 1000";
    let request = ExecRequest { timeout_ms: Some(200), grace_ms: 50, output: OutputMode::Follow, ..sh(line) };
    let answer = driver.exec(request);
    assert_eq!(answer.ending(), &Ending::TimedOut);
    let guest_pid = guest.pid();
    wait_for("nothing of it is left", || {
        let all = hothouse_guest::program::tree::scan();
        hothouse_guest::program::tree::descendants(&all, [guest_pid]).len() == 1
    });
}

#[test]
fn gigabytes_of_output_take_no_memory() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let answer = driver.sh("head -c 2000000000 /dev/zero; head -c 300000000 /dev/zero | tr '\\0' x >&2");
    let finished = answer.finished();
    assert_eq!((finished.stdout_total, finished.stderr_total), (2_000_000_000, 300_000_000));
    assert_eq!((answer.stdout.len(), answer.stderr.len()), (1 << 20, 1 << 20));
    let status = std::fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 30_000, "{peak} KiB");
}

#[test]
fn an_exec_whose_output_is_held_by_a_slow_follower_ends_when_it_has_read() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    driver.grants = false;
    let request = ExecRequest {
        output: OutputMode::Follow,
        output_limit: 0,
        ..sh("head -c 400000 /dev/zero; echo end >&2")
    };
    let exec_id = request.exec_id.clone();
    let stream = driver.open(&Request::Exec(request));
    let mut other = guest.connect();
    wait_for("all of it is read that may be", || {
        let status = Request::ExecStatus { exec_id: exec_id.clone() };
        matches!(other.request(&status).last(), Reply::Status(entry) if entry.stdout_total > 300_000)
    });
    let cpu =
        |pid| hothouse_guest::program::tree::facts(pid).map(|facts| facts.user_ticks + facts.system_ticks);
    let before = cpu(guest.pid()).unwrap();
    for _ in 0..20 {
        assert_eq!(other.sh("sleep 0.01").ending(), &Ending::Exited(0));
    }
    assert!(cpu(guest.pid()).unwrap() - before < 10, "the guest spins");
    driver.grants = true;
    driver.grant(stream, 1 << 20);
    let answer = driver.drain(stream);
    assert_eq!((answer.stdout.len(), answer.err().as_str()), (400_000, "end\n"));
}

#[test]
fn a_collector_learns_soon_that_a_long_exec_runs() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let request = sh("exec sleep 1000");
    let exec_id = request.exec_id.clone();
    let stream = driver.open(&Request::Exec(request));
    assert_eq!(driver.reply_of(stream), Reply::Started { replayed: false });
    let input = ExecRequest { stdin_open: true, ..argv(&["cat"]) };
    let fed = driver.open(&Request::Exec(input));
    assert_eq!(driver.reply_of(fed), Reply::Started { replayed: false });
    driver.upload(fed, Channel::Stdin, b"x");
    assert_eq!(driver.drain(fed).out(), "x");
    driver.request(&Request::Signal { exec_id, signal: 34, target: SignalTarget::Leader });
    assert_eq!(driver.drain(stream).ending(), &Ending::Signalled(34));
}
