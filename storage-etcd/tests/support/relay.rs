//! A small TCP relay whose connections can be cut.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes bytes on to an address until told otherwise.
pub struct Relay {
    address: SocketAddr,
    /// Counts cuts, and says whether new connections are passed on; connections of an earlier count end.
    state: Arc<watch::Sender<(u64, bool)>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Listens on a free port.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new((0, true)));
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((here, _)) = listener.accept().await {
                let changes = seen.subscribe();
                if changes.borrow().1 {
                    connections.spawn(pass(here, target, changes));
                }
            }
        });
        Self { address, state, _tasks: tasks }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts every connection; new ones are passed on again.
    pub fn cut(&self) {
        self.state.send_modify(|(cuts, _)| *cuts += 1);
    }

    /// Cuts every connection, and new ones at once, until [`Relay::open`].
    pub fn close(&self) {
        self.state.send_modify(|(cuts, open)| (*cuts, *open) = (*cuts + 1, false));
    }

    /// Passes new connections on again.
    pub fn open(&self) {
        self.state.send_modify(|(_, open)| *open = true);
    }
}

async fn pass(mut here: TcpStream, target: SocketAddr, mut changes: watch::Receiver<(u64, bool)>) {
    let Ok(mut there) = TcpStream::connect(target).await else { return };
    for end in [&here, &there] {
        end.set_nodelay(true).unwrap();
    }
    tokio::select! {
        // However it ends, both ends see it.
        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
        _ = changes.changed() => {}
    }
}
