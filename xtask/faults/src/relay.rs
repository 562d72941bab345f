//! A TCP relay whose link can be cut, delayed and made to hang.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Most bytes that are passed on at once.
const CHUNK: usize = 16 << 10;

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Bytes pass at once.
    #[default]
    Open,
    /// There are no connections: those that were have ended, new ones end at once.
    Cut,
    /// Bytes wait so long.
    Delayed(Duration),
    /// Connections stand, new ones too, and no byte passes. They end when this state does, as those of a peer that has gone.
    Silent,
}

/// Passes bytes on to an address. Dropping it ends its connections.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    state: watch::Sender<State>,
    tasks: JoinSet<()>,
}

impl Relay {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    /// As listening.
    pub async fn to(target: SocketAddr) -> std::io::Result<Self> {
        Self::between((Ipv4Addr::LOCALHOST, 0).into(), target).await
    }

    /// Listens at an address of its own.
    ///
    /// # Errors
    /// As listening.
    pub async fn between(listen: SocketAddr, target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let port = listener.local_addr()?.port();
        let state = watch::Sender::default();
        let mut tasks = JoinSet::new();
        let seen = state.subscribe();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((here, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(connection(here, target, seen.clone()));
            }
        });
        Ok(Self { port, state, tasks })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it; when this returns another may listen where it did.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }

    /// Changes how the link is.
    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

/// Passes bytes on in both directions until an end closes, or the link does.
async fn connection(here: TcpStream, target: SocketAddr, state: watch::Receiver<State>) {
    let mut ends = state.clone();
    let pass = async {
        let mut opens = state.clone();
        if opens.wait_for(|state| *state != State::Silent).await.is_err() {
            return;
        }
        let Ok(there) = TcpStream::connect(target).await else { return };
        // What is small shall not wait for more; if that cannot be set the relay is slower, and no less right.
        let _ = (here.set_nodelay(true), there.set_nodelay(true));
        let ((read_here, write_here), (read_there, write_there)) = (here.into_split(), there.into_split());
        tokio::join!(one_way(read_here, write_there, state.clone()), one_way(read_there, write_here, state.clone()));
    };
    tokio::select! {
        () = pass => {}
        () = ended(&mut ends) => {}
    }
}

/// Waits until connections end: when the link is cut, and when it was silent and is no longer.
async fn ended(state: &mut watch::Receiver<State>) {
    loop {
        match *state.borrow_and_update() {
            State::Cut => return,
            State::Silent => break,
            State::Open | State::Delayed(_) => {}
        }
        if state.changed().await.is_err() {
            return;
        }
    }
    // Whether it goes on or breaks off, nobody waits any longer.
    let _ = state.wait_for(|state| *state != State::Silent).await;
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut bytes = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let now = *state.borrow();
        if let State::Delayed(delay) = now {
            tokio::time::sleep(delay).await;
        }
        if state.wait_for(|state| *state != State::Silent).await.is_err()
            || to.write_all(&bytes[..count]).await.is_err()
        {
            return;
        }
    }
    // The other end may still have something to say; that it hears nothing more is all there is to tell it.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        (address, tasks)
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_link_is_open_cut_and_open_again() {
        let (address, _tasks) = echo().await;
        let relay = Relay::to(address).await.unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port()));
        let mut first = connect().await.unwrap();
        assert_eq!(ask(&mut first).await.unwrap(), b'x');
        relay.set(State::Cut);
        assert!(ask(&mut first).await.is_err(), "connections end");
        assert!(ask(&mut connect().await.unwrap()).await.is_err(), "new ones end at once");
        relay.set(State::Open);
        assert_eq!(ask(&mut connect().await.unwrap()).await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn one_that_was_closed_leaves_its_address_to_the_next() {
        let (address, _tasks) = echo().await;
        let relay = Relay::to(address).await.unwrap();
        let port = relay.port();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'x');
        relay.close().await;
        assert!(ask(&mut stream).await.is_err());
        let next = Relay::between((Ipv4Addr::LOCALHOST, port).into(), address).await.unwrap();
        assert_eq!(
            ask(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, next.port())).await.unwrap()).await.unwrap(),
            b'x'
        );
    }

    #[tokio::test]
    async fn a_silent_link_answers_nothing_and_its_connections_end_with_it() {
        let (address, _tasks) = echo().await;
        let relay = Relay::to(address).await.unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'x');
        relay.set(State::Silent);
        {
            let asked = ask(&mut stream);
            tokio::pin!(asked);
            for _ in 0..100 {
                assert!(futures::poll!(&mut asked).is_pending());
                tokio::task::yield_now().await;
            }
            relay.set(State::Open);
            assert!(asked.await.is_err());
        }
    }
}
