use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::clock::{Clock, VirtualClock};
use x509_parser::pem::parse_x509_pem;

use super::*;

fn clock() -> Arc<VirtualClock> {
    Arc::new(VirtualClock::new())
}

#[test]
fn an_authority_is_made_once_and_then_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pki");
    let first = Authority::open(&path, clock()).unwrap();
    let again = Authority::open(&path, clock()).unwrap();
    assert_eq!(first.certificate(), again.certificate());
    for file in ["ca.crt", "ca.key"] {
        let mode = std::fs::metadata(path.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "nothing temporary stays: {files:?}");
}

#[test]
fn processes_that_start_at_once_share_one_authority() {
    let directory = tempfile::tempdir().unwrap();
    let made: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Authority::open(directory.path(), clock()).unwrap().certificate().to_owned()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|certificate| *certificate == made[0]));
}

#[test]
fn an_authority_without_its_key_or_with_anothers_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    Authority::open(directory.path(), clock()).unwrap();
    std::fs::write(directory.path().join("ca.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = Authority::open(directory.path(), clock()).unwrap_err().to_string();
    assert!(error.contains("is another's"), "{error}");
    std::fs::remove_file(directory.path().join("ca.key")).unwrap();
    let error = Authority::open(directory.path(), clock()).unwrap_err().to_string();
    assert!(error.contains("ca.key is missing"), "{error}");
    std::fs::write(directory.path().join("ca.key"), "nonsense").unwrap();
    assert!(matches!(Authority::open(directory.path(), clock()), Err(Error::Unusable { .. })));
}

#[test]
fn an_authority_that_ran_out_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    Authority::open(directory.path(), clock()).unwrap();
    let later = clock();
    later.advance(AUTHORITY_LIFE + DAY);
    let error = Authority::open(directory.path(), later).unwrap_err().to_string();
    assert!(error.contains("it ran out at"), "{error}");
}

#[test]
fn certificates_carry_user_groups_names_and_times() {
    let clock = clock();
    let authority = Authority::generate(clock.clone()).unwrap();
    let client = authority.issue_client("kubernetes-admin", &["system:masters", "others"]).unwrap();
    let (_, pem) = parse_x509_pem(client.certificate.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let organizations: Vec<_> =
        certificate.subject().iter_organization().map(|value| value.as_str().unwrap().to_owned()).collect();
    assert_eq!(organizations, ["system:masters", "others"]);
    assert_eq!(certificate.subject().iter_common_name().next().unwrap().as_str().unwrap(), "kubernetes-admin");
    let now = clock.now();
    let begins = Timestamp::from_second(certificate.validity().not_before.timestamp()).unwrap();
    assert_eq!(now.duration_since(begins).as_secs(), 3600);
    assert!(authority.issue_client("a", &["1", "2", "3"]).is_err());

    let names = ServerNames::apiserver([[10, 96, 0, 1].into(), [0, 0, 0, 0].into()]);
    assert_eq!(names.addresses.len(), 3);
    let server = authority.issue_server("kube-apiserver", &names).unwrap();
    let (_, pem) = parse_x509_pem(server.certificate.as_bytes()).unwrap();
    assert!(tls::covers(&pem.parse_x509().unwrap(), &names));
    assert!(!format!("{server:?}").contains("PRIVATE KEY"));
}

#[test]
fn a_stored_certificate_is_issued_anew_when_it_no_longer_fits() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let authority = Authority::open(directory.path(), clock.clone()).unwrap();
    let get = |authority: &Authority, names: &ServerNames| {
        let issue = |authority: &Authority| authority.issue_server("server", names);
        authority.load_or_issue(directory.path(), "server", names, issue).unwrap()
    };
    let few = ServerNames::apiserver([]);
    let first = get(&authority, &few);
    assert_eq!(get(&authority, &few), first);
    let more = ServerNames::apiserver([[192, 168, 0, 7].into()]);
    let second = get(&authority, &more);
    assert_ne!(second, first);
    assert_eq!(get(&authority, &few), second, "one name too many does no harm");
    clock.advance(LIFE - RENEW);
    let third = get(&authority, &more);
    assert_ne!(third, second);
    let other = Authority::generate(clock).unwrap();
    assert_ne!(get(&other, &more), third);
}
