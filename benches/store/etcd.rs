//! One member of etcd on the disk that is measured, with its default durability, gone with the bench.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longshore::core::clock::{Clock, SystemClock};
use longshore::storage_etcd::{EtcdStore, Options};

use crate::Outcome;

/// Killed when dropped.
pub(crate) struct Member {
    process: Child,
    url: String,
}

impl Member {
    /// Starts the member; `None` where there is no etcd.
    pub(crate) async fn start(clock: &SystemClock, directory: &Path) -> Outcome<Option<Self>> {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let (client, peer) = (free()?, free()?);
        let [url, peers] = [client, peer].map(|address| format!("http://{address}"));
        let started = Command::new("etcd")
            .args(["--name", "bench", "--data-dir"])
            .arg(directory)
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers, "--initial-cluster", &format!("bench={peers}")])
            // What is put here is more than the 2 GB that it takes by default.
            .args(["--quota-backend-bytes", "8589934592"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("etcd: {error}").into()),
        };
        let mut member = Self { process, url };
        while TcpStream::connect(client).is_err() {
            if let Some(status) = member.process.try_wait()? {
                return Err(format!("etcd ended with {status}").into());
            }
            clock.sleep(Duration::from_millis(20)).await;
        }
        Ok(Some(member))
    }

    pub(crate) async fn open(&self) -> Outcome<EtcdStore> {
        Ok(EtcdStore::open(Options::new([self.url.as_str()])).await?)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
