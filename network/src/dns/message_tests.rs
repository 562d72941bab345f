use std::net::Ipv4Addr;

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData};
use proptest::prelude::*;

use super::*;

fn question(kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_ascii("Web.default.svc.cluster.local.").unwrap(), kind));
    message
}

fn with_edns(payload: u16) -> Message {
    let mut message = question(RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_dnssec_ok(true);
    message.edns = Some(edns);
    message
}

fn request(message: &Message) -> Request {
    match read(&message.to_vec().unwrap()) {
        Received::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

fn refusal(packet: &[u8]) -> ResponseCode {
    match read(packet) {
        Received::Refused(code, bytes) => {
            let message = Message::from_vec(&bytes).unwrap();
            assert_eq!((message.metadata.id, message.metadata.message_type), (7, MessageType::Response));
            // Two codes have one number.
            assert_eq!(u16::from(message.metadata.response_code), u16::from(code));
            code
        }
        other => panic!("{other:?}"),
    }
}

fn many(count: u8) -> Answer {
    let name = Name::from_ascii("Web.default.svc.cluster.local.").unwrap();
    let record = |n| Record::from_rdata(name.clone(), 5, RData::A(A(Ipv4Addr::new(10, 0, 0, n))));
    Answer { answers: (0..count).map(record).collect(), ..Answer::new(ResponseCode::NoError) }
}

#[test]
fn an_answer_repeats_its_question() {
    let request = request(&with_edns(4096));
    let mut answer = many(2);
    answer.authoritative = true;
    let message = Message::from_vec(&request.respond(&answer, Transport::Udp)).unwrap();
    let metadata = message.metadata;
    assert_eq!((metadata.id, metadata.message_type), (7, MessageType::Response));
    assert!(metadata.authoritative && metadata.recursion_desired && metadata.recursion_available);
    assert!(!metadata.truncation);
    assert_eq!(message.queries[0].name.to_ascii(), "Web.default.svc.cluster.local.");
    assert_eq!(message.answers, answer.answers);
    let edns = message.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
    // Who does not speak EDNS is not spoken to in it.
    let message = Message::from_vec(&super::tests::request(&question(RecordType::A)).respond(&answer, Transport::Udp));
    assert_eq!(message.unwrap().edns, None);
}

#[test]
fn what_does_not_fit_is_left_out_and_marked() {
    let answer = many(255);
    for (message, limit) in
        [(question(RecordType::A), 512), (with_edns(100), 512), (with_edns(1000), 1000), (with_edns(65_535), 1232)]
    {
        let bytes = request(&message).respond(&answer, Transport::Udp);
        assert!((limit - 32..=limit).contains(&bytes.len()), "{} of {limit}", bytes.len());
        let shortened = Message::from_vec(&bytes).unwrap();
        assert!(shortened.metadata.truncation && !shortened.answers.is_empty());
        assert_eq!(shortened.edns.is_some(), message.edns.is_some());
    }
    let whole = Message::from_vec(&request(&question(RecordType::A)).respond(&answer, Transport::Tcp)).unwrap();
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (255, false));
    // What is only beside the answer is left out without a mark.
    let beside = Answer { answers: many(1).answers, additionals: answer.answers, ..Answer::new(ResponseCode::NoError) };
    let message = Message::from_vec(&request(&question(RecordType::A)).respond(&beside, Transport::Udp)).unwrap();
    assert_eq!((message.answers.len(), message.additionals.len(), message.metadata.truncation), (1, 0, false));
}

#[test]
fn what_is_no_question_is_refused_as_it_should_be() {
    let good = question(RecordType::A).to_vec().unwrap();
    let mut response = good.clone();
    response[2] |= 0x80;
    for packet in [&[][..], &good[..11], &response] {
        assert!(matches!(read(packet), Received::Nothing));
    }
    let with = |index: usize, byte: u8| {
        let mut packet = good.clone();
        packet[index] = byte;
        packet
    };
    assert_eq!(refusal(&with(2, 0x28)), ResponseCode::NotImp, "an update");
    assert_eq!(refusal(&with(5, 0)), ResponseCode::FormErr, "no question");
    assert_eq!(refusal(&with(5, 2)), ResponseCode::FormErr, "two questions");
    assert_eq!(refusal(&with(4, 0xff)), ResponseCode::FormErr, "a great many questions");
    assert_eq!(refusal(&good[..20]), ResponseCode::FormErr, "half a question");
    assert_eq!(refusal(&with(good.len() - 1, 3)), ResponseCode::Refused, "the class of Chaos");
    assert_eq!(refusal(&question(RecordType::AXFR).to_vec().unwrap()), ResponseCode::Refused);
    let mut strange = with_edns(512);
    strange.edns.as_mut().unwrap().set_version(1);
    assert_eq!(refusal(&strange.to_vec().unwrap()), ResponseCode::BADVERS);
}

proptest! {
    #[test]
    fn no_bytes_do_harm(packet in proptest::collection::vec(any::<u8>(), 0..1500)) {
        if let Received::Request(request) = read(&packet) {
            prop_assert!(request.respond(&many(3), Transport::Udp).len() <= usize::from(UDP_MAX));
        }
    }

    /// Nearly right is worse than wrong: a question with some bytes changed, and a tail.
    #[test]
    fn no_damaged_question_does_harm(
        changes in proptest::collection::vec((0_usize..70, any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut packet = with_edns(4096).to_vec().unwrap();
        packet.extend(tail);
        let length = packet.len();
        for (place, byte) in changes {
            packet[place % length] = byte;
        }
        if let Received::Request(request) = read(&packet) {
            prop_assert!(request.respond(&many(200), Transport::Udp).len() <= usize::from(UDP_MAX));
        }
    }
}
