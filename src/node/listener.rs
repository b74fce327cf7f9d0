//! Opens the ports that the node listens on. What is served there is not decided here.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use anyhow::Context as _;
use tokio::net::TcpSocket;

/// How many connections may wait to be accepted. The standard library's 128 are fewer than a
/// provider opens at once after an outage, and whoever finds no room tries again only after a
/// second. In a benchmark with 256 connections, every other round began with that second of
/// silence. The kernel's own limit is net.core.somaxconn.
const BACKLOG: u32 = 4096;

/// Binds a port. `key`: the setting that the address is from, for the error.
pub fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    listen(address).with_context(|| {
        format!("can't listen on {address} ({key}): choose another address or port")
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, time::Duration};

    use super::*;

    #[tokio::test]
    async fn many_may_connect_before_any_is_taken() {
        let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
            .map_or(128, |text| text.trim().parse().unwrap_or(128));
        let listener = bind("127.0.0.1:0".parse().unwrap(), "test").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        let streams: Vec<TcpStream> = std::iter::repeat_with(connect)
            .take(limit.min(512))
            .collect();
        assert_eq!(streams.len(), limit.min(512));
    }
}
