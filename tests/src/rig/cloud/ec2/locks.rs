//! Locks of snapshots.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::call::Call;
use super::super::form::Form;
use super::super::refusal::{Answer, Refusal};
use super::snapshots::{Snapshot, Snapshots, dry_run, page};
use super::xml;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A lock of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Else anyone with the right may unlock it.
    pub compliance: bool,
    /// In days, when it was asked for as such.
    pub days: Option<u32>,
    pub created: SystemTime,
    pub expires: SystemTime,
    /// Hours, and the end of the time in which a lock in compliance mode may still be taken off.
    pub cool_off: Option<(u32, SystemTime)>,
}

impl Lock {
    /// Whether it keeps the snapshot from being deleted.
    pub fn holds(&self) -> bool {
        SystemTime::now() < self.expires
    }

    /// Whether no one can take it off.
    fn is_fixed(&self) -> bool {
        let cooling = |(_, end): (u32, SystemTime)| SystemTime::now() < end;
        self.compliance && self.holds() && !self.cool_off.is_some_and(cooling)
    }

    /// As EC2 calls its state.
    pub fn state(&self) -> &'static str {
        match (self.holds(), self.compliance, self.is_fixed()) {
            (false, _, _) => "expired",
            (true, false, _) => "governance",
            (true, true, true) => "compliance",
            (true, true, false) => "compliance-cooloff",
        }
    }

    fn read(form: &Form) -> Result<Self, Refusal> {
        let wrong = |what: &str| Refusal::new("InvalidParameterValue", what);
        let number = |name: &str, most: u32| match form.get(name).map(str::parse::<u32>) {
            None => Ok(None),
            Some(Ok(number)) if (1..=most).contains(&number) => Ok(Some(number)),
            Some(_) => Err(wrong(&format!("{name} is between 1 and {most}"))),
        };
        let compliance = match form.get("LockMode") {
            Some("compliance") => true,
            Some("governance") => false,
            _ => return Err(wrong("LockMode is governance or compliance")),
        };
        let now = SystemTime::now();
        let (days, hours) = (
            number("LockDuration", 36_500)?,
            number("CoolOffPeriod", 72)?,
        );
        if hours.is_some() && !compliance {
            let message = "CoolOffPeriod is for compliance mode only";
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        let expires = match (days, form.get("ExpirationDate")) {
            (Some(days), None) => now + DAY * days,
            (None, Some(date)) => {
                let date = OffsetDateTime::parse(date, &Rfc3339);
                SystemTime::from(date.map_err(|_| wrong("ExpirationDate is no date"))?)
            }
            _ => {
                let message = "either LockDuration or ExpirationDate";
                return Err(Refusal::new("InvalidParameterCombination", message));
            }
        };
        if expires < now + DAY - Duration::from_secs(60) {
            return Err(wrong("the lock lasts at least a day"));
        }
        let cool_off = hours.map(|hours| (hours, now + Duration::from_secs(3600) * hours));
        Ok(Self {
            compliance,
            days,
            created: now,
            expires,
            cool_off,
        })
    }

    fn describe(&self, snapshot: &Snapshot) -> String {
        let mut text = xml::element("snapshotId", &snapshot.id)
            + &xml::element("ownerId", &snapshot.account)
            + &xml::element("lockState", self.state())
            + &xml::element("lockCreatedOn", &xml::date(self.created))
            + &xml::element("lockDurationStartTime", &xml::date(self.created))
            + &xml::element("lockExpiresOn", &xml::date(self.expires));
        if let Some(days) = self.days {
            text += &xml::element("lockDuration", &days.to_string());
        }
        if let Some((hours, end)) = self.cool_off {
            text += &xml::element("coolOffPeriod", &hours.to_string());
            text += &xml::element("coolOffPeriodExpiresOn", &xml::date(end));
        }
        text
    }
}

impl Snapshots {
    pub(super) fn lock(&mut self, call: &Call, form: &Form) -> Answer {
        let lock = Lock::read(form)?;
        let snapshot = self.own(call, form.get("SnapshotId").unwrap_or_default())?;
        let shortens =
            |old: &Lock| old.is_fixed() && (!lock.compliance || lock.expires < old.expires);
        if snapshot.lock.as_ref().is_some_and(shortens) {
            let message = "A lock in compliance mode can only be extended";
            return Err(Refusal::new("OperationNotPermitted", message));
        }
        dry_run(form)?;
        snapshot.lock = Some(lock.clone());
        xml::done("LockSnapshot", &lock.describe(snapshot))
    }

    pub(super) fn unlock(&mut self, call: &Call, form: &Form) -> Answer {
        let snapshot = self.own(call, form.get("SnapshotId").unwrap_or_default())?;
        if snapshot.lock.as_ref().is_none_or(Lock::is_fixed) {
            let message = "The snapshot is not locked, or in compliance mode";
            return Err(Refusal::new("OperationNotPermitted", message));
        }
        dry_run(form)?;
        snapshot.lock = None;
        let inner = xml::element("snapshotId", &snapshot.id);
        xml::done("UnlockSnapshot", &inner)
    }

    pub(super) fn describe_locked(&mut self, call: &Call, form: &Form) -> Answer {
        dry_run(form)?;
        let ids = form.list("SnapshotId");
        for id in &ids {
            self.own(call, id)?;
        }
        let mut found = Vec::new();
        for it in &self.all {
            let own = it.account == call.account && it.region == call.region;
            let Some(lock) = it.lock.as_ref().filter(|_| own) else {
                continue;
            };
            let meant = ids.is_empty() || ids.contains(&it.id);
            let states = form.filters();
            let mut states = states.iter().filter(|(name, _)| name == "lock-state");
            if meant && states.all(|(_, values)| values.iter().any(|it| it == lock.state())) {
                found.push(lock.describe(it));
            }
        }
        let (found, next) = page(found, form)?;
        xml::done(
            "DescribeLockedSnapshots",
            &(xml::set("snapshotSet", found) + &next),
        )
    }
}
