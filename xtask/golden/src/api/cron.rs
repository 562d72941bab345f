//! Family `cron`: schedules.

use jiff::Timestamp;
use longshore_core::cron::Schedule;
use serde_json::{Map, Value, json};

use super::read;

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    let schedule = match Schedule::parse(input["spec"].as_str().unwrap_or_default()) {
        Ok(schedule) => schedule,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let starts: Vec<Timestamp> = read(&input["starts"]);
    let next: Map<String, Value> =
        starts.into_iter().map(|start| (start.to_string(), four_from(&schedule, start))).collect();
    json!({ "next": next })
}

/// The next four times; `never` ends the list.
fn four_from(schedule: &Schedule, start: Timestamp) -> Value {
    let (mut times, mut last) = (Vec::new(), start);
    while times.len() < 4 {
        match schedule.next(last) {
            Some(time) => {
                times.push(time.to_string());
                last = time;
            }
            None => {
                times.push("never".to_owned());
                break;
            }
        }
    }
    json!(times)
}
