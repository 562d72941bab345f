//! What the server counts, under the names of CoreDNS' metrics.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::message::Transport;

/// Types of records that are counted one by one; all others are `other`, so that nobody can make counters without end.
const TYPES: [RecordType; 9] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::MX,
    RecordType::NS,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::SRV,
    RecordType::TXT,
];

/// What a server counts; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    requests: Family<OfRequest, Counter>,
    responses: Family<OfResponse, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    proto: &'static str,
    r#type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResponse {
    rcode: String,
    plugin: &'static str,
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Counter of DNS requests made per protocol and type";
        registry.register("coredns_dns_requests", help, self.requests.clone());
        let help = "Counter of response status codes, by who gave the answer";
        registry.register("coredns_dns_responses", help, self.responses.clone());
    }

    /// A question was answered, from the zone (`kubernetes`, as CoreDNS calls the part) or by others.
    pub(super) fn answered(&self, transport: Transport, kind: RecordType, own: bool, code: ResponseCode) {
        let kind = if TYPES.contains(&kind) { kind.to_string() } else { "other".to_owned() };
        self.count(transport, kind, if own { "kubernetes" } else { "forward" }, code);
    }

    /// A packet was refused, whatever it asks for.
    pub(super) fn refused(&self, transport: Transport, code: ResponseCode) {
        self.count(transport, "other".to_owned(), "", code);
    }

    fn count(&self, transport: Transport, kind: String, plugin: &'static str, code: ResponseCode) {
        let proto = match transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        self.requests.get_or_create(&OfRequest { proto, r#type: kind }).inc();
        let rcode = match code {
            ResponseCode::NoError => "NOERROR",
            ResponseCode::FormErr => "FORMERR",
            ResponseCode::ServFail => "SERVFAIL",
            ResponseCode::NXDomain => "NXDOMAIN",
            ResponseCode::NotImp => "NOTIMP",
            ResponseCode::Refused => "REFUSED",
            ResponseCode::BADVERS => "BADVERS",
            _ => "other",
        };
        self.responses.get_or_create(&OfResponse { rcode: rcode.to_owned(), plugin }).inc();
    }
}
