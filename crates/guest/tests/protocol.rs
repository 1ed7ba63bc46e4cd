//! Drivers that misbehave.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]

mod driver;

use std::io::Write;

use driver::{Guest, argv, sh};
use hothouse_guest::frame::{Channel, Kind, MAX_DATA};
use hothouse_guest::message::{Ending, ExecRequest, GuestErrorCode, OutputMode, Reply, Request};

#[test]
fn garbage_costs_the_connection_and_not_the_guest() {
    let guest = Guest::start();
    let mut bad = guest.connect();
    bad.stream.write_all(&[0xff; 64]).unwrap();
    assert!(bad.frame().is_none());
    assert_eq!(guest.connect().sh("true").ending(), &Ending::Exited(0));
}

#[test]
fn data_over_the_credit_costs_the_connection() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let request = ExecRequest { stdin_open: true, ..argv(&["sleep", "1000"]) };
    let stream = driver.open(&Request::Exec(request));
    let chunk = vec![0; MAX_DATA];
    let mut frames = Vec::new();
    for _ in 0..10 {
        hothouse_guest::frame::encode(&mut frames, Kind::Data, stream, Channel::Stdin, &chunk);
    }
    // The guest may hang up before all is written.
    let _written = driver.stream.write_all(&frames);
    // What was sent before comes; then the end.
    driver.until_closed();
    assert_eq!(guest.connect().sh("true").ending(), &Ending::Exited(0));
}

#[test]
fn a_malformed_request_is_refused_on_its_stream() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    driver.send(Kind::Open, 1000, Channel::None, &[0xff, 0xff]);
    assert_eq!(driver.drain(1000).error().0, GuestErrorCode::Invalid);
    let request = ExecRequest { cwd: "relative".to_owned(), ..sh("true") };
    assert_eq!(driver.exec(request).error().0, GuestErrorCode::Invalid);
    assert_eq!(driver.exec(argv(&[])).error().0, GuestErrorCode::Invalid);
}

#[test]
fn an_exec_outlives_its_driver() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let request = sh("sleep 0.2; echo survived");
    let exec_id = request.exec_id.clone();
    driver.open(&Request::Exec(request));
    drop(driver);
    let mut driver = guest.connect();
    let attach = Request::Attach { exec_id, stdout_from: 0, stderr_from: 0, output: OutputMode::Collect };
    let answer = driver.request(&attach);
    assert_eq!((answer.out().as_str(), answer.replayed()), ("survived\n", true));
}

#[test]
fn unknown_execs_and_lists() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let missing = Request::ExecStatus { exec_id: "nope".to_owned() };
    assert_eq!(driver.request(&missing).error().0, GuestErrorCode::ExecNotFound);
    let ids: Vec<String> = (0..3)
        .map(|_| {
            let request = sh("true");
            let id = request.exec_id.clone();
            driver.exec(request);
            id
        })
        .collect();
    match driver.request(&Request::ListExecs).last() {
        Reply::Execs(entries) => {
            assert_eq!(entries.iter().map(|entry| entry.exec_id.clone()).collect::<Vec<_>>(), ids);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_on_connections_streams_and_execs_are_kept_and_told() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let mut sleepers = Vec::new();
    for _ in 0..512 {
        let request = ExecRequest { output: OutputMode::Detach, ..argv(&["sleep", "1000"]) };
        sleepers.push(driver.open(&Request::Exec(request)));
    }
    for stream in sleepers {
        assert_eq!(driver.drain(stream).replies, [Reply::Started { replayed: false }]);
    }
    assert_eq!(driver.sh("true").error().0, GuestErrorCode::LimitExceeded);
    let attach = |driver: &mut driver::Driver| {
        driver.open(&Request::Attach {
            exec_id: "first".to_owned(),
            stdout_from: 0,
            stderr_from: 0,
            output: OutputMode::Follow,
        })
    };
    let end = Request::Terminate { exec_id: driver::fresh_id(), grace_ms: 0 };
    assert_eq!(driver.request(&end).error().0, GuestErrorCode::ExecNotFound);

    let mut greedy = guest.connect();
    let first = greedy.open(&Request::ListExecs);
    let id = match greedy.drain(first).last() {
        Reply::Execs(entries) => entries[0].exec_id.clone(),
        other => panic!("{other:?}"),
    };
    let end = Request::Terminate { exec_id: id, grace_ms: 0 };
    greedy.request(&end);
    driver::wait_for("there is room again", || {
        let request = ExecRequest { exec_id: "first".to_owned(), ..argv(&["sleep", "1000"]) };
        let stream = driver.open(&Request::Exec(ExecRequest { output: OutputMode::Detach, ..request }));
        matches!(driver.drain(stream).replies[0], Reply::Started { .. })
    });
    let streams: Vec<u32> = (0..2048).map(|_| attach(&mut greedy)).collect();
    let over = attach(&mut greedy);
    assert_eq!(greedy.drain(over).error().0, GuestErrorCode::LimitExceeded);
    assert_eq!(greedy.reply_of(streams[2047]), Reply::Started { replayed: true });

    let many: Vec<_> = (0..300).map(|_| std::os::unix::net::UnixStream::connect(guest.socket())).collect();
    assert!(many.iter().all(Result::is_ok));
    drop(many);
    driver::wait_for("the guest takes connections again", || {
        let mut stream = std::os::unix::net::UnixStream::connect(guest.socket()).unwrap();
        std::io::Read::read(&mut stream, &mut [0; 64]).is_ok_and(|count| count > 0)
    });
    assert_eq!(
        driver.request(&Request::ExecStatus { exec_id: "none".to_owned() }).error().0,
        GuestErrorCode::ExecNotFound
    );
}

#[test]
fn random_frames_never_end_the_guest() {
    let guest = Guest::start();
    let mut state = 42_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let kinds = [Kind::Open, Kind::Open, Kind::Data, Kind::End, Kind::Credit, Kind::Close];
    let channels = [Channel::None, Channel::Stdin, Channel::File, Channel::Socket];
    for _ in 0..300 {
        let mut driver = guest.connect();
        let mut bytes = Vec::new();
        for _ in 0..30 {
            let kind = kinds[usize::try_from(random(6)).unwrap()];
            let channel = channels[usize::try_from(random(4)).unwrap()];
            let length = match kind {
                Kind::Credit => 4,
                Kind::Open | Kind::Data => random(40),
                _ => 0,
            };
            // The first byte of a request says which it is; the rest is mostly nonsense, sometimes a short path.
            let payload: Vec<u8> = (0..length).map(|_| u8::try_from(random(40)).unwrap()).collect();
            hothouse_guest::frame::encode(
                &mut bytes,
                kind,
                u32::try_from(random(6)).unwrap(),
                channel,
                &payload,
            );
        }
        // The guest may hang up before all is written.
        let _written = driver.stream.write_all(&bytes);
    }
    assert_eq!(guest.connect().sh("true").ending(), &Ending::Exited(0));
}
