//! CloudTrail: events that a test has put there, found again by name. Trails are the emulator's.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::Cloud;
use super::call::Call;
use super::refusal::{Answer, Refusal, json_response};

/// Events of a page (CloudTrail API reference, LookupEvents, MaxResults).
const PAGE: usize = 50;

/// The events of all accounts, the last first.
#[derive(Default)]
pub(super) struct Trail(Mutex<Vec<(String, Value)>>);

impl Trail {
    /// `None` when the emulator answers this operation well enough.
    pub(super) fn answer(&self, call: &Call) -> Option<Answer> {
        (call.operation == "LookupEvents").then(|| self.lookup(call))
    }

    fn lookup(&self, call: &Call) -> Answer {
        let input = call.json();
        let wanted = match input["LookupAttributes"].as_array().map(Vec::as_slice) {
            None => None,
            Some([one]) if one["AttributeKey"] == "EventName" => {
                Some(one["AttributeValue"].clone())
            }
            Some(_) => {
                return Err(Refusal::new(
                    "InvalidLookupAttributesException",
                    "one attribute, EventName",
                ));
            }
        };
        let start = match input["NextToken"].as_str() {
            None => 0,
            Some(token) => token
                .parse()
                .map_err(|_| Refusal::new("InvalidNextTokenException", "no such page"))?,
        };
        let all = self.0.lock().unwrap();
        let meant = all.iter().filter(|(account, event)| {
            *account == call.account
                && wanted
                    .as_ref()
                    .is_none_or(|name| event["eventName"] == *name)
        });
        let found: Vec<Value> = meant.map(|(_, event)| listed(event)).collect();
        let page: Vec<&Value> = found.iter().skip(start).take(PAGE).collect();
        let end = start + page.len();
        let mut answer = json!({"Events": page});
        if end < found.len() {
            answer["NextToken"] = json!(end.to_string());
        }
        Ok(json_response(200, &answer))
    }
}

fn listed(event: &Value) -> Value {
    json!({"EventName": event["eventName"], "CloudTrailEvent": event.to_string()})
}

impl Cloud {
    /// Puts an event on an account's record, as CloudTrail writes it.
    pub fn trail_event(&self, account: &str, event: Value) {
        self.front
            .trail
            .0
            .lock()
            .unwrap()
            .insert(0, (account.into(), event));
    }
}
