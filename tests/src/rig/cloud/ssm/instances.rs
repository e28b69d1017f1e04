//! DescribeInstanceInformation.

use serde_json::{Value, json};

use super::super::call::Call;
use super::super::refusal::Refusal;
use super::instance::Instance;
use super::paging::page;
use super::{State, seconds};

impl State {
    pub(super) fn describe_instances(
        &mut self,
        call: &Call,
        input: &Value,
    ) -> Result<Value, Refusal> {
        let filters = filters(input)?;
        let mut found = Vec::new();
        for instance in self.instances.values() {
            if instance.account == call.account
                && instance.region == call.region
                && matches_all(instance, &filters)?
            {
                found.push(describe(instance));
            }
        }
        let (found, next) = page(found, input, (5, 50), 10)?;
        Ok(match next {
            Some(next) => json!({"InstanceInformationList": found, "NextToken": next}),
            None => json!({"InstanceInformationList": found}),
        })
    }
}

type Filter = (String, Vec<String>);

/// Of the two kinds of filter, a call has one.
fn filters(input: &Value) -> Result<Vec<Filter>, Refusal> {
    let read = |list: &str, key: &str, values: &str| -> Vec<Filter> {
        let filters = input[list].as_array().into_iter().flatten();
        filters
            .map(|filter| {
                let values = filter[values].as_array().into_iter().flatten();
                let values = values.filter_map(Value::as_str).map(str::to_string);
                (
                    filter[key].as_str().unwrap_or_default().into(),
                    values.collect(),
                )
            })
            .collect()
    };
    let old = read("InstanceInformationFilterList", "key", "valueSet");
    let new = read("Filters", "Key", "Values");
    if !old.is_empty() && !new.is_empty() {
        return Err(Refusal::invalid(
            "InstanceInformationFilterList and Filters exclude each other",
        ));
    }
    Ok([old, new].concat())
}

fn matches_all(instance: &Instance, filters: &[Filter]) -> Result<bool, Refusal> {
    for (key, values) in filters {
        let value = match key.as_str() {
            "InstanceIds" => Some(&instance.id),
            "PingStatus" => Some(&instance.ping),
            "PlatformTypes" => Some(&instance.platform),
            "AgentVersion" => Some(&instance.agent_version),
            "tag-key" => instance.tags.keys().find(|key| values.contains(key)),
            _ => match key.strip_prefix("tag:") {
                Some(tag) => instance.tags.get(tag),
                None => {
                    let message = format!("The specified key {key} isn't valid.");
                    return Err(Refusal::new(
                        "InvalidInstanceInformationFilterValue",
                        message,
                    ));
                }
            },
        };
        if !value.is_some_and(|value| values.contains(value)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn describe(instance: &Instance) -> Value {
    json!({
        "InstanceId": instance.id, "PingStatus": instance.ping,
        "LastPingDateTime": seconds(std::time::SystemTime::now()),
        "AgentVersion": instance.agent_version, "IsLatestVersion": false, "PlatformType": instance.platform,
        "PlatformName": "Debian GNU/Linux", "PlatformVersion": "12", "ResourceType": "EC2Instance",
        "IPAddress": "10.0.0.1", "ComputerName": instance.id, "SourceId": instance.id,
        "SourceType": "AWS::EC2::Instance",
    })
}
