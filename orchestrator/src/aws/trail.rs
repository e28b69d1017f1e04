//! CloudTrail: whether there is a record of what was done with the accounts.

use aws_sdk_cloudtrail::Client;

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
