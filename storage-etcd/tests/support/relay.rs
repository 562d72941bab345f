//! A small TCP relay whose connections can be cut.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes bytes on to an address until told otherwise.
pub struct Relay {
    address: SocketAddr,
    /// Counts cuts; connections of an earlier count end.
    cuts: Arc<watch::Sender<u64>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Listens on a free port.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(watch::Sender::new(0));
        let mut tasks = JoinSet::new();
        let cutting = Arc::clone(&cuts);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((here, _)) = listener.accept().await {
                let cut = cutting.subscribe();
                connections.spawn(pass(here, target, cut));
            }
        });
        Self { address, cuts, _tasks: tasks }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts every connection; new ones are passed on again.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn pass(mut here: TcpStream, target: SocketAddr, mut cut: watch::Receiver<u64>) {
    let Ok(mut there) = TcpStream::connect(target).await else { return };
    tokio::select! {
        // However it ends, both ends see it.
        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
        _ = cut.changed() => {}
    }
}
