//! ListInventoryEntries: the packages that an instance has told, where its inventory is on.

use serde_json::{Value, json};

use super::super::call::Call;
use super::super::refusal::Refusal;
use super::State;
use super::paging::page;

impl State {
    pub(super) fn list_inventory(&self, call: &Call, input: &Value) -> Result<Value, Refusal> {
        let id = input["InstanceId"].as_str().unwrap_or_default();
        let kind = input["TypeName"].as_str().unwrap_or_default();
        if kind != "AWS:Application" {
            let message = format!("this rig has no inventory of the type {kind}");
            return Err(Refusal::new("InvalidTypeNameException", message));
        }
        let key = (call.account.clone(), id.to_string());
        let here = |instance: &&super::Instance| instance.region == call.region;
        let instance = self.instances.get(&key).filter(here);
        let packages = instance.map(|it| it.packages.clone()).unwrap_or_default();
        let told = !packages.is_empty();
        let filters = input["Filters"].as_array().cloned().unwrap_or_default();
        let mut found = Vec::new();
        for package in packages {
            let entry: Value = package
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.clone())))
                .collect::<serde_json::Map<_, _>>()
                .into();
            let mut meant = true;
            for filter in &filters {
                meant &= fits(&entry, filter)?;
            }
            if meant {
                found.push(entry);
            }
        }
        let (found, next) = page(found, input, (1, 50), 50)?;
        let mut answer =
            json!({"InstanceId": id, "TypeName": kind, "SchemaVersion": "1.1", "Entries": found});
        if told {
            answer["CaptureTime"] = "2026-01-01T00:00:00Z".into();
        }
        if let Some(next) = next {
            answer["NextToken"] = next.into();
        }
        Ok(answer)
    }
}

fn fits(entry: &Value, filter: &Value) -> Result<bool, Refusal> {
    let wrong = |what: &str| Refusal::new("InvalidFilter", what);
    let key = filter["Key"].as_str().unwrap_or_default();
    let name = key
        .strip_prefix("AWS:Application.")
        .ok_or_else(|| wrong(key))?;
    let value = entry[name].as_str().unwrap_or_default();
    let mut values = filter["Values"].as_array().into_iter().flatten();
    match filter["Type"].as_str() {
        None | Some("Equal") => Ok(values.any(|it| it == value)),
        Some("BeginWith") => {
            Ok(values.any(|it| it.as_str().is_some_and(|it| value.starts_with(it))))
        }
        Some(other) => Err(wrong(other)),
    }
}
