//! What keeps containers apart from the node and from each other, and what they may use.

use std::path::Path;
use std::time::Duration;

use super::processes::exec;
use super::{Subject, Work, code};
use crate::runtime::{ContainerState, Error, LogLimits, Resources, Seccomp, Security};

/// The value of a line of `/proc/self/status` of a process with these rights.
async fn status(subject: &Subject, name: &str, security: Security, line: &str) -> String {
    let mut config = subject.script("a", name, &format!("grep ^{line}: /proc/self/status"));
    config.security = security;
    let (_, lines) = subject.output(&config).await;
    let value = lines.first().and_then(|found| found.split_once(':')).map(|(_, value)| value.trim().to_owned());
    value.unwrap_or_else(|| panic!("{line} is not told: {lines:?}"))
}

/// What the kernel lets everybody do, the filter does not.
pub async fn the_default_filter_refuses_what_reaches_beyond(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    assert_eq!(status(&subject, "filter", Security::default(), "Seccomp").await, "2");
    let free = Security { seccomp: Seccomp::Unconfined, ..Security::default() };
    assert_eq!(status(&subject, "free", free.clone(), "Seccomp").await, "0");
    let mut config = subject.script("a", "main", "unshare -U true 2>&1; echo $?");
    let (_, lines) = subject.output(&config).await;
    assert!(lines[0].contains("Operation not permitted") && lines[1] == "1", "{lines:?}");
    // Threads and processes are made all the same.
    config.container.name = "free-main".into();
    config.security = free;
    let (_, lines) = subject.output(&config).await;
    assert_eq!(lines, ["0"]);
}

/// A profile that lies on the node takes the place of the runtime's.
pub async fn a_filter_of_the_node_is_applied(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let path = subject.fixture.directory().join("profile.json");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&path, profile).unwrap();
    subject.make_sandbox("a").await;
    let mut config = subject.script("a", "main", "mkdir /directory && exit 1; touch /file && exit 3");
    config.security.seccomp = Seccomp::Localhost(path);
    assert_eq!(subject.output(&config).await.0, 3);
    let mut config = subject.script("a", "other", "true");
    config.security.seccomp = Seccomp::Localhost("/no/such/profile".into());
    let error = subject.runtime.create_container(&config).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { reason } if reason.contains("/no/such/profile")), "{error}");
}

/// Capabilities are added to and taken from the usual ones.
pub async fn capabilities_are_as_given(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let usual = 0xa804_25fb_u64;
    let (net_admin, chown) = (1 << 12, 1);
    for (name, add, drop, expected) in [
        ("usual", list(&[]), list(&[]), usual),
        ("more", list(&["NET_ADMIN"]), list(&[]), usual | net_admin),
        ("less", list(&[]), list(&["CHOWN"]), usual & !chown),
        ("none", list(&[]), list(&["ALL"]), 0),
        ("one", list(&["NET_ADMIN"]), list(&["ALL"]), net_admin),
    ] {
        let security = Security { add_capabilities: add, drop_capabilities: drop, ..Security::default() };
        let found = status(&subject, name, security, "CapBnd").await;
        assert_eq!(u64::from_str_radix(&found, 16), Ok(expected), "{name}: {found}");
    }
}

/// A process has the ids that are asked for.
pub async fn groups_are_as_given(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let security =
        Security { user: Some(1001), group: Some(1002), supplemental_groups: vec![7, 8], ..Security::default() };
    // A process' own group may be told again.
    let groups = status(&subject, "groups", security.clone(), "Groups").await;
    assert_eq!(groups.split_whitespace().filter(|group| *group != "1002").collect::<Vec<_>>(), ["7", "8"]);
    let user = status(&subject, "user", security.clone(), "Uid").await;
    assert_eq!(user.split_whitespace().collect::<Vec<_>>(), ["1001"; 4]);
    let group = status(&subject, "group", security, "Gid").await;
    assert_eq!(group.split_whitespace().collect::<Vec<_>>(), ["1002"; 4]);
}

/// Where it is asked for, no program makes a process mightier.
pub async fn privileges_are_not_gained(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    for (name, no_new_privileges, expected) in [("may", false, "0"), ("may-not", true, "1")] {
        let security = Security { no_new_privileges, seccomp: Seccomp::Unconfined, ..Security::default() };
        assert_eq!(status(&subject, name, security, "NoNewPrivs").await, expected);
    }
}

/// What of `/proc` is the machine's cannot be read or written.
pub async fn proc_is_masked_unless_asked(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let mut config =
        subject.script("a", "masked", "grep -c ' /proc/' /proc/mounts; echo x > /proc/sys/kernel/hostname");
    let (_, lines) = subject.output(&config).await;
    // What is printed and what is complained of have no order.
    let refused = lines.iter().any(|line| line.contains("Read-only file system"));
    assert!(refused && !lines.contains(&"0".to_owned()), "{lines:?}");
    config = subject.script("a", "unmasked", "grep -c ' /proc/' /proc/mounts");
    config.security.unmasked_proc = true;
    assert_eq!(subject.output(&config).await.1, ["0"]);
}

/// It is kept from nothing.
pub async fn a_privileged_container_has_everything(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let privileged = Security { privileged: true, ..Security::default() };
    assert_eq!(status(&subject, "filter", privileged.clone(), "Seccomp").await, "0");
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let all = (1_u64 << (last.trim().parse::<u32>().unwrap() + 1)) - 1;
    // What the one who starts it lacks itself, it cannot give.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim().to_owned();
    let expected = all & u64::from_str_radix(&own, 16).unwrap();
    let found = status(&subject, "caps", privileged.clone(), "CapBnd").await;
    // Those that came with Linux 5.8 and later are news to older engines.
    let old = (1 << 38) - 1;
    assert_eq!(u64::from_str_radix(&found, 16).unwrap() & old, expected & old, "{found}");
    let mut config = subject.script("a", "main", "test -c /dev/kmsg && echo device; grep -c ' /proc/' /proc/mounts");
    config.security = privileged;
    let expected = if Path::new("/dev/kmsg").exists() { &["device", "0"][..] } else { &["0"] };
    assert_eq!(subject.output(&config).await.1, expected);
}

/// Kernel parameters hold in the pod and not on the node.
pub async fn sysctls_are_the_pods_own(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let mut sandbox = subject.sandbox("a");
    let values = [("net.ipv4.ip_unprivileged_port_start", "80"), ("kernel/shm_rmid_forced", "1")];
    sandbox.sysctls = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    assert_eq!(subject.output(&subject.script("a", "main", script)).await.1, ["80", "1"]);
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(), before);
    let mut sandbox = subject.sandbox("b");
    sandbox.sysctls = [("net.none".to_owned(), "1".to_owned())].into();
    let error = subject.runtime.create_sandbox(&sandbox).await.unwrap_err();
    assert!(error.to_string().contains("sysctl \"net.none\" cannot be set"), "{error}");
}

/// Finds the processes whose command has something.
const FIND: &str = "for p in /proc/[0-9]*; do grep -l '[7]77777' $p/cmdline 2>/dev/null; done";

/// All containers of a pod are in one process namespace, and what a container leaves behind ends with it.
pub async fn containers_share_processes_when_asked(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let mut sandbox = subject.sandbox("a");
    sandbox.share_process_namespace = true;
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let script = "trap '' HUP TERM; sleep 777777 & echo begun $$; sleep 777777";
    let mut config = subject.script("a", "one", script);
    config.stop_signal = "KILL".into();
    let one = subject.start(&config).await;
    let said = subject.logged(&subject.find(&one).await.unwrap(), "begun ").await;
    assert!(!said.contains("begun 1\n"), "{said}");
    let two = subject.start(&subject.container("a", "two", Work::Run)).await;
    let seen = async || exec(&subject, &two, FIND).await.0;
    while seen().await.lines().count() < 2 {
        subject.fixture.pass().await;
    }
    subject.runtime.stop_container(&one, Duration::from_secs(30)).await.unwrap();
    while !seen().await.is_empty() {
        subject.fixture.pass().await;
    }
    assert!(matches!(subject.state(&two).await, ContainerState::Running { .. }));
}

/// One container sees what another one runs, and not the other way round about the rest of the pod.
pub async fn a_container_joins_another_ones_processes(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let target = subject.start(&subject.script("a", "target", "trap exit TERM; echo ready; sleep 777777 & wait")).await;
    let other = subject.start(&subject.container("a", "other", Work::Run)).await;
    let mut config = subject.container("a", "debugger", Work::Run);
    config.process_namespace_of = Some(target.clone());
    let debugger = subject.start(&config).await;
    while exec(&subject, &debugger, FIND).await.0.is_empty() {
        subject.fixture.pass().await;
    }
    assert_eq!(exec(&subject, &other, FIND).await.0, "");
    // The end of one is not the other's, but for the one that was there first.
    subject.runtime.stop_container(&debugger, Duration::from_secs(30)).await.unwrap();
    assert!(matches!(subject.state(&target).await, ContainerState::Running { .. }));
    config.container.name = "again".into();
    let again = subject.start(&config).await;
    subject.runtime.stop_container(&target, Duration::from_secs(30)).await.unwrap();
    subject.ended(&again).await;
    config.container.name = "late".into();
    let error = subject.runtime.create_container(&config).await.unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error}");
}

/// A signal reaches the main process; what that has started does not outlive it, whatever it does about signals.
pub async fn a_process_tree_that_ignores_signals_is_killed(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let mut sandbox = subject.sandbox("a");
    sandbox.host.pid = true;
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let deaf = "(trap \"\" TERM HUP INT; (trap \"\" TERM; sleep 888888; true) & sleep 888888; true) &";
    let script = format!("trap 'echo heard; exit 3' TERM; {deaf} sleep 1; echo ready; wait");
    let main = subject.start(&subject.script("a", "main", &script)).await;
    let watcher = subject.start(&subject.container("a", "watcher", Work::Run)).await;
    let find = FIND.replace("[7]77777", "[8]88888");
    // The shells have the number in their commands, too.
    assert!(exec(&subject, &watcher, &find).await.0.lines().count() >= 3);
    subject.runtime.stop_container(&main, Duration::from_secs(30)).await.unwrap();
    assert_eq!(code(&subject.state(&main).await), 3, "the main process heard the signal");
    while !exec(&subject, &watcher, &find).await.0.is_empty() {
        subject.fixture.pass().await;
    }
}

/// A script that needs so many MiB.
fn hungry(mib: u32) -> String {
    format!("dd if=/dev/zero of=/dev/null bs={mib}M count=1 2>/dev/null; echo $?; exit 9")
}

/// Who takes too much is killed, and it is said why.
pub async fn want_of_memory_is_told(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    subject.make_sandbox("a").await;
    let mut config = subject.script("a", "main", &format!("exec {}", hungry(200)));
    config.resources.memory_limit = Some(32 << 20);
    let name = subject.start(&config).await;
    let end = subject.ended(&name).await;
    assert!(matches!(end, ContainerState::Exited { oom_killed: true, code: 137, signal: 9, .. }), "{end:?}");
}

/// Containers without limits of their own have their pod's.
pub async fn a_pods_limits_hold_for_all_its_containers(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let mut sandbox = subject.sandbox("a");
    sandbox.resources.memory_limit = Some(48 << 20);
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let mut config = subject.script("a", "main", &format!("exec {}", hungry(200)));
    config.resources.memory_limit = None;
    let name = subject.start(&config).await;
    assert_eq!(code(&subject.ended(&name).await), 137);
    // More is allowed later.
    let more = Resources { memory_limit: Some(400 << 20), ..Resources::default() };
    subject.runtime.update_sandbox("a", &more).await.unwrap();
    config.container.attempt = 1;
    let name = subject.start(&config).await;
    assert_eq!(code(&subject.ended(&name).await), 0);
    let error = subject.runtime.update_sandbox("b", &more).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

/// New limits hold at once, and are listed.
pub async fn limits_change_while_a_container_runs(subject: Subject) {
    subject.make_sandbox("a").await;
    let mut config = subject.container("a", "main", Work::Run);
    config.resources = Resources { memory_limit: Some(48 << 20), cpu_request_milli: 100, ..Resources::default() };
    let name = subject.start(&config).await;
    assert_eq!(subject.find(&name).await.unwrap().resources, config.resources);
    let real = subject.runtime.info().capabilities.real;
    if real {
        assert!(exec(&subject, &name, &hungry(100)).await.0.starts_with("137\n"));
    }
    let more = Resources {
        memory_limit: Some(200 << 20),
        cpu_request_milli: 200,
        cpu_limit_milli: Some(500),
        ..Resources::default()
    };
    subject.runtime.update_container(&name, &more).await.unwrap();
    assert_eq!(subject.find(&name).await.unwrap().resources, more);
    if real {
        assert!(exec(&subject, &name, &hungry(100)).await.0.starts_with("0\n"));
    }
    let free = Resources::default();
    subject.runtime.update_container(&name, &free).await.unwrap();
    if real {
        assert!(exec(&subject, &name, &hungry(300)).await.0.starts_with("0\n"));
        let least = Resources { memory_limit: Some(4096), ..free };
        let error = subject.runtime.update_container(&name, &least).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
        assert_eq!(subject.find(&name).await.unwrap().resources, free);
    }
    subject.runtime.stop_container(&name, Duration::ZERO).await.unwrap();
    let error = subject.runtime.update_container(&name, &more).await.unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error}");
}

/// However much a container says, only the end of it is kept, without a gap.
pub async fn logs_are_bounded(subject: Subject) {
    if !subject.is_real() {
        return;
    }
    let mut sandbox = subject.sandbox("a");
    sandbox.log_limits = LogLimits { max_bytes: 20_000, max_files: 3 };
    subject.runtime.create_sandbox(&sandbox).await.unwrap();
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i of many; i=$((i+1)); done; printf last";
    let name = subject.start(&subject.script("a", "main", script)).await;
    subject.ended(&name).await;
    let container = subject.find(&name).await.unwrap();
    subject.logged(&container, "last\n").await;
    let file = |suffix: &str| format!("{}{suffix}", container.log_path.display());
    let mut text = String::new();
    for suffix in [".2", ".1", ""] {
        let part = std::fs::read_to_string(file(suffix)).unwrap();
        assert!(part.len() <= 20_000, "{}", part.len());
        text.push_str(&part);
    }
    assert!(!Path::new(&file(".3")).exists() && text.len() > 40_000);
    let first: usize = text.lines().next().unwrap().split(' ').nth(4).unwrap().parse().unwrap();
    for (number, line) in (first..3000).zip(text.lines()) {
        assert!(line.ends_with(&format!(" line {number} of many")), "{number}: {line}");
    }
    assert_eq!(text.lines().count(), 3000 - first + 1);
}
