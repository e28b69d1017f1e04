//! CloudTrail: whether there is a record of what was done with the accounts.

use aws_sdk_cloudtrail::Client;
use aws_sdk_cloudtrail::types::{LookupAttribute, LookupAttributeKey};
use serde_json::Value;

use super::{Account, Refusal};

/// A trail that records this region.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    pub(crate) name: String,
    pub(crate) logging: bool,
    pub(crate) validates: bool,
}

/// The trails of the account and region.
///
/// # Errors
/// When CloudTrail refuses.
pub(crate) async fn trails(account: &Account) -> Result<Vec<Trail>, Refusal> {
    let client = Client::new(&account.config);
    let answer = client.describe_trails().send().await;
    let answer = answer.map_err(|error| Refusal::of(&error, "cloudtrail:DescribeTrails", "*"))?;
    let mut trails = Vec::new();
    for trail in answer.trail_list() {
        let name = trail.trail_arn().or(trail.name()).unwrap_or_default();
        let status = client.get_trail_status().name(name).send().await;
        let status =
            status.map_err(|error| Refusal::of(&error, "cloudtrail:GetTrailStatus", name))?;
        trails.push(Trail {
            name: trail.name().unwrap_or_default().to_owned(),
            logging: status.is_logging().unwrap_or_default(),
            validates: trail.log_file_validation_enabled().unwrap_or_default(),
        });
    }
    Ok(trails)
}

/// A volume that was taken from an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detached {
    pub(crate) volume: String,
    /// RFC 3339, UTC.
    pub(crate) at: String,
    pub(crate) by: String,
}

/// Pages of events that are looked at: CloudTrail answers twice a second, 50 events each (CloudTrail API reference,
/// LookupEvents).
const MAX_PAGES: usize = 20;

/// The volumes that were taken from an instance, the last first, and whether that is all: the last of the account's
/// detachments are looked at. CloudTrail knows 90 days, and an event about 15 minutes after it.
///
/// # Errors
/// When CloudTrail refuses.
pub(crate) async fn detached(
    account: &Account,
    instance: &str,
) -> Result<(Vec<Detached>, bool), Refusal> {
    let by_name = LookupAttribute::builder()
        .attribute_key(LookupAttributeKey::EventName)
        .attribute_value("DetachVolume")
        .build();
    let client = Client::new(&account.config);
    let request = client
        .lookup_events()
        .set_lookup_attributes(by_name.ok().map(|by_name| vec![by_name]));
    let mut pages = request.into_paginator().send();
    let mut found = Vec::new();
    for _ in 0..MAX_PAGES {
        let Some(page) = pages.next().await else {
            return Ok((found, true));
        };
        let page = page.map_err(|error| Refusal::of(&error, "cloudtrail:LookupEvents", "*"))?;
        let events = page
            .events()
            .iter()
            .filter_map(|event| event.cloud_trail_event());
        found.extend(events.filter_map(|event| detachment(event, instance)));
    }
    Ok((found, pages.next().await.is_none()))
}

/// What an event says, if it is the detachment of a volume from this instance. The request need not name the instance, the
/// answer does.
fn detachment(event: &str, instance: &str) -> Option<Detached> {
    let event: Value = serde_json::from_str(event).ok()?;
    let text = |place: &str| event.pointer(place).and_then(Value::as_str);
    let meant = text("/eventName") == Some("DetachVolume")
        && text("/responseElements/instanceId") == Some(instance);
    if !meant {
        return None;
    }
    Some(Detached {
        volume: text("/responseElements/volumeId")?.to_owned(),
        at: text("/eventTime")?.to_owned(),
        by: text("/userIdentity/arn").unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_detachment_from_this_instance_counts() {
        let event = r#"{"eventName":"DetachVolume","eventTime":"2026-01-02T03:04:05Z","userIdentity":{"arn":"arn:aws:iam::1:user/m"},
            "requestParameters":{"volumeId":"vol-1"},"responseElements":{"volumeId":"vol-1","instanceId":"i-1"}}"#;
        let found = detachment(event, "i-1").unwrap();
        assert_eq!(
            (found.volume.as_str(), found.by.as_str()),
            ("vol-1", "arn:aws:iam::1:user/m")
        );
        assert_eq!(detachment(event, "i-2"), None);
        assert_eq!(detachment(&event.replace("Detach", "Attach"), "i-1"), None);
        // A refused request has no answer.
        assert_eq!(
            detachment(
                r#"{"eventName":"DetachVolume","responseElements":null}"#,
                "i-1"
            ),
            None
        );
        assert_eq!(detachment("not JSON", "i-1"), None);
    }
}
