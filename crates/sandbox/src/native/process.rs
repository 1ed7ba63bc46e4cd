//! Which process is which: one is known by its PID and by when it began, since PIDs are used again.

use std::fs;
use std::io;
use std::sync::OnceLock;

/// The kernel tells times of processes in ticks of a hundredth of a second (`USER_HZ`).
const TICK_NS: i64 = 10_000_000;
/// A time read under clocks that are shifted by part of a tick may be rounded otherwise. No PID comes round so soon.
const ROUNDING: u64 = 1;

/// When a process began, in ticks since boot by the machine's own clock; `None` when there is none, or only its zombie.
///
/// # Errors
/// When that cannot be told now: there is no descriptor left to look with, for one.
pub(super) fn began(pid: i32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        // It ended between open and read.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(None),
        Err(e) => return Err(e),
    };
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {stat:?}"));
    // The name in field 2 may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(')').ok_or_else(unreadable)?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Ok(None);
    }
    let told: i64 = fields.nth(18).and_then(|field| field.parse().ok()).ok_or_else(unreadable)?;
    Ok(Some(u64::try_from(told - shift()?).unwrap_or(0)))
}

/// Whether that very process lives, and not another with its PID.
///
/// # Errors
/// When that cannot be told now, which must not be taken for its end.
pub(super) fn is_alive(pid: i32, known: u64) -> io::Result<bool> {
    Ok(began(pid)?.is_some_and(|began| began.abs_diff(known) <= ROUNDING))
}

/// By how many ticks this process's clock since boot is ahead of the machine's. A server in another time namespace than
/// the one before it would else find none of its sandboxes.
fn shift() -> io::Result<i64> {
    static SHIFT: OnceLock<i64> = OnceLock::new();
    if let Some(shift) = SHIFT.get() {
        return Ok(*shift);
    }
    let shift = match fs::read_to_string("/proc/self/timens_offsets") {
        Ok(text) => shift_of(&text),
        // A kernel without time namespaces.
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(e),
    };
    Ok(*SHIFT.get_or_init(|| shift))
}

fn shift_of(offsets: &str) -> i64 {
    let line = offsets.lines().find_map(|line| line.trim_start().strip_prefix("boottime"));
    let mut numbers = line.unwrap_or_default().split_whitespace().map(|word| word.parse().unwrap_or(0_i64));
    let (seconds, nanoseconds) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds).div_euclid(TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_again_and_another_is_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        let time = began(own).unwrap().unwrap();
        assert!(is_alive(own, time).unwrap() && is_alive(own, time + 1).unwrap());
        assert!(!is_alive(own, time + 2).unwrap() && !is_alive(own, 0).unwrap());
        assert_eq!(began(i32::MAX).unwrap(), None);
        assert!(!is_alive(i32::MAX, time).unwrap());
    }

    #[test]
    fn shifted_clocks_are_counted_out() {
        let offsets = |seconds: &str, nanoseconds: &str| {
            shift_of(&format!("monotonic  7 0\nboottime    {seconds}         {nanoseconds}\n"))
        };
        assert_eq!(offsets("0", "0"), 0);
        assert_eq!(offsets("1000000", "0"), 100_000_000);
        assert_eq!(offsets("-2", "0"), -200);
        assert_eq!(offsets("1", "500000000"), 150);
        assert_eq!(shift_of(""), 0);
    }
}
