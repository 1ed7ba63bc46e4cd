//! From what the guest says of an exec to what callers are told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hothouse_domain::{
    Encoding, ExecId, ExecResult, ExecState, ExecStatus, Mime, Outcome, Raised, Truncated, Usage, Value,
};
use hothouse_guest::message::{Ending, ExecEntry, Finished};

/// The kept bytes of one output.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) bytes: Vec<u8>,
    /// Where bytes fell out, as an offset in `bytes`; `None` when that is not known.
    pub(crate) seam: Option<usize>,
}

/// The result as callers see it.
pub(crate) fn result(
    exec_id: ExecId,
    finished: Finished,
    replayed: bool,
    (mut stdout, mut stderr): (Kept, Kept),
    report: Option<&[u8]>,
) -> ExecResult {
    let report = report.map_or_else(Report::default, read_report);
    let mut truncated = Truncated {
        stdout_dropped_bytes: finished.stdout_dropped,
        stderr_dropped_bytes: finished.stderr_dropped,
    };
    let cut_stdout = mend(&mut stdout, truncated.stdout_dropped_bytes);
    let cut_stderr = mend(&mut stderr, truncated.stderr_dropped_bytes);
    let (stdout, stderr, encoding) = match (String::from_utf8(stdout.bytes), String::from_utf8(stderr.bytes))
    {
        (Ok(stdout), Ok(stderr)) => {
            truncated.stdout_dropped_bytes += cut_stdout;
            truncated.stderr_dropped_bytes += cut_stderr;
            (stdout, stderr, Encoding::Utf8)
        }
        (stdout, stderr) => {
            truncated.stdout_dropped_bytes += cut_stdout;
            truncated.stderr_dropped_bytes += cut_stderr;
            (base64_of(stdout), base64_of(stderr), Encoding::Base64)
        }
    };
    ExecResult {
        exec_id,
        outcome: outcome(finished.ending),
        stdout,
        stderr,
        encoding,
        truncated,
        output_held_open: finished.held_open,
        duration_s: seconds(finished.wall_ns, 1e9),
        usage: Usage {
            cpu_user_s: seconds(finished.user_us, 1e6),
            cpu_system_s: seconds(finished.system_us, 1e6),
            max_rss_bytes: finished.max_rss,
        },
        replayed,
        value: report.value,
        error: report.error,
        displays: report.displays,
        omitted: report.omitted,
    }
}

/// What a context tells of its code.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Report {
    value: Option<Box<Value>>,
    error: Option<Box<Raised>>,
    displays: Vec<Mime>,
    omitted: Vec<String>,
    /// The guest's word: the interpreter ended under it, for this reason.
    died: Option<String>,
}

/// Reads what a context tells. It may be anything: code can take the interpreter's place.
fn read_report(bytes: &[u8]) -> Report {
    let ended = |name: &str, message: String| {
        let raised = Raised { name: name.to_owned(), message, traceback: String::new() };
        Report { error: Some(Box::new(raised)), ..Report::default() }
    };
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return ended(
            "UnreadableReport",
            "what the interpreter tells is no report: it is no object".to_owned(),
        );
    }
    match serde_json::from_slice::<Report>(bytes) {
        Ok(Report { died: Some(reason), .. }) => ended("ContextEnded", reason),
        Ok(report) => report,
        Err(error) => ended("UnreadableReport", format!("what the interpreter tells is no report: {error}")),
    }
}

/// An exec as lookups show it, without output.
pub(crate) fn status(entry: ExecEntry) -> Option<ExecStatus> {
    let exec_id = ExecId::try_from(entry.exec_id).ok()?;
    let state = match entry.finished {
        None => ExecState::Running,
        Some(finished) => ExecState::Finished {
            result: Box::new(result(exec_id.clone(), finished, true, Default::default(), None)),
        },
    };
    Some(ExecStatus { exec_id, state, stdout_bytes: entry.stdout_total, stderr_bytes: entry.stderr_total })
}

fn outcome(ending: Ending) -> Outcome {
    match ending {
        Ending::Exited(code) => Outcome::Exited { code },
        Ending::Signalled(signal) => Outcome::Signalled { signal },
        Ending::TimedOut => Outcome::TimedOut,
        Ending::OomKilled => Outcome::OomKilled,
        Ending::FailedToStart(reason) => Outcome::FailedToStart { reason },
    }
}

#[expect(clippy::cast_precision_loss, reason = "a duration in nanoseconds is exact for 104 days")]
fn seconds(count: u64, per_second: f64) -> f64 {
    count as f64 / per_second
}

fn base64_of(bytes: Result<String, std::string::FromUtf8Error>) -> String {
    STANDARD.encode(bytes.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes))
}

/// Where bytes fell out of the middle, takes the pieces of characters off that were cut in two there, if that makes the
/// whole UTF-8; returns how many bytes that took.
fn mend(kept: &mut Kept, dropped: u64) -> u64 {
    if dropped == 0 || std::str::from_utf8(&kept.bytes).is_ok() {
        return 0;
    }
    let seam = kept.seam.unwrap_or(kept.bytes.len() / 2).min(kept.bytes.len());
    let (head, tail) = kept.bytes.split_at(seam);
    let head_end = match std::str::from_utf8(head) {
        Ok(_) => seam,
        // No error length: the bytes end within a character.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => return 0,
    };
    let begin = tail.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    if std::str::from_utf8(&tail[begin..]).is_err() {
        return 0;
    }
    let tail_begin = seam + begin;
    kept.bytes.drain(head_end..tail_begin);
    u64::try_from(tail_begin - head_end).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finished(dropped: u64) -> Finished {
        Finished {
            ending: Ending::Exited(0),
            wall_ns: 1_500_000_000,
            user_us: 2,
            system_us: 3,
            max_rss: 4,
            stdout_total: 0,
            stderr_total: 0,
            stdout_dropped: dropped,
            stderr_dropped: 0,
            held_open: false,
        }
    }

    fn of(bytes: &[u8], seam: Option<usize>, dropped: u64) -> ExecResult {
        let stdout = Kept { bytes: bytes.to_vec(), seam };
        result("e".parse().unwrap(), finished(dropped), false, (stdout, Kept::default()), None)
    }

    #[test]
    fn text_stays_text_and_bytes_become_base64() {
        let text = of("héllo".as_bytes(), None, 0);
        assert_eq!((text.stdout.as_str(), text.encoding), ("héllo", Encoding::Utf8));
        let bytes = of(&[0xff, 0xfe], None, 0);
        assert_eq!((bytes.stdout.as_str(), bytes.encoding), ("//4=", Encoding::Base64));
        assert_eq!(text.duration_s, 1.5);
    }

    #[test]
    fn what_a_context_tells_is_read_and_what_it_makes_up_is_said_to_be() {
        let of = |report: &[u8]| {
            result("e".parse().unwrap(), finished(0), false, Default::default(), Some(report))
        };
        let told = of(br#"{"value": {"repr": "0.1", "json": 0.1}}"#);
        assert_eq!(told.value.unwrap().json, Some(hothouse_domain::Json::Number(0.1)));
        let told = of(br#"{"died": "signal 11 ended it"}"#).error.unwrap();
        assert_eq!((told.name.as_str(), told.message.as_str()), ("ContextEnded", "signal 11 ended it"));
        let deep = "[".repeat(100_000);
        for lie in ["lies", "[]", "{\"value\": 5}", "", "\u{0}", &deep] {
            assert_eq!(of(lie.as_bytes()).error.unwrap().name, "UnreadableReport", "{lie:.20}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_not_trimmed() {
        // A head that ends within a character, but a tail that is no text anyway.
        let got = of(&[b'a', 0xc3, 0xff, 0xff], Some(2), 9);
        assert_eq!((got.encoding, got.truncated.stdout_dropped_bytes), (Encoding::Base64, 9));
        assert_eq!(STANDARD.decode(got.stdout).unwrap(), [b'a', 0xc3, 0xff, 0xff]);
    }

    #[test]
    fn an_unfinished_character_at_the_true_end_is_not_hidden() {
        assert_eq!(of(&[b'a', 0xc3], None, 0).encoding, Encoding::Base64);
        assert_eq!(of(&[b'a', b'b', b'c', 0xc3], Some(2), 7).encoding, Encoding::Base64);
    }

    proptest! {
        #[test]
        fn text_cut_anywhere_stays_text(text in "\\PC{8,60}", head in 0_usize..30, tail in 0_usize..30) {
            let bytes = text.as_bytes();
            let (head, tail) = (head.min(bytes.len() / 2), tail.min(bytes.len() / 2));
            let mut kept = bytes[..head].to_vec();
            kept.extend_from_slice(&bytes[bytes.len() - tail..]);
            let dropped = (bytes.len() - kept.len()) as u64;
            let got = of(&kept, Some(head), dropped);
            if dropped > 0 {
                prop_assert_eq!(got.encoding, Encoding::Utf8);
            }
            prop_assert_eq!(got.stdout.len() as u64 + got.truncated.stdout_dropped_bytes, if got.encoding == Encoding::Utf8 { bytes.len() as u64 } else { got.stdout.len() as u64 + dropped });
        }
    }
}
