//! Connections to the engine that become a process' streams.
//!
//! bollard has them, too, but holds back what a terminal says until its line is over.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// An answer's head, and the text of a refusal, are not longer.
const ANSWER_MAX: u64 = 64 << 10;

/// The two ways of a connection.
pub(crate) type Streams = (BufReader<OwnedReadHalf>, OwnedWriteHalf);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The engine's status and message.
    Status(u16, String),
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Posts a request after whose answer the connection belongs to what was asked for.
pub(crate) async fn hijack(socket: &Path, path: &str, body: &str) -> Result<Streams, Refused> {
    let (reader, mut writer) = UnixStream::connect(socket).await?.into_split();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    writer.write_all(request.as_bytes()).await?;
    let mut reader = BufReader::new(reader);
    let (status, length) = head(&mut reader).await?;
    // The second is for clients that cannot be upgraded.
    if matches!(status, 101 | 200) {
        return Ok((reader, writer));
    }
    let mut text = Vec::new();
    reader.take(length.min(ANSWER_MAX)).read_to_end(&mut text).await?;
    let message = serde_json::from_slice::<serde_json::Value>(&text).ok();
    let message = message.and_then(|answer| Some(answer.get("message")?.as_str()?.to_owned()));
    Err(Refused::Status(status, message.unwrap_or_else(|| String::from_utf8_lossy(&text).trim().to_owned())))
}

/// The status of an answer and the length of what follows its head.
async fn head(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<(u16, u64)> {
    let wrong = || io::Error::other("the engine's answer is not HTTP");
    let mut lines = reader.take(ANSWER_MAX);
    let mut line = String::new();
    lines.read_line(&mut line).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
    let mut length = 0;
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            return Err(wrong());
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(|_| wrong())?;
            }
            Some(_) => {}
            None => return Ok((status, length)),
        }
    }
}
