//! What one server takes at most.

use std::time::Duration;

use hothouse_sandbox::sandbox::ArchiveLimits;

/// Bounds on what clients send and hold open.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Connections at once; one more is told so and closed.
    pub max_connections: usize,
    /// Followed execs, terminals and requests for ports at once, over all connections.
    pub max_streams: usize,
    /// Bytes of a request line with its headers. More is answered with 431 and no body.
    pub head_bytes: usize,
    /// Bytes of a JSON body.
    pub json_bytes: usize,
    /// Bytes of a file that is written, and of a body for a port.
    pub file_bytes: u64,
    /// Bytes of a patch.
    pub patch_bytes: u64,
    /// Bytes of an archive of an image.
    pub image_bytes: u64,
    /// Bounds on an archive that is unpacked.
    pub archive: ArchiveLimits,
    /// Time for a request's head to arrive, counted from the end of the request before; ends idle connections too.
    pub head_timeout: Duration,
    /// The longest pause within a body, and the time for a whole JSON body.
    pub body_timeout: Duration,
    /// Pause after which a quiet event stream or terminal gets a heartbeat.
    pub heartbeat: Duration,
    /// Time that running requests get to finish at shutdown.
    pub grace: Duration,
}

impl ServerLimits {
    /// At most half of so many descriptors for connections: the others are for what clients ask for, which could not be
    /// reached otherwise.
    #[must_use]
    pub fn within(mut self, descriptors: u64) -> Self {
        let half = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        self.max_connections = self.max_connections.min(half).max(1);
        self
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_streams: 1024,
            head_bytes: 128 << 10,
            json_bytes: 8 << 20,
            file_bytes: 16 << 30,
            patch_bytes: 64 << 20,
            image_bytes: 64 << 30,
            archive: ArchiveLimits::default(),
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            heartbeat: Duration::from_secs(15),
            grace: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_half_of_the_descriptors() {
        let connections = |descriptors| ServerLimits::default().within(descriptors).max_connections;
        assert_eq!(connections(u64::MAX), ServerLimits::default().max_connections);
        assert_eq!(connections(1024), 512);
        assert_eq!(connections(1), 1);
    }
}
