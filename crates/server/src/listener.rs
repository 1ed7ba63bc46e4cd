//! The socket that clients connect to.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted; the kernel allows no more than `net.core.somaxconn`. Those that find no room
/// are not refused but forgotten, and try again after a second: a thousand environments that are opened at once must all
/// have room.
const WAITING: u32 = 16_384;

/// Listens at an address.
///
/// # Errors
/// The operating system's: the address is taken, or is none of this machine's.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that was started anew takes the address of the one before, whose connections may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_connections_wait_than_are_accepted() {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let allowed: usize = allowed.trim().parse().unwrap();
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        // All of them are connected before the first is accepted; that they have gone by then does not free their places.
        let count = allowed.min(2_000);
        for _ in 0..count {
            tokio::net::TcpStream::connect(address).await.unwrap();
        }
        for _ in 0..count {
            listener.accept().await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_refused() {
        let first = listen("[::1]:0".parse().unwrap()).unwrap();
        let error = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
