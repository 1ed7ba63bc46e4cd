//! How many processes the kernel has killed for want of memory, by the sandbox's memory cgroup.

use std::os::fd::OwnedFd;

/// The counter; absent where the sandbox has no memory cgroup.
#[derive(Debug)]
pub struct OomCounter {
    file: Option<OwnedFd>,
}

impl OomCounter {
    /// Reads from this file: v1's `memory.oom_control` or v2's `memory.events`.
    #[must_use]
    pub fn new(file: Option<OwnedFd>) -> Self {
        Self { file }
    }

    /// Kills so far; 0 where they are not counted.
    #[must_use]
    pub fn read(&self) -> u64 {
        let Some(file) = &self.file else { return 0 };
        let mut buffer = [0; 512];
        let Ok(length) = rustix::io::pread(file, &mut buffer, 0) else { return 0 };
        parse(&buffer[..length])
    }
}

fn parse(text: &[u8]) -> u64 {
    text.split(|b| *b == b'\n')
        .find_map(|line| std::str::from_utf8(line.strip_prefix(b"oom_kill ")?).ok()?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(parse(b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(parse(b"low 0\nhigh 0\nmax 12\noom 4\noom_kill 2\noom_group_kill 0\n"), 2);
        assert_eq!(parse(b""), 0);
    }
}
