//! Connections to what listens inside a pod.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use longshore_core::connection::Connection;
use longshore_core::runtime::Error;
use nix::sched::{CloneFlags, setns};

use crate::engine::failed;

/// How long a pod may take to accept.
const CONNECT: Duration = Duration::from_secs(10);

/// Connects to a port on the loopback address, in this network namespace or the process' own.
pub(crate) async fn connect(namespace: Option<PathBuf>, port: u16) -> Result<Box<dyn Connection>, Error> {
    let call = move || {
        // A thread of its own: one that has entered a namespace is no use for anything else.
        let entered = std::thread::Builder::new().name("connect".to_owned()).spawn(move || {
            if let Some(path) = namespace {
                setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
            }
            dial(port)
        });
        entered.and_then(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that connects panicked")))
        })
    };
    let operation = format!("connect to port {port}");
    let stream = tokio::task::spawn_blocking(call).await.map_err(failed(operation.clone()))?;
    let stream = stream.and_then(|stream| {
        // Whoever sends has waited for as much as he wanted to.
        let _ = stream.set_nodelay(true);
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    });
    Ok(Box::new(stream.map_err(failed(operation))?))
}

/// 127.0.0.1 first; what the other address says is of use only if it accepts.
fn dial(port: u16) -> io::Result<TcpStream> {
    let to = |address: SocketAddr| TcpStream::connect_timeout(&address, CONNECT);
    let first = to((Ipv4Addr::LOCALHOST, port).into());
    first.or_else(|error| to((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))
}
