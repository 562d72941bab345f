//! DEV
use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core, networking::v1 as net, rbac::v1 as rbac};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::kind::{Column, Kind, KindType, Subresource, AnyObject, KindInfo, Described};
use longshore_core::schema::{self, Schema};
use longshore_core::validation::ErrorList;
use longshore_core::api::*;
use schemars::JsonSchema;
use serde::{Serialize, Deserialize};
use serde_json::{Value, json, Map};
use jiff::Timestamp;

macro_rules! raw { ($t:ident, $k:literal, $v:ident) => {
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename = $k, rename_all = "camelCase")]
pub struct $t { #[serde(default)] api_version: $v, #[serde(default)] metadata: ObjectMeta, #[serde(flatten)] rest: Map<String, Value> }
impl JsonSchema for $t { fn schema_name() -> std::borrow::Cow<'static, str> { $k.into() } fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema { full($k) } }
impl kube_core::Resource for $t { type DynamicType = (); type Scope = k8s_openapi::NamespaceResourceScope;
 fn kind(_: &()) -> std::borrow::Cow<'_, str> { $k.into() } fn group(_: &()) -> std::borrow::Cow<'_, str> { "".into() } fn version(_: &()) -> std::borrow::Cow<'_, str> { "v1".into() } fn plural(_: &()) -> std::borrow::Cow<'_, str> { "x".into() }
 fn meta(&self) -> &ObjectMeta { &self.metadata } fn meta_mut(&mut self) -> &mut ObjectMeta { &mut self.metadata } }
impl Described for $t { const INFO: KindInfo = KindInfo { group: if stringify!($v).len() > 2 { "apps" } else { "" }, version: "v1", kind: $k, plural: "x", singular: "x", short_names: &[], categories: &[], namespaced: true, subresources: &[] }; }
impl Kind for $t { fn validate(&self) -> ErrorList { vec![] } fn validate_update(&self, _: &Self, _: Option<Subresource>) -> ErrorList { vec![] } fn columns() -> &'static [Column] { &[] } fn row(&self, _: Timestamp) -> Vec<Value> { vec![] } fn set_defaults(&mut self) { if $k == "Pod" { poddefaults(&mut self.rest); } } }
}}
raw!(XPod, "Pod", V1); raw!(XDeployment, "Deployment", AppsV1); raw!(XConfigMap, "ConfigMap", V1); raw!(XService, "Service", V1); raw!(XNode, "Node", V1); raw!(XSts, "StatefulSet", AppsV1); raw!(XNamespace, "Namespace", V1);
raw!(XSA, "ServiceAccount", V1); raw!(XRole, "Role", V1); raw!(XCron, "CronJob", V1); raw!(XDs, "DaemonSet", AppsV1);

fn gen_<T: JsonSchema>() -> Value { schemars::generate::SchemaSettings::default().into_generator().into_root_schema_for::<T>().to_value() }
fn full(kind: &str) -> schemars::Schema {
    let mut v = match kind { "Pod" => gen_::<core::Pod>(), "Deployment" => gen_::<apps::Deployment>(), "ConfigMap" => gen_::<core::ConfigMap>(), "Service" => gen_::<core::Service>(), "Node" => gen_::<core::Node>(), "StatefulSet" => gen_::<apps::StatefulSet>(), "Namespace" => gen_::<core::Namespace>(), "ServiceAccount" => gen_::<core::ServiceAccount>(), "Role" => gen_::<rbac::Role>(), "CronJob" => gen_::<batch::CronJob>(), "DaemonSet" => gen_::<apps::DaemonSet>(), "Ingress" => gen_::<net::Ingress>(), _ => unreachable!() };
    let ov: &[(&str, &str, Value)] = &[
      ("PodSpec","containers", m("name","name","merge")), ("PodSpec","initContainers", m("name","name","merge")), ("PodSpec","ephemeralContainers", m("name","name","merge")),
      ("PodSpec","volumes", m("name","name","merge,retainKeys")), ("PodSpec","hostAliases", m("ip","ip","merge")), ("PodSpec","imagePullSecrets", m("name","name","merge")),
      ("PodSpec","topologySpreadConstraints", m("topologyKey","topologyKey,whenUnsatisfiable","merge")), ("PodSpec","nodeSelector", json!({"x-kubernetes-map-type":"atomic"})),
      ("PodSpec","schedulingGates", m("name","name","merge")),("PodSpec","resourceClaims", m("name","name","merge,retainKeys")),
      ("Container","env", m("name","name","merge")), ("Container","ports", m("containerPort","containerPort,protocol","merge")), ("Container","volumeMounts", m("mountPath","mountPath","merge")), ("Container","volumeDevices", m("devicePath","devicePath","merge")),
      ("ContainerPort","protocol", json!({"default":"TCP"})), ("ServicePort","protocol", json!({"default":"TCP"})),
      ("ServiceSpec","ports", m("port","port,protocol","merge")), ("PodStatus","conditions", m("type","type","merge")), ("PodStatus","podIPs", m("ip","ip","merge")),
      ("DeploymentStatus","conditions", m("type","type","merge")), ("DeploymentSpec","strategy", json!({"x-kubernetes-patch-strategy":"retainKeys"})),
      ("NodeStatus","conditions", m("type","type","merge")), ("NodeStatus","addresses", m("type","type","merge")), ("NodeSpec","podCIDRs", json!({"x-kubernetes-patch-strategy":"merge","x-kubernetes-list-type":"set"})),
      ("ServiceAccount","secrets", m("name","name","merge")),
      ("ServiceSpec","selector", json!({"x-kubernetes-map-type":"atomic"})),
    ];
    for d in ["LocalObjectReference","ObjectReference","ConfigMapKeySelector","SecretKeySelector","ObjectFieldSelector","ResourceFieldSelector","NodeSelector","NodeSelectorTerm","TypedLocalObjectReference"] { for (k, s) in v["$defs"].as_object_mut().unwrap() { if k.rsplit('.').next()==Some(d) { s["x-kubernetes-map-type"]=json!("atomic"); } } }
    for (st, f, ext) in ov {
        for (k, s) in v["$defs"].as_object_mut().unwrap() { if k.rsplit('.').next()==Some(st) { s["properties"][*f].as_object_mut().unwrap().extend(ext.as_object().unwrap().clone()); } }
        if *st == kind { if let Some(s) = v["properties"][*f].as_object_mut() { s.extend(ext.as_object().unwrap().clone()); } }
    }
    schemars::Schema::try_from(v).unwrap()
}
fn m(k: &str, keys: &str, strategy: &str) -> Value { json!({"x-kubernetes-patch-merge-key": k, "x-kubernetes-patch-strategy": strategy, "x-kubernetes-list-type":"map","x-kubernetes-list-map-keys": keys.split(',').collect::<Vec<_>>()}) }
fn ent<'a>(v: &'a mut Value, k: &str, d: Value) -> &'a mut Value { if !v.is_object() { *v = json!({}); } v.as_object_mut().unwrap().entry(k).or_insert(d) }
fn podspec(spec: &mut Value) { ent(spec, "containers", Value::Null); for l in ["containers"] { if let Some(cs) = spec[l].as_array_mut() { for c in cs { ent(c, "resources", json!({})); } } } 
  if let Some(vs) = spec.get_mut("volumes").and_then(Value::as_array_mut) { for v in vs { let _ = v; } } }
fn fix(kind: &str, v: &mut Value) {
    for k in ["data"] { if v.get(k) == Some(&json!({})) { v.as_object_mut().unwrap().remove(k); } }
    match kind {
        "Deployment" | "StatefulSet" => { let spec = ent(v, "spec", json!({})); ent(spec, "selector", Value::Null); 
            if kind == "Deployment" { ent(spec, "strategy", json!({})); } else { ent(spec, "updateStrategy", json!({})); ent(spec, "serviceName", json!("")); spec.as_object_mut().unwrap().retain(|k, v| k != "serviceName" || v != ""); 
              if let Some(t) = spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut) { for t in t { ent(ent(t, "spec", json!({})), "resources", json!({})); ent(t, "status", json!({})); } } }
            let t = ent(spec, "template", json!({})); ent(t, "metadata", json!({})); podspec(ent(t, "spec", json!({}))); let st = ent(v, "status", json!({})); if kind == "StatefulSet" { ent(st, "replicas", json!(0)); ent(st, "availableReplicas", json!(0)); }
            if let Some(cs) = st.get_mut("conditions").and_then(Value::as_array_mut) { for c in cs { ent(c, "lastTransitionTime", Value::Null); ent(c, "lastUpdateTime", Value::Null); } } }
        "Pod" => { podspec(ent(v, "spec", json!({}))); ent(v, "status", json!({})); }
        _ => {}
    }
}
fn poddefaults(rest: &mut Map<String, Value>) {
    let Some(spec) = rest.get_mut("spec") else { return };
    for (k, d) in [("dnsPolicy", json!("ClusterFirst")), ("enableServiceLinks", json!(true)), ("restartPolicy", json!("Always")), ("schedulerName", json!("default-scheduler")), ("securityContext", json!({})), ("terminationGracePeriodSeconds", json!(30))] { ent(spec, k, d); }
    if let Some(cs) = spec["containers"].as_array_mut() { for c in cs { 
        for (k, d) in [("imagePullPolicy", json!("Always")), ("terminationMessagePath", json!("/dev/termination-log")), ("terminationMessagePolicy", json!("File"))] { ent(c, k, d); }
        if let Some(ps) = c.get_mut("ports").and_then(Value::as_array_mut) { for p in ps { ent(p, "protocol", json!("TCP")); } } } }
    if let Some(vs) = spec.get_mut("volumes").and_then(Value::as_array_mut) { for v in vs { if let Some(h) = v.get_mut("hostPath") { ent(h, "type", json!("")); } if let Some(h) = v.get_mut("configMap") { ent(h, "defaultMode", json!(420)); } } }
}
static POD: KindType = KindType { from_value: |mut v| { fix("Pod", &mut v); Ok(Box::new(serde_json::from_value::<XPod>(v)?)) }, info: XPod::INFO, from_slice: |_| unreachable!(), columns: XPod::columns, selectable_fields: XPod::selectable_fields, schema: || full("Pod") };
static DEP: KindType = KindType { from_value: |mut v| { fix("Deployment", &mut v); Ok(Box::new(serde_json::from_value::<XDeployment>(v)?)) }, info: XDeployment::INFO, from_slice: |_| unreachable!(), columns: XPod::columns, selectable_fields: XPod::selectable_fields, schema: || full("Deployment") };
static CM: KindType = KindType { from_value: |mut v| { fix("ConfigMap", &mut v); Ok(Box::new(serde_json::from_value::<XConfigMap>(v)?)) }, info: XConfigMap::INFO, from_slice: |_| unreachable!(), columns: XPod::columns, selectable_fields: XPod::selectable_fields, schema: || full("ConfigMap") };
pub(crate) fn find(_v: &str, kind: &str) -> Option<&'static KindType> {
    Some(match kind { "Pod" => &POD, "Deployment" => &DEP, "ConfigMap" => &CM, "Service" => KindType::of::<XService>(), "Node" => KindType::of::<XNode>(), "StatefulSet" => KindType::of::<XSts>(), "Namespace" => KindType::of::<XNamespace>(),
     "ServiceAccount" => KindType::of::<XSA>(), "Role" => KindType::of::<XRole>(), "CronJob" => KindType::of::<XCron>(), "DaemonSet" => KindType::of::<XDs>(), _ => return None })
}
pub(crate) fn schema(kind: &str) -> Option<&'static Schema> { find("", kind).map(schema::of) }
