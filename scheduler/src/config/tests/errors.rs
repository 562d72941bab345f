//! What people are told.

use super::*;

#[track_caller]
fn check(lines: &str, expected: &str) {
    let error = read(lines).unwrap_err().to_string();
    assert_eq!(error, expected, "{lines}");
}

/// As [`check`], for the start of a message that goes on with what there is instead.
#[track_caller]
fn check_start(lines: &str, expected: &str) {
    let error = read(lines).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{lines}\n{error}");
}

#[test]
fn another_document_is_refused() {
    let error = |text: &str| Configuration::from_yaml(text).unwrap_err().to_string();
    assert_eq!(
        error("apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration\nfoo: 1"),
        "apiVersion: Unsupported value: \"kubescheduler.config.k8s.io/v1beta3\": \
         supported values: \"kubescheduler.config.k8s.io/v1\""
    );
    assert_eq!(
        error("a: 1"),
        "[apiVersion: Required value: kubescheduler.config.k8s.io/v1, \
         kind: Required value: KubeSchedulerConfiguration]"
    );
    assert!(error("a: [").starts_with("yaml: "), "{}", error("a: ["));
    assert!(error(&format!("{HEAD}kind: Pod")).contains("\"kind\" already"), "{}", error(&format!("{HEAD}kind: Pod")));
}

#[test]
fn unknown_fields_and_wrong_types_are_named_by_their_place() {
    check_start("foo: 1", "foo: unknown field `foo`, expected one of ");
    check_start("profiles: [{ schedulerName: a, foo: 1 }]", "profiles[0].foo: unknown field `foo`");
    check_start("profiles: [{ schedulerName: 7 }]", "profiles[0].schedulerName: invalid type: integer `7`");
    check_start(
        "profiles: [{ plugins: { bindings: {} } }]",
        "profiles[0].plugins: unknown field `bindings`, expected one of `multiPoint`, `preEnqueue`, ",
    );
    check_start(
        "profiles: [{ plugins: { score: { enabled: [{ name: ImageLocality, weigth: 1 }] } } }]",
        "profiles[0].plugins.score.enabled[0].weigth: unknown field `weigth`",
    );
    check_start(
        "profiles: [{ plugins: { score: { enabled: [{ weight: 1 }] } } }]",
        "profiles[0].plugins.score.enabled[0]: missing field `name`",
    );
    check_start(
        "leaderElection: { leaseDuration: soon }",
        "leaderElection.leaseDuration: time: invalid duration \"soon\"",
    );
    check_start(
        "profiles: [{ pluginConfig: [{ name: NodeResourcesFit, args: { scoringStrategy: { kind: x } } }] }]",
        "profiles[0].pluginConfig[0].args.scoringStrategy.kind: unknown field `kind`",
    );
}

#[test]
fn settings_out_of_range_are_told_all_at_once() {
    check("percentageOfNodesToScore: 101", "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]");
    check(
        "parallelism: 0\npodInitialBackoffSeconds: 0\nclientConnection: { burst: -1 }",
        "[clientConnection.burst: Invalid value: -1: must be non-negative, \
         parallelism: Invalid value: 0: should be an integer value greater than zero, \
         podInitialBackoffSeconds: Invalid value: 0: must be greater than 0]",
    );
    check(
        "podInitialBackoffSeconds: 20",
        "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds",
    );
    check(
        "leaderElection: { leaseDuration: 10s, resourceLock: endpoints }",
        "[leaderElection.leaseDuration: Invalid value: \"10s\": must be greater than `RenewDeadline`, \
         leaderElection.resourceLock: Invalid value: \"endpoints\": resourceLock value must be \"leases\"]",
    );
    check(
        "leaderElection: { renewDeadline: 2s }",
        "leaderElection.renewDeadline: Invalid value: \"2s\": must be greater than retryPeriod*JitterFactor",
    );
    check(
        "extenders: [{ urlPrefix: 'http://127.0.0.1/filter', filterVerb: filter }]",
        "extenders[0]: Forbidden: the extender \"http://127.0.0.1/filter\" would not be asked; \
         make a policy of it and register that",
    );
}

#[test]
fn profiles_must_have_names_of_their_own() {
    check("profiles: [{}, { schedulerName: a }]", "profiles[0].schedulerName: Required value");
    check("profiles: [{ schedulerName: '' }]", "profiles[0].schedulerName: Required value");
    check(
        "profiles: [{ schedulerName: a }, { schedulerName: b }, { schedulerName: a }]",
        "profiles[2].schedulerName: Duplicate value: \"a\"",
    );
}

#[test]
fn plugins_that_cannot_be_there_are_named_with_their_place() {
    let plugins = |sets: &str| format!("profiles: [{{ plugins: {{ {sets} }} }}]");
    check_start(
        &plugins("score: { enabled: [{ name: ImageLocality }, { name: Foo }] }"),
        "profiles[0].plugins.score.enabled[1]: ScorePlugin \"Foo\" does not exist; there are DefaultBinder, DefaultPreemption, ",
    );
    check_start(
        &plugins("multiPoint: { enabled: [{ name: Foo }] }"),
        "profiles[0].plugins.multiPoint.enabled[0]: plugin \"Foo\" does not exist; there are ",
    );
    check_start(
        &plugins("preBind: { disabled: [{ name: Foo }] }"),
        "profiles[0].plugins.preBind.disabled[0]: PreBindPlugin \"Foo\" does not exist; there are ",
    );
    check(
        &plugins("score: { enabled: [{ name: NodeName }] }"),
        "profiles[0].plugins.score.enabled[0]: plugin \"NodeName\" does not extend ScorePlugin plugin",
    );
    check(
        &plugins("filter: { enabled: [{ name: NodeName }, { name: NodeName }] }"),
        "profiles[0].plugins.filter.enabled[1]: plugin \"NodeName\" already registered as \"FilterPlugin\"",
    );
    check(
        &plugins("filter: { enabled: [{ name: EBSLimits }] }"),
        "profiles[0].plugins.filter.enabled[0]: Invalid value: \"EBSLimits\": was invalid in version \"v1\" \
         (KubeSchedulerConfiguration is version \"kubescheduler.config.k8s.io/v1\")",
    );
    check(
        &plugins(
            "score: { enabled: [{ name: ImageLocality, weight: -1 }, { name: NodeAffinity, weight: 2147483648 }] }",
        ),
        "[profiles[0].plugins.score.enabled[0].weight: Invalid value: -1: not in valid range [0, 2147483647], \
         profiles[0].plugins.score.enabled[1].weight: Invalid value: 2147483648: not in valid range [0, 2147483647]]",
    );
}

#[test]
fn a_queue_is_ordered_by_one_policy_and_pods_are_bound_by_some() {
    check(
        "profiles: [{ plugins: { queueSort: { disabled: [{ name: '*' }] } } }]",
        "profiles[0].plugins.queueSort: only one queue sort plugin required for profile with scheduler name \
         \"default-scheduler\", but got 0",
    );
    check(
        "profiles: [{ schedulerName: a, plugins: { bind: { disabled: [{ name: DefaultBinder }] } } }]",
        "profiles[0].plugins.bind: at least one bind plugin is needed for profile with scheduler name \"a\"",
    );
}

#[test]
fn all_profiles_order_the_queue_in_the_same_way() {
    #[derive(Debug)]
    struct Lottery;
    impl longshore_core::scheduling::Policy for Lottery {
        fn name(&self) -> &str {
            "Lottery"
        }
        fn as_queue_order(&self) -> Option<&dyn longshore_core::scheduling::QueueOrder> {
            Some(self)
        }
    }
    impl longshore_core::scheduling::QueueOrder for Lottery {
        fn compare(
            &self,
            _: longshore_core::scheduling::QueuedPod<'_>,
            _: longshore_core::scheduling::QueuedPod<'_>,
        ) -> std::cmp::Ordering {
            std::cmp::Ordering::Equal
        }
    }
    let registry = Registry::built_in().with("Lottery", |_| Ok(Lottery));
    let error = |profiles: &str| {
        let text = format!("{HEAD}profiles: [{profiles}]");
        Configuration::with_policies(&text, &registry).map(|_| ()).unwrap_err().to_string()
    };
    let lottery = "queueSort: { disabled: [{ name: '*' }], enabled: [{ name: Lottery }] }";
    assert_eq!(
        error(&format!("{{ schedulerName: a }}, {{ schedulerName: b, plugins: {{ {lottery} }} }}")),
        "profiles[1].plugins.queueSort: different queue sort plugins for profile \"b\": \"Lottery\", first: \"PrioritySort\""
    );
    let with = |name: &str, seed: u8| {
        let config = format!("pluginConfig: [{{ name: Lottery, args: {{ seed: {seed} }} }}]");
        format!("{{ schedulerName: {name}, plugins: {{ {lottery} }}, {config} }}")
    };
    assert_eq!(
        error(&format!("{}, {}", with("a", 1), with("b", 2))),
        "profiles[1].pluginConfig: different queue sort plugin args for profile \"b\""
    );
    let both = "queueSort: { enabled: [{ name: Lottery }] }";
    assert_eq!(
        error(&format!("{{ plugins: {{ {both} }} }}")),
        "profiles[0].plugins.queueSort: only one queue sort plugin required for profile with scheduler name \
         \"default-scheduler\", but got 2"
    );
}

#[test]
fn arguments_must_be_some_plugins_and_of_its_kind() {
    let config = |entries: &str| format!("profiles: [{{ pluginConfig: [{entries}] }}]");
    check_start(
        &config("{ name: Foo, args: {} }"),
        "profiles[0].pluginConfig[0]: plugin \"Foo\" does not exist; there are ",
    );
    check(
        &config("{ name: VolumeBinding, args: {} }, { name: VolumeBinding, args: {} }"),
        "profiles[0].pluginConfig[1]: Duplicate value: \"VolumeBinding\"",
    );
    check(
        &config("{ name: ImageLocality, args: { a: 1 } }"),
        "profiles[0].pluginConfig[0].args: plugin \"ImageLocality\" takes no args",
    );
    check(
        &config("{ name: NodeAffinity, args: { kind: VolumeBindingArgs } }"),
        "profiles[0].pluginConfig[0].args: args for plugin NodeAffinity were not of type \
         NodeAffinityArgs.kubescheduler.config.k8s.io, got VolumeBindingArgs.kubescheduler.config.k8s.io",
    );
    check(
        &config("{ name: NodeAffinity, args: { apiVersion: kubescheduler.config.k8s.io/v1beta2 } }"),
        "profiles[0].pluginConfig[0].args.apiVersion: no kind \"NodeAffinityArgs\" is registered for version \
         \"kubescheduler.config.k8s.io/v1beta2\"",
    );
    // Arguments of a policy that is not enabled are checked all the same.
    check(
        "profiles: [{ plugins: { multiPoint: { disabled: [{ name: VolumeBinding }] } },
                      pluginConfig: [{ name: VolumeBinding, args: { bindTimeoutSeconds: -1 } }] }]",
        "profiles[0].pluginConfig[0].args.bindTimeoutSeconds: Invalid value: -1: \
         invalid BindTimeoutSeconds, should not be a negative value",
    );
}
