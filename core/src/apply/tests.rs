use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Value, json};

use super::fields::Set;
use super::{ApplyError, FieldManager, LAST_APPLIED, ignore_times_of_managed_fields};
use crate::decode::tests::Note;
use crate::kind::{AnyObject, KindType};

fn manager() -> FieldManager {
    FieldManager::new(KindType::of::<Note>(), "", Set::default())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn note(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Note", "metadata": {"name": "n"}, "data": data})
}

fn object(value: Value) -> Box<dyn AnyObject> {
    (KindType::of::<Note>().from_value)(value).unwrap()
}

/// Manager and fields of each entry.
fn owners(object: &dyn AnyObject) -> Vec<(String, Value)> {
    let entries = object.meta().managed_fields.clone().unwrap_or_default();
    entries.into_iter().map(|entry| (entry.manager.unwrap(), entry.fields_v1.unwrap().0)).collect()
}

fn apply(live: Option<&dyn AnyObject>, data: Value, who: &str, force: bool) -> Result<Box<dyn AnyObject>, ApplyError> {
    manager().apply(live, &note(data), who, force, at(60))
}

#[test]
fn who_applies_owns_and_who_leaves_out_gives_up() {
    let live = apply(None, json!({"a": "1", "b": "1"}), "m1", false).unwrap();
    assert_eq!(owners(&*live), [("m1".into(), json!({"f:data": {"f:a": {}, "f:b": {}}}))]);
    let live = apply(Some(&*live), json!({"b": "1"}), "m2", false).unwrap();
    let mut nothing = note(json!({}));
    nothing.as_object_mut().unwrap().remove("data");
    let live = manager().apply(Some(&*live), &nothing, "m1", false, at(60)).unwrap();
    assert_eq!(live.to_value()["data"], json!({"b": "1"}), "only what nobody else owns goes");
    assert_eq!(owners(&*live).last().unwrap(), &("m2".into(), json!({"f:data": {"f:b": {}}})));
}

#[test]
fn conflicts_name_field_and_owner() {
    let mut live = object(note(json!({"a": "1"})));
    manager().update(None, &mut *live, "kubectl-edit", at(0));
    let error = apply(Some(&*live), json!({"a": "2"}), "m1", false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1: .data.a");
    let ApplyError::Conflict(conflicts) = error else { panic!("not a conflict") };
    assert_eq!(conflicts.causes(), [(".data.a".into(), "conflict with \"kubectl-edit\" using v1".into())]);
    let live = apply(Some(&*live), json!({"a": "2"}), "m1", true).unwrap();
    assert_eq!(live.to_value()["data"]["a"], "2");
    assert_eq!(owners(&*live)[1], ("kubectl-edit".into(), json!({"f:data": {}})));
}

#[test]
fn updates_move_ownership() {
    let live = apply(None, json!({"a": "1", "b": "1"}), "m1", false).unwrap();
    let mut new = object(note(json!({"a": "2", "b": "1"})));
    manager().update(Some(&*live), &mut *new, "editor", at(90));
    assert_eq!(
        owners(&*new),
        [("m1".into(), json!({"f:data": {"f:b": {}}})), ("editor".into(), json!({"f:data": {"f:a": {}}}))]
    );
    let mut same = new.clone_box();
    manager().update(Some(&*new), &mut *same, "other", at(99));
    assert!(same.equals(&*new), "writing the same owns nothing");
}

#[test]
fn an_empty_list_resets_ownership_and_the_next_apply_restores_it() {
    let live = apply(None, json!({"a": "1"}), "m1", false).unwrap();
    let mut new = live.clone_box();
    new.meta_mut().uid = Some("u".into());
    new.meta_mut().managed_fields = Some(vec![ManagedFieldsEntry::default()]);
    let mut live = live;
    live.meta_mut().uid = Some("u".into());
    manager().update(Some(&*live), &mut *new, "editor", at(90));
    assert_eq!(new.meta().managed_fields, None);
    let live = apply(Some(&*new), json!({"a": "1"}), "m2", false).unwrap();
    let names: Vec<String> = owners(&*live).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["m2", "before-first-apply"]);
}

#[test]
fn old_updates_are_folded_together() {
    let mut live = object(note(json!({})));
    for index in 0..12 {
        let mut value = live.to_value();
        value["data"][format!("k{index}")] = json!("1");
        let mut new = object(value);
        manager().update(Some(&*live), &mut *new, &format!("u{index:02}"), at(index));
        live = new;
    }
    let owners = owners(&*live);
    assert_eq!(owners.len(), 10);
    assert_eq!(owners[0].0, "ancient-changes");
    assert!(owners[0].1["f:data"].get("f:k0").is_some() && owners[0].1["f:data"].get("f:k2").is_some());
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let applied = note(json!({"a": "1"})).to_string();
    let mut live = note(json!({"a": "1"}));
    live["metadata"]["annotations"] = json!({ LAST_APPLIED: applied });
    let mut live = object(live);
    manager().update(None, &mut *live, "kubectl-client-side-apply", at(0));
    let live = manager().apply(Some(&*live), &note(json!({"a": "2"})), "kubectl", false, at(60)).unwrap();
    assert_eq!(live.to_value()["data"]["a"], "2");
    let annotation = &live.meta().annotations.as_ref().unwrap()[LAST_APPLIED];
    assert_eq!(
        annotation,
        "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"2\"},\"kind\":\"Note\",\"metadata\":{\"name\":\"n\"}}\n"
    );
}

#[test]
fn configurations_are_checked() {
    let error = |config: Value| manager().apply(None, &config, "m", false, at(0)).unwrap_err();
    let wrong = "failed to create typed patch object (/n; /v1, Kind=Note): .data.a: expected string, got &value.valueUnstructured{Value:5}";
    assert_eq!(error(note(json!({"a": 5}))).to_string(), wrong);
    let mut other = note(json!({}));
    other["apiVersion"] = json!("v2");
    assert_eq!(error(other), ApplyError::BadRequest("invalid object type: /v2, Kind=Note".into()));
    let mut twice = note(json!({}));
    twice["metadata"]["finalizers"] = json!(["a", "a"]);
    assert!(error(twice).to_string().ends_with(".metadata.finalizers: duplicate entries for key [=\"a\"]"));
}

#[test]
fn times_alone_are_no_change() {
    let live = apply(None, json!({"a": "1"}), "m1", false).unwrap();
    let mut new = live.clone_box();
    for entry in new.meta_mut().managed_fields.iter_mut().flatten() {
        entry.time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(99)));
    }
    ignore_times_of_managed_fields(&*live, &mut *new);
    assert!(new.equals(&*live));
}

#[test]
fn large_maps_take_no_quadratic_time() {
    let data: serde_json::Map<String, Value> =
        (0..10_000).rev().map(|index| (format!("k{index}"), json!("v"))).collect();
    let live = apply(None, Value::Object(data.clone()), "m1", false).unwrap();
    let live = apply(Some(&*live), Value::Object(data), "m2", false).unwrap();
    assert_eq!(owners(&*live).len(), 2);
}

#[test]
fn what_was_applied_can_be_extracted() {
    let live = apply(None, json!({"a": "1", "b": "1"}), "m1", false).unwrap();
    let live = apply(Some(&*live), json!({"c": "1"}), "m2", false).unwrap();
    assert_eq!(manager().extract(&*live, "m1").unwrap(), note(json!({"a": "1", "b": "1"})));
    assert_eq!(manager().extract(&*live, "m2").unwrap(), note(json!({"c": "1"})));
    assert_eq!(manager().extract(&*live, "m3"), None);
}

#[test]
fn a_key_left_out_stands_for_its_default() {
    let manager = FieldManager::new(KindType::of::<crate::api::Service>(), "", Set::default());
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"ports": [{"port": 80, "name": "http"}]}});
    let live = manager.apply(None, &service, "m1", false, at(0)).unwrap();
    let ports = &owners(&*live)[0].1["f:spec"]["f:ports"];
    assert_eq!(ports.as_object().unwrap().keys().collect::<Vec<_>>(), [r#"k:{"port":80,"protocol":"TCP"}"#]);
}
