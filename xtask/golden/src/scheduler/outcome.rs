//! What the engine makes of a case, in the shape of the case's `expect`.

use longshore_core::scheduling::{PostFiltered, Refusal};
use longshore_scheduler::{Engine, Unplaced};
use serde_json::{Map, Value, json};

use super::case::Case;

/// `by_reference`: by the slow reference, not by the engine that is used.
pub(super) fn of(case: &Case, by_reference: bool) -> Value {
    let mut engine = case.engine();
    let explained = if by_reference { engine.explain_by_reference(&case.pod) } else { engine.explain(&case.pod) };
    let explanation = match explained {
        Ok(explanation) => explanation,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let mut out = Map::new();
    if let Some((policy, refusal)) = &explanation.held {
        out.insert("preEnqueue".into(), status(policy, refusal));
    }
    if let Some((policy, refusal)) = &explanation.pre_filter {
        out.insert("preFilter".into(), status(policy, refusal));
    }
    if explanation.nominated {
        out.insert("nominatedShortcut".into(), true.into());
    }
    let feasible = explanation.feasible.iter();
    out.insert("feasible".into(), feasible.clone().map(|node| node.node.as_str()).collect());
    let refused = explanation.refused.iter().map(|it| (it.node.clone(), status(&it.policy, &it.refusal)));
    out.insert("infeasible".into(), Value::Object(refused.collect()));
    let scores = feasible.clone().map(|node| {
        let scores = node.scores.iter().map(|score| (score.policy.clone(), score.score.into()));
        (node.node.clone(), Value::Object(scores.collect()))
    });
    out.insert("scores".into(), Value::Object(scores.collect()));
    out.insert("total".into(), Value::Object(feasible.map(|node| (node.node.clone(), node.total.into())).collect()));
    out.insert("best".into(), explanation.best.iter().map(String::as_str).collect());
    let preemption = match engine.decide(&case.pod) {
        Err(Unplaced::Refused(diagnosis)) => {
            let found = engine.post_filter_every_way(&case.pod, &diagnosis);
            preemption(&engine, &found)
        }
        _ => Value::Null,
    };
    out.insert("preemption".into(), preemption);
    Value::Object(out)
}

fn status(policy: &str, refusal: &Refusal) -> Value {
    let mut reasons: Vec<&str> = refusal.reasons.iter().map(|reason| reason.as_str()).collect();
    reasons.sort_unstable();
    json!({ "plugin": policy, "code": refusal.code.as_str(), "reasons": reasons })
}

fn preemption(engine: &Engine, found: &PostFiltered) -> Value {
    let name = |node| engine.cluster().name(node);
    let victims = |pods: &[std::sync::Arc<longshore_core::api::pod::Pod>]| -> Value {
        pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap_or_default()).collect()
    };
    let mut equal: Vec<&str> = found.equal.iter().map(|node| name(*node)).collect();
    equal.sort_unstable();
    let candidates = found.found.iter().map(|way| {
        let way_json = json!({ "victims": victims(&way.victims), "numPDBViolations": way.violations });
        (name(way.node).to_owned(), way_json)
    });
    let mut out = json!({
        "nominated": found.nomination.as_ref().map(|way| name(way.node)),
        "nominatedAny": equal,
        "victims": found.nomination.as_ref().map_or_else(|| json!([]), |way| victims(&way.victims)),
        "candidates": Value::Object(candidates.collect()),
    });
    // Upstream's policies say nothing if the pod was refused beforehand.
    if found.nomination.is_none() && !found.message.is_empty() {
        out["message"] = found.message.as_str().into();
    }
    out
}
