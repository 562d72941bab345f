//! From bytes to a question, and from an answer to bytes.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};

/// Bytes of a message's header.
const HEADER: usize = 12;
/// Largest message over UDP to who does not say that more is welcome.
const UDP_MIN: usize = 512;
/// Largest over UDP at all: what passes every network in one packet.
pub(super) const UDP_MAX: u16 = 1232;
/// Bytes of the smallest record: a name that refers to an earlier one, type, class, time and length.
const RECORD_MIN: usize = 12;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// A question that can be answered.
#[derive(Debug, Clone)]
pub(super) struct Request {
    id: u16,
    pub(super) query: Query,
    pub(super) recursion_desired: bool,
    pub(super) checking_disabled: bool,
    /// Largest answer that the asker takes by UDP, and whether it wants signatures, if it speaks EDNS.
    edns: Option<(u16, bool)>,
}

/// What is in a packet.
#[derive(Debug)]
pub(super) enum Received {
    Request(Request),
    /// Something that is answered with this, whatever the names are.
    Refused(ResponseCode, Vec<u8>),
    /// Something that must not be answered.
    Nothing,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    /// The zone is ours.
    pub(super) authoritative: bool,
    /// Signatures were checked by who says so.
    pub(super) authentic: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Answer {
    pub(super) fn new(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            authentic: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

/// Reads a packet.
pub(super) fn read(packet: &[u8]) -> Received {
    let [id_high, id_low, flags, _, questions_high, questions_low, ..] = *packet else { return Received::Nothing };
    // A response that were answered would be answered in turn.
    if packet.len() < HEADER || flags & 0x80 != 0 {
        return Received::Nothing;
    }
    let id = u16::from_be_bytes([id_high, id_low]);
    let op_code = OpCode::from_u8((flags >> 3) & 0xf);
    let refused = |code| {
        let mut message = Message::error_msg(id, op_code, code);
        message.metadata.recursion_desired = flags & 1 != 0;
        Received::Refused(code, message.to_vec().unwrap_or_default())
    };
    if op_code != OpCode::Query {
        return refused(ResponseCode::NotImp);
    }
    // Looked at first: the count says how much memory is taken to read them.
    if u16::from_be_bytes([questions_high, questions_low]) != 1 {
        return refused(ResponseCode::FormErr);
    }
    let Ok(mut message) = Message::from_vec(packet) else { return refused(ResponseCode::FormErr) };
    let Some(query) = message.queries.pop() else { return refused(ResponseCode::FormErr) };
    let request = Request {
        id,
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        edns: message.edns.as_ref().map(|edns| (edns.max_payload(), edns.flags().dnssec_ok)),
        query,
    };
    let refused = |code| Received::Refused(code, request.respond(&Answer::new(code), Transport::Udp));
    if message.edns.is_some_and(|edns| edns.version() != 0) {
        return refused(ResponseCode::BADVERS);
    }
    let transfer = matches!(request.query.query_type, RecordType::AXFR | RecordType::IXFR);
    if request.query.query_class != DNSClass::IN || transfer {
        return refused(ResponseCode::Refused);
    }
    Received::Request(request)
}

impl Request {
    pub(super) fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|(_, dnssec_ok)| dnssec_ok)
    }

    /// The same question to somebody else.
    pub(super) fn onward(&self, id: u16) -> Message {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.queries.push(self.query.clone());
        message.edns = self.edns();
        message
    }

    fn edns(&self) -> Option<Edns> {
        self.edns.map(|(_, dnssec_ok)| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX).set_dnssec_ok(dnssec_ok);
            edns
        })
    }

    /// The bytes of an answer: as much of it as the asker takes, marked where something is missing.
    pub(super) fn respond(&self, answer: &Answer, transport: Transport) -> Vec<u8> {
        let limit = match (transport, self.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => UDP_MIN,
            (Transport::Udp, Some((payload, _))) => usize::from(payload.min(UDP_MAX)).max(UDP_MIN),
        };
        let mut message = Message::response(self.id, OpCode::Query);
        let metadata = &mut message.metadata;
        metadata.recursion_desired = self.recursion_desired;
        metadata.recursion_available = true;
        metadata.checking_disabled = self.checking_disabled;
        metadata.authoritative = answer.authoritative;
        metadata.authentic_data = answer.authentic;
        metadata.response_code = answer.code;
        message.queries.push(self.query.clone());
        // More than that cannot fit, and it takes time to write what is thrown away.
        let fitting = answer.answers.len().min(limit / RECORD_MIN);
        message.metadata.truncation = fitting < answer.answers.len();
        message.answers = answer.answers[..fitting].to_vec();
        message.authorities.clone_from(&answer.authorities);
        message.additionals = answer.additionals.iter().take(limit / RECORD_MIN).cloned().collect();
        message.edns = self.edns();
        write(message, limit)
    }
}

fn write(mut message: Message, limit: usize) -> Vec<u8> {
    loop {
        let Ok(bytes) = message.to_vec() else {
            // Nothing that was read or made here cannot be written; should it ever be so, this can.
            let code = ResponseCode::ServFail;
            return Message::error_msg(message.metadata.id, OpCode::Query, code).to_vec().unwrap_or_default();
        };
        // The writer itself stops, and says so, where no message could be longer.
        if bytes.len() <= limit {
            return bytes;
        }
        if !message.additionals.is_empty() {
            message.additionals.clear();
            continue;
        }
        message.metadata.truncation = true;
        if !message.authorities.is_empty() {
            message.authorities.clear();
        } else if message.answers.is_empty() {
            return bytes;
        } else {
            let fitting = message.answers.len() * limit / bytes.len();
            message.answers.truncate(fitting.min(message.answers.len() - 1));
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
