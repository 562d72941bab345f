//! Configurations as people write them.

mod arguments;
mod errors;
mod plugins;

use super::*;
use crate::ExtensionPoint;

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

/// A configuration with these lines.
fn read(lines: &str) -> Result<Configuration, ConfigError> {
    Configuration::from_yaml(&format!("{HEAD}{lines}"))
}

/// The only profile of a configuration with these plugins and pluginConfig.
#[track_caller]
fn profile(lines: &str) -> Profile {
    let read = read(&format!("profiles:\n- {}", lines.trim().replace('\n', "\n  ")));
    read.unwrap().profiles.remove(0)
}

/// The names at an extension point, in their order.
fn names(profile: &Profile, point: ExtensionPoint) -> Vec<&str> {
    profile.at(point).map(|enabled| enabled.policy().name()).collect()
}

#[test]
fn an_empty_configuration_is_the_default_scheduler() {
    let configuration = read("").unwrap();
    assert_eq!(configuration.backoff, Backoff::default());
    let [profile] = &configuration.profiles[..] else { panic!("one profile") };
    let default = Profile::default_scheduler();
    assert_eq!((profile.name(), profile.sampling()), ("default-scheduler", None));
    for point in ExtensionPoint::ALL {
        assert_eq!(names(profile, point), names(&default, point), "{point:?}");
    }
    let weights =
        |profile: &Profile| -> Vec<i64> { profile.at(ExtensionPoint::Score).map(crate::Enabled::weight).collect() };
    assert_eq!(weights(profile), weights(&default));
    let leader = configuration.leader("me").unwrap();
    assert_eq!(leader, LeaderConfig::new("kube-system", "kube-scheduler", "me"));
}

#[test]
fn settings_are_read() {
    let configuration = read(
        "
parallelism: 4
clientConnection: { kubeconfig: /etc/kubeconfig, qps: 20.5, burst: 30 }
leaderElection: { leaseDuration: 1m, renewDeadline: 40s, retryPeriod: 1500ms, resourceName: mine, resourceLock: leases }
percentageOfNodesToScore: 40
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 60
delayCacheUntilActive: true
enableProfiling: false
extenders: null
profiles:
- schedulerName: a
- { schedulerName: b, percentageOfNodesToScore: 0 }
- { schedulerName: c, percentageOfNodesToScore: 7 }
- { schedulerName: d, percentageOfNodesToScore: 100 }
",
    )
    .unwrap();
    let sampling: Vec<_> = configuration.profiles.iter().map(Profile::sampling).collect();
    assert_eq!(sampling, [Some(Sampling::Percent(40)), None, Some(Sampling::Percent(7)), None]);
    let backoff = Backoff { initial: Duration::from_secs(2), max: Duration::from_secs(60) };
    assert_eq!(configuration.backoff, backoff);
    let leader = configuration.leader("me").unwrap();
    assert_eq!((leader.name.as_str(), leader.namespace.as_str()), ("mine", "kube-system"));
    assert_eq!((leader.lease_duration, leader.retry_period), (Duration::from_secs(60), Duration::from_millis(1500)));
    let options = configuration.options();
    assert_eq!((options.backoff, options.profiles.len()), (backoff, 4));
    assert_eq!(read("leaderElection: { leaderElect: false }").unwrap().leader("me"), None);
}

#[test]
fn a_policy_of_ones_own_is_named_with_its_arguments() {
    use longshore_core::scheduling::per_node;

    #[derive(Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        most: i64,
    }
    let registry = Registry::built_in().with("Limit", |args| {
        let Limit { most } = args.read()?;
        if most < 0 {
            return Err(ConfigError::new(&args.at().child("most"), "must not be negative"));
        }
        Ok(per_node::score("Limit", move |_, node| (most - node.requested("pods")).max(0)))
    });
    let read = |args: &str| {
        let plugins = "plugins: { multiPoint: { enabled: [{ name: Limit, weight: 7 }] } }";
        let text = format!("{HEAD}profiles: [{{ {plugins}, pluginConfig: [{{ name: Limit, args: {args} }}] }}]");
        Configuration::with_policies(&text, &registry)
    };
    let configuration = read("{ most: 3 }").unwrap();
    let limit = configuration.profiles[0].at(ExtensionPoint::Score).last().unwrap();
    assert_eq!((limit.policy().name(), limit.weight()), ("Limit", 7));
    let error = |args: &str| read(args).unwrap_err().to_string();
    assert_eq!(error("{ most: -3 }"), "profiles[0].pluginConfig[0].args.most: must not be negative");
    let unknown = error("{ least: 3, most: 1 }");
    assert!(unknown.starts_with("profiles[0].pluginConfig[0].args.least: unknown field `least`"), "{unknown}");
}
