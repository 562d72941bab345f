//! Asks a gRPC server for its health, by `grpc.health.v1`: one call of HTTP/2 without TLS.
//!
//! Its two messages have one field each, so they are written and read here: `HealthCheckRequest{string service = 1}` and
//! `HealthCheckResponse{ServingStatus status = 1}`.

use bytes::{BufMut, Bytes, BytesMut};
use longshore_core::api::pod::GRPCAction;
use tokio::io::{AsyncRead, AsyncWrite};

use super::check::{ANSWER_MAX, Place, connect, join};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// Field 1 as a text of bytes, and as a number.
const FIELD_TEXT: u8 = 1 << 3 | 2;
const FIELD_NUMBER: u8 = 1 << 3;
/// gRPC's code for a method that a server does not have.
const UNIMPLEMENTED: &str = "12";

/// Whether the server says that it serves; if not, why, in upstream's words.
pub(super) async fn check(place: &Place, grpc: &GRPCAction) -> Result<(), String> {
    let service = grpc.service.as_deref().unwrap_or_default();
    let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port number: {}", grpc.port))?;
    let host = place.host("")?;
    let address = join(&host, port);
    let stream = connect(&host, port).await.map_err(|_| {
        format!("timeout: failed to connect service \"{address}\" within 1s: context deadline exceeded")
    })?;
    match call(stream, &address, service).await? {
        1 => Ok(()),
        0 => Err(unhealthy("UNKNOWN")),
        2 => Err(unhealthy("NOT_SERVING")),
        3 => Err(unhealthy("SERVICE_UNKNOWN")),
        other => Err(unhealthy(&other.to_string())),
    }
}

fn unhealthy(status: &str) -> String {
    format!("service unhealthy (responded with \"{status}\")")
}

/// The status that a server answers about one of its services.
async fn call<S>(stream: S, authority: &str, service: &str) -> Result<u64, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: &dyn std::fmt::Display| format!("error: health rpc probe failed: {error}");
    let request = http::Request::post(format!("http://{authority}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.35")
        .body(())
        .map_err(|error| failed(&error))?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| failed(&error))?;
    let exchange = async {
        let mut sender = sender.ready().await.map_err(|error| failed(&error))?;
        let (answer, mut body) = sender.send_request(request, false).map_err(|error| failed(&error))?;
        body.send_data(frame(service), true).map_err(|error| failed(&error))?;
        let (head, mut body) = answer.await.map_err(|error| failed(&error))?.into_parts();
        let mut message = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|error| failed(&error))?;
            body.flow_control().release_capacity(piece.len()).map_err(|error| failed(&error))?;
            if message.len() + piece.len() > ANSWER_MAX {
                return Err(failed(&"the answer is too long"));
            }
            message.extend_from_slice(&piece);
        }
        let trailers = body.trailers().await.map_err(|error| failed(&error))?.unwrap_or_default();
        let told = |name: &str| {
            let value = trailers.get(name).or_else(|| head.headers.get(name));
            value.and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        match told("grpc-status").as_deref() {
            Some("0") => status(&message).ok_or_else(|| failed(&"the answer cannot be read")),
            Some(UNIMPLEMENTED) => {
                Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned())
            }
            Some(code) => {
                let message = told("grpc-message").unwrap_or_default();
                Err(failed(&format!("rpc error: code = {code} desc = {message}")))
            }
            None => Err(failed(&format!("rpc error: the server answered {} and no status", head.status.as_u16()))),
        }
    };
    // The connection is driven here: no task of its own. Its end before the answer's is a failure.
    tokio::select! {
        biased;
        result = exchange => result,
        ended = connection => Err(match ended {
            Ok(()) => failed(&"the connection was closed"),
            Err(error) => failed(&error),
        }),
    }
}

/// A message that is not compressed, after its length.
fn frame(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(FIELD_TEXT);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or(0));
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message);
    frame.freeze()
}

/// The status in an answer; `None` for what is none.
fn status(frame: &[u8]) -> Option<u64> {
    let (head, message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    if head[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    match message {
        // What has its zero value is not sent.
        [] => Some(0),
        [FIELD_NUMBER, number] if *number < 0x80 => Some((*number).into()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "grpc_tests.rs"]
mod tests;
