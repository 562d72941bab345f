//! What is enabled where, in which order and with which weight.

use super::*;

use ExtensionPoint::{Bind, Filter, PostFilter, PreBind, QueueOrder, Score};

/// Profiles, and what is at one point of each; a number is a weight other than 1.
#[track_caller]
fn check(point: ExtensionPoint, lines: &str, expected: &[&str]) {
    let profile = profile(lines);
    let found: Vec<String> = profile
        .at(point)
        .map(|enabled| match enabled.weight() {
            _ if point != Score => enabled.policy().name().to_owned(),
            1 => enabled.policy().name().to_owned(),
            weight => format!("{} {weight}", enabled.policy().name()),
        })
        .collect();
    assert_eq!(found, expected, "{lines}");
}

#[test]
fn weights_are_given_in_place_and_what_is_new_comes_last() {
    // Enabled anew without a weight, it has weight 1.
    check(
        Score,
        "plugins: { multiPoint: { enabled: [{ name: Gang }, { name: ImageLocality, weight: 9 }, { name: TaintToleration }] } }",
        &[
            "TaintToleration",
            "NodeAffinity 2",
            "NodeResourcesFit",
            "PodTopologySpread 2",
            "InterPodAffinity 2",
            "DynamicResources 2",
            "NodeResourcesBalancedAllocation",
            "ImageLocality 9",
        ],
    );
    check(ExtensionPoint::Permit, "plugins: { multiPoint: { enabled: [{ name: Gang }] } }", &["Gang"]);
    // The weight at the point itself counts, and brings the policy to the front.
    check(
        Score,
        "
plugins:
  multiPoint: { enabled: [{ name: ImageLocality, weight: 9 }], disabled: [{ name: NodeAffinity }] }
  score: { enabled: [{ name: ImageLocality, weight: 4 }, { name: InterPodAffinity }], disabled: [{ name: DynamicResources }] }",
        &[
            "ImageLocality 4",
            "InterPodAffinity",
            "TaintToleration 3",
            "NodeResourcesFit",
            "PodTopologySpread 2",
            "NodeResourcesBalancedAllocation",
        ],
    );
}

#[test]
fn everything_can_be_disabled_and_some_enabled_again() {
    let lines = "
plugins:
  multiPoint: { disabled: [{ name: '*' }], enabled: [{ name: PrioritySort }, { name: NodeName }, { name: NodeResourcesFit, weight: 5 }] }
  bind: { enabled: [{ name: DefaultBinder }] }";
    check(QueueOrder, lines, &["PrioritySort"]);
    check(Filter, lines, &["NodeName", "NodeResourcesFit"]);
    check(Score, lines, &["NodeResourcesFit 5"]);
    check(Bind, lines, &["DefaultBinder"]);
    check(PostFilter, lines, &[]);
    // Disabled and enabled at once, it is enabled, behind the others.
    let lines = "plugins: { multiPoint: { disabled: [{ name: NodeName }], enabled: [{ name: NodeName }] } }";
    assert_eq!(names(&profile(lines), Filter).last(), Some(&"NodeName"));
}

#[test]
fn a_point_can_do_without_a_policy_or_all_of_them() {
    let lines = "
plugins:
  preScore: { disabled: [{ name: '*' }] }
  score: { disabled: [{ name: '*' }] }
  postFilter: { disabled: [{ name: DefaultPreemption }] }";
    check(Score, lines, &[]);
    check(PostFilter, lines, &["DynamicResources"]);
    assert_eq!(names(&profile(lines), Filter), names(&Profile::default_scheduler(), Filter));
    let only = "plugins: { score: { disabled: [{ name: '*' }], enabled: [{ name: NodeAffinity, weight: 2 }] } }";
    check(Score, only, &["NodeAffinity 2"]);
}

#[test]
fn at_a_point_of_its_own_the_order_is_as_enabled() {
    let lines = "
plugins:
  multiPoint: { disabled: [{ name: '*' }], enabled: [{ name: PrioritySort }, { name: NodeName }, { name: NodePorts }, { name: NodeAffinity }, { name: DefaultBinder }] }
  filter: { enabled: [{ name: NodeAffinity }, { name: TaintToleration }, { name: NodeName }] }";
    // What multiPoint has too, the rest of multiPoint, the others.
    check(Filter, lines, &["NodeAffinity", "NodeName", "NodePorts", "TaintToleration"]);
    check(Score, lines, &["NodeAffinity"]);
}

#[test]
fn looking_at_the_pod_first_is_part_of_filtering() {
    let base = "multiPoint: { disabled: [{ name: '*' }], enabled: [{ name: PrioritySort }, { name: DefaultBinder }] }";
    let named = |more: &str| format!("plugins: {{ {base}, {more} }}");
    let enabled = |names: &[&str]| {
        let all: Vec<String> = names.iter().map(|name| format!("{{ name: {name} }}")).collect();
        format!("enabled: [{}]", all.join(", "))
    };
    let pre = format!("preFilter: {{ {} }}", enabled(&["NodePorts", "NodeAffinity"]));
    check(Filter, &named(&pre), &["NodePorts", "NodeAffinity"]);
    let both = format!("{pre}, filter: {{ {} }}", enabled(&["NodeAffinity", "NodeName"]));
    check(Filter, &named(&both), &["NodeAffinity", "NodeName", "NodePorts"]);
    let not = format!("{pre}, filter: {{ {}, disabled: [{{ name: NodePorts }}] }}", enabled(&["NodeName"]));
    check(Filter, &named(&not), &["NodeName", "NodeAffinity"]);
    // The order in which nodes are refused does not change by that.
    let again = "plugins: { preFilter: { enabled: [{ name: NodeResourcesFit }] } }";
    assert_eq!(names(&profile(again), Filter), names(&Profile::default_scheduler(), Filter));
    let disabled = "plugins: { preFilter: { disabled: [{ name: NodePorts }] } }";
    assert!(names(&profile(disabled), Filter).contains(&"NodePorts"));
}

#[test]
fn where_upstreams_policies_do_something_ours_may_be_named() {
    let lines = "
plugins:
  reserve: { enabled: [{ name: VolumeBinding }] }
  preBind: { enabled: [{ name: VolumeBinding }, { name: DynamicResources }] }
  preEnqueue: { enabled: [{ name: SchedulingGates }, { name: DefaultPreemption }] }";
    check(ExtensionPoint::Reserve, lines, &[]);
    check(PreBind, lines, &["VolumeBinding"]);
    check(ExtensionPoint::PreEnqueue, lines, &["SchedulingGates"]);
    // Gone long since; to do without it is no mistake.
    assert!(profile("plugins: { filter: { disabled: [{ name: EBSLimits }] } }").at(Filter).count() > 10);
}

#[test]
fn each_profile_has_its_own() {
    let configuration = read(
        "
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  pluginConfig:
  - name: NodeResourcesFit
    args: { scoringStrategy: { type: MostAllocated } }
- schedulerName: no-scoring
  plugins: { score: { disabled: [{ name: '*' }] } }
",
    )
    .unwrap();
    let found: Vec<(&str, usize)> =
        configuration.profiles.iter().map(|profile| (profile.name(), profile.at(Score).count())).collect();
    assert_eq!(found, [("default-scheduler", 8), ("packing", 8), ("no-scoring", 0)]);
}

#[test]
fn a_profile_by_hand_keeps_its_order_too() {
    let profile = Profile::default_scheduler()
        .without("NodeName")
        .without_at("NodeResourcesFit", Score)
        .with_weight(crate::policies::NodeAffinity::default(), 8);
    assert_eq!(names(&profile, Filter)[..3], ["NodeUnschedulable", "TaintToleration", "NodeAffinity"]);
    assert!(names(&profile, Filter).contains(&"NodeResourcesFit"));
    assert!(!names(&profile, Score).contains(&"NodeResourcesFit"));
    let affinity = profile.at(Score).nth(1).unwrap();
    assert_eq!((affinity.policy().name(), affinity.weight()), ("NodeAffinity", 8));
}
