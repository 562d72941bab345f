//! Answers of others, remembered for as long as they allow.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, RecordType};
use lru::LruCache;

use super::message::{Answer, Request};

/// How many answers are remembered.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(8192).expect("it is not zero");
/// How many records an answer may have: larger ones are rare, and would make the memory taken unknowable.
const RECORDS_MAX: usize = 64;
/// Longest time for which something is remembered, as kubeadm configures CoreDNS: a record that was changed by mistake
/// is not served for a day.
const TTL_MAX: u32 = 30;

/// What tells one question from another: its name in lower case, its type, and what is asked of its signatures.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    name: Name,
    kind: RecordType,
    dnssec_ok: bool,
    checking_disabled: bool,
}

impl Key {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            name: request.query.name.to_lowercase(),
            kind: request.query.query_type,
            dnssec_ok: request.dnssec_ok(),
            checking_disabled: request.checking_disabled,
        }
    }
}

#[derive(Debug)]
struct Remembered {
    answer: Answer,
    since: Duration,
    seconds: u32,
}

/// The memory; the answers used least recently make room for new ones.
#[derive(Debug)]
pub(super) struct Cache(Mutex<LruCache<Key, Remembered>>);

impl Cache {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(CAPACITY)))
    }

    /// An answer that may still be given at `now`, with what is left of its time.
    pub(super) fn get(&self, key: &Key, now: Duration) -> Option<Answer> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = cache.get(key)?;
        let age = u32::try_from(now.saturating_sub(remembered.since).as_secs()).unwrap_or(u32::MAX);
        if age >= remembered.seconds {
            cache.pop(key);
            return None;
        }
        let mut answer = remembered.answer.clone();
        let sections = [&mut answer.answers, &mut answer.authorities, &mut answer.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(answer)
    }

    pub(super) fn put(&self, key: Key, answer: &Answer, now: Duration) {
        let seconds = seconds(answer).min(TTL_MAX);
        let records = answer.answers.len() + answer.authorities.len() + answer.additionals.len();
        if seconds > 0 && records <= RECORDS_MAX {
            let remembered = Remembered { answer: answer.clone(), since: now, seconds };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).put(key, remembered);
        }
    }
}

/// For how long an answer may be remembered (RFC 2308): as its shortest record says, and that there is nothing as the
/// zone's SOA record says; without one not at all.
fn seconds(answer: &Answer) -> u32 {
    let positive = answer.answers.iter().map(|record| record.ttl).min();
    let negative = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    match (answer.code, positive, negative) {
        (ResponseCode::NoError, Some(seconds), None) => seconds,
        // A chain of aliases whose end has nothing.
        (ResponseCode::NoError | ResponseCode::NXDomain, Some(positive), Some(negative)) => positive.min(negative),
        (ResponseCode::NoError | ResponseCode::NXDomain, None, Some(seconds)) => seconds,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, SOA};

    use super::*;

    fn key(name: &str) -> Key {
        let name = Name::from_ascii(name).unwrap().to_lowercase();
        Key { name, kind: RecordType::A, dnssec_ok: false, checking_disabled: false }
    }

    fn address(ttl: u32) -> Record {
        Record::from_rdata(Name::from_ascii("a.test.").unwrap(), ttl, RData::A(A(Ipv4Addr::LOCALHOST)))
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let name = Name::from_ascii("test.").unwrap();
        let soa = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, minimum);
        Record::from_rdata(name, ttl, RData::SOA(soa))
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_ages_and_is_forgotten_in_its_time() {
        let cache = Cache::new();
        let answer = Answer { answers: vec![address(20), address(10)], ..Answer::new(ResponseCode::NoError) };
        cache.put(key("A.test."), &answer, at(100));
        let aged = cache.get(&key("a.Test."), at(109)).unwrap();
        assert_eq!(aged.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [11, 1]);
        assert_eq!(cache.get(&key("a.test."), at(110)), None);
        assert_eq!(cache.get(&Key { dnssec_ok: true, ..key("a.test.") }, at(100)), None);
        // Nothing is remembered for longer than half a minute.
        let long = Answer { answers: vec![address(86_400)], ..Answer::new(ResponseCode::NoError) };
        cache.put(key("a.test."), &long, at(200));
        assert!(cache.get(&key("a.test."), at(229)).is_some());
        assert_eq!(cache.get(&key("a.test."), at(230)), None);
    }

    #[test]
    fn that_there_is_nothing_is_remembered_as_the_zone_allows() {
        let of = |code, answers, authorities| seconds(&Answer { answers, authorities, ..Answer::new(code) });
        assert_eq!(of(ResponseCode::NXDomain, vec![], vec![soa(60, 7)]), 7);
        assert_eq!(of(ResponseCode::NoError, vec![], vec![soa(6, 7)]), 6);
        assert_eq!(of(ResponseCode::NoError, vec![address(3)], vec![soa(6, 7)]), 3);
        assert_eq!(of(ResponseCode::NXDomain, vec![], vec![]), 0);
        assert_eq!(of(ResponseCode::ServFail, vec![], vec![soa(6, 7)]), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let cache = Cache::new();
        let answer = Answer { answers: vec![address(20)], ..Answer::new(ResponseCode::NoError) };
        for number in 0..=CAPACITY.get() {
            cache.put(key(&format!("a{number}.test.")), &answer, at(0));
        }
        assert_eq!(cache.get(&key("a0.test."), at(0)), None);
        assert!(cache.get(&key("a1.test."), at(0)).is_some());
        let huge = Answer { answers: vec![address(20); RECORDS_MAX + 1], ..Answer::new(ResponseCode::NoError) };
        cache.put(key("huge.test."), &huge, at(0));
        assert_eq!(cache.get(&key("huge.test."), at(0)), None);
    }
}
