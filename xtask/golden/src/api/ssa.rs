//! Family `ssa`: server-side apply and the tracking of ownership.

use jiff::Timestamp;
use longshore_core::apply::fields::Set;
use longshore_core::apply::{ApplyError, FieldManager, ignore_times_of_managed_fields};
use longshore_core::decode::{FieldValidation, decode_value};
use longshore_core::kind::{AnyObject, KindType};
use serde_json::{Map, Value, json};

use super::kinds;

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let Some(kind) = kinds::find(text("apiVersion"), text("kind")) else {
        return json!({ "error": format!("no kind {} {}", input["apiVersion"], input["kind"]) });
    };
    let mut case =
        Case { kind, defaulting: input["defaulting"] == true, reset_status: input["resetStatus"] == true, live: None };
    let steps = input["steps"].as_array().into_iter().flatten().enumerate();
    let steps: Vec<Value> = steps.map(|(index, step)| case.step(index, step)).collect();
    json!({ "steps": steps })
}

struct Case {
    kind: &'static KindType,
    defaulting: bool,
    reset_status: bool,
    live: Option<Box<dyn AnyObject>>,
}

impl Case {
    fn step(&mut self, index: usize, step: &Value) -> Value {
        let subresource = match step["subresource"].as_str() {
            Some("status") => "status",
            _ => "",
        };
        let reset = match (self.reset_status, subresource) {
            (false, _) => Set::default(),
            (true, "") => Set::of_fields(&[&["status"]]),
            (true, _) => Set::of_fields(&[&["spec"]]),
        };
        let manager = FieldManager::new(self.kind, subresource, reset).with_defaults(self.defaulting);
        let name = step["manager"].as_str().unwrap_or_default();
        let now =
            Timestamp::from_second(1_577_836_800 + 60 * i64::try_from(index).unwrap_or_default()).unwrap_or_default();
        let mut out = Map::new();
        let mut new = if step["op"] == "apply" {
            let force = step["force"] == true;
            match manager.apply(self.live.as_deref(), &step["object"], name, force, now) {
                Ok(new) => new,
                Err(error) => return failed(&error),
            }
        } else {
            let mut sent = step["object"].clone();
            if let Some(edits) = step["set"].as_array() {
                sent = self.live.as_ref().map_or(Value::Null, |live| live.to_value());
                for edit in edits {
                    let path: Vec<String> =
                        edit[0].as_str().unwrap_or_default().split('.').map(|part| part.replace('~', ".")).collect();
                    set(&mut sent, &path, &edit[1]);
                }
                out.insert("sent".to_owned(), sent.clone());
            }
            let mut new = match decode_value(self.kind, sent, FieldValidation::Ignore) {
                Ok(decoded) => decoded.object,
                Err(error) => return json!({ "error": error.to_string() }),
            };
            if self.defaulting {
                new.set_defaults();
            }
            manager.update(self.live.as_deref(), &mut *new, name, now);
            new
        };
        if let Some(live) = &self.live {
            ignore_times_of_managed_fields(&**live, &mut *new);
        }
        out.insert("object".to_owned(), new.to_value());
        self.live = Some(new);
        Value::Object(out)
    }
}

fn failed(error: &ApplyError) -> Value {
    let message = error.to_string();
    let status = |code: u16, reason: &str| json!({ "code": code, "message": message, "metadata": {}, "reason": reason, "status": "Failure" });
    match error {
        ApplyError::Internal(_) => json!({ "error": message }),
        ApplyError::BadRequest(_) => json!({ "error": message, "status": status(400, "BadRequest") }),
        ApplyError::Conflict(conflicts) => {
            let mut causes = conflicts.causes();
            causes.sort();
            let cause = |(field, message): (String, String)| json!({ "field": field, "message": message, "reason": "FieldManagerConflict" });
            let mut status = status(409, "Conflict");
            status["details"] = json!({ "causes": causes.into_iter().map(cause).collect::<Vec<_>>() });
            json!({ "error": message, "status": status })
        }
    }
}

/// Sets or deletes what stands at a path.
fn set(value: &mut Value, path: &[String], to: &Value) {
    let [first, rest @ ..] = path else {
        *value = to.clone();
        return;
    };
    let deletes = rest.is_empty() && *to == "$DEL";
    match value {
        Value::Array(items) if first == "+" => {
            items.push(Value::Null);
            if let Some(last) = items.last_mut() {
                set(last, rest, to);
            }
        }
        Value::Array(items) => {
            let Some(index) = first.parse::<usize>().ok().filter(|index| *index < items.len()) else { return };
            if deletes {
                items.remove(index);
            } else {
                set(&mut items[index], rest, to);
            }
        }
        other => {
            if !other.is_object() {
                *other = if first == "+" { json!([]) } else { json!({}) };
                if first == "+" {
                    return set(other, path, to);
                }
            }
            let Some(fields) = other.as_object_mut() else { return };
            if deletes {
                fields.shift_remove(first);
            } else {
                set(fields.entry(first.clone()).or_insert(Value::Null), rest, to);
            }
        }
    }
}
