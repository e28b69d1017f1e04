//! Snapshots: made, described, deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use super::super::call::Call;
use super::super::form::Form;
use super::super::refusal::{Answer, Refusal};
use super::launch::VolumeKey;
use super::locks::Lock;
use super::{Ec2State, xml};

/// A snapshot as it is.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub id: String,
    /// Its owner.
    pub account: String,
    pub region: String,
    /// The volume that it is of; an arbitrary one for a copy.
    pub volume: String,
    /// In GiB.
    pub size: u32,
    pub key: VolumeKey,
    /// The snapshot that it is a copy of.
    pub source: Option<String>,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    /// The accounts that may make volumes and copies of it.
    pub shared: BTreeSet<String>,
    pub lock: Option<Lock>,
    pub started: SystemTime,
    /// Why it ends in the state `error`.
    pub failure: Option<String>,
    /// So many answers about it until it ends.
    pub polls_left: usize,
    pub(super) polls: usize,
}

/// Every snapshot, and what decides over those to come.
pub(super) struct Snapshots {
    pub(super) all: Vec<Snapshot>,
    /// How many answers a snapshot is pending for.
    pub(super) polls: usize,
    /// The next so many end in the state `error`.
    pub(super) failures: usize,
    /// The keys of volumes that the test has made.
    pub(super) volume_keys: HashMap<String, VolumeKey>,
    /// The ARN of a key and an account that may use it beside its owner.
    pub(super) grants: BTreeSet<(String, String)>,
    made: usize,
}

/// The volume of every copy.
pub(super) const COPY_VOLUME: &str = "vol-ffffffff";

/// How many snapshots of a volume may be pending.
const PENDING: usize = 5;

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            polls: 2,
            failures: 0,
            volume_keys: HashMap::new(),
            grants: BTreeSet::new(),
            made: 0,
        }
    }
}

impl Snapshot {
    /// `pending`, `completed` or `error`.
    pub fn state(&self) -> &'static str {
        match (&self.failure, self.polls_left) {
            (_, 1..) => "pending",
            (Some(_), 0) => "error",
            (None, 0) => "completed",
        }
    }

    fn progress(&self) -> String {
        match self.state() {
            "completed" => "100%".into(),
            _ => format!(
                "{}%",
                99 * (self.polls - self.polls_left) / self.polls.max(1)
            ),
        }
    }

    pub(super) fn visible_to(&self, account: &str) -> bool {
        self.account == account || self.shared.contains(account)
    }

    /// What CreateSnapshots and DescribeSnapshots have in common; they call the state differently.
    fn describe(&self, state: &str) -> String {
        let encrypted = self.key != VolumeKey::None;
        let mut text = xml::element("snapshotId", &self.id)
            + &xml::element("volumeId", &self.volume)
            + &xml::element(state, self.state())
            + &xml::element("startTime", &xml::date(self.started))
            + &xml::element("progress", &self.progress())
            + &xml::element("ownerId", &self.account)
            + &xml::element("volumeSize", &self.size.to_string())
            + &xml::element("description", &self.description)
            + &xml::element("encrypted", &encrypted.to_string())
            + &xml::element("storageTier", "standard");
        let key = match &self.key {
            VolumeKey::None => None,
            VolumeKey::Default => Some(default_key(&self.region, &self.account)),
            VolumeKey::Customer(key) => Some(key.clone()),
        };
        if let Some(key) = key {
            text += &xml::element("kmsKeyId", &key);
        }
        if let (Some(failure), "error") = (&self.failure, self.state()) {
            text += &xml::element("statusMessage", failure);
        }
        text + &xml::tags(&self.tags)
    }

    fn matches(&self, name: &str, values: &[String]) -> Result<bool, Refusal> {
        let has = |value: &str| values.iter().any(|it| it == value);
        Ok(match name {
            "snapshot-id" => has(&self.id),
            "owner-id" => has(&self.account),
            "volume-id" => has(&self.volume),
            "status" => has(self.state()),
            "description" => has(&self.description),
            "encrypted" => has(&(self.key != VolumeKey::None).to_string()),
            "tag-key" => self.tags.keys().any(|key| has(key)),
            _ => match name.strip_prefix("tag:") {
                Some(tag) => self.tags.get(tag).is_some_and(|value| has(value)),
                None => {
                    let message = format!("The filter '{name}' is invalid");
                    return Err(Refusal::new("InvalidParameterValue", message));
                }
            },
        })
    }
}

impl Snapshots {
    /// Writes a snapshot down; the fields that only its maker knows come from `like`.
    pub(super) fn add(&mut self, call: &Call, like: Snapshot) -> Snapshot {
        self.made += 1;
        let mut snapshot = Snapshot {
            id: format!("snap-0{:016x}", 0xe5b0_0000_0000 + self.made),
            account: call.account.clone(),
            region: call.region.clone(),
            polls_left: self.polls,
            polls: self.polls,
            ..like
        };
        if self.failures > 0 {
            self.failures -= 1;
            let message = "An internal error has occurred";
            snapshot.failure.get_or_insert_with(|| message.into());
        }
        self.all.push(snapshot.clone());
        snapshot
    }

    /// A snapshot that the caller may see.
    pub(super) fn seen(&mut self, call: &Call, id: &str) -> Result<&mut Snapshot, Refusal> {
        let missing = || {
            let message = format!("The snapshot '{id}' does not exist.");
            Refusal::new("InvalidSnapshot.NotFound", message)
        };
        self.all
            .iter_mut()
            .find(|it| it.id == id && it.region == call.region && it.visible_to(&call.account))
            .ok_or_else(missing)
    }

    /// A snapshot of the caller's own.
    pub(super) fn own(&mut self, call: &Call, id: &str) -> Result<&mut Snapshot, Refusal> {
        let snapshot = self.seen(call, id)?;
        if snapshot.account != call.account {
            let message = format!("The snapshot '{id}' belongs to another account");
            return Err(Refusal::new("OperationNotPermitted", message));
        }
        Ok(snapshot)
    }

    pub(super) fn describe(&mut self, call: &Call, form: &Form) -> Answer {
        dry_run(form)?;
        let ids = form.list("SnapshotId");
        for id in &ids {
            self.seen(call, id)?;
        }
        let (owners, restorable) = (form.list("Owner"), form.list("RestorableBy"));
        let is = |who: &String, account: &str| {
            who == account || (who == "self" && call.account == account)
        };
        let mut found = Vec::new();
        for (place, it) in self.all.iter().enumerate() {
            let mut meant = it.region == call.region
                && it.visible_to(&call.account)
                && (ids.is_empty() || ids.contains(&it.id))
                && (owners.is_empty() || owners.iter().any(|who| is(who, &it.account)))
                && (restorable.is_empty()
                    || restorable.iter().any(|who| {
                        let who = if who == "self" { &call.account } else { who };
                        it.visible_to(who)
                    }));
            for (name, values) in form.filters() {
                meant &= it.matches(&name, &values)?;
            }
            if meant {
                found.push(place);
            }
        }
        if !ids.is_empty() && form.get("MaxResults").is_some() {
            let message = "The parameter SnapshotIds cannot be used with the parameter MaxResults";
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        let (found, next) = page(found, form)?;
        let items: Vec<String> = found
            .into_iter()
            .map(|place| {
                let snapshot = &mut self.all[place];
                snapshot.polls_left = snapshot.polls_left.saturating_sub(1);
                snapshot.describe("status")
            })
            .collect();
        xml::done(
            "DescribeSnapshots",
            &(xml::set("snapshotSet", items) + &next),
        )
    }

    pub(super) fn delete(&mut self, call: &Call, form: &Form) -> Answer {
        let id = form.get("SnapshotId").unwrap_or_default();
        let snapshot = self.own(call, id)?;
        if snapshot.lock.as_ref().is_some_and(Lock::holds) {
            let message = format!("The snapshot '{id}' is locked and can't be deleted");
            return Err(Refusal::new("SnapshotLocked", message));
        }
        dry_run(form)?;
        self.all.retain(|it| it.id != id);
        xml::done("DeleteSnapshot", "<return>true</return>")
    }

    /// `None` when a resource is the emulator's.
    pub(super) fn change_tags(&mut self, call: &Call, form: &Form) -> Option<Answer> {
        let ids = form.list("ResourceId");
        if !ids.iter().any(|id| id.starts_with("snap-")) {
            return None;
        }
        let deleting = call.operation == "DeleteTags";
        for id in &ids {
            let snapshot = match self.own(call, id) {
                Ok(snapshot) => snapshot,
                Err(refusal) => return Some(Err(refusal)),
            };
            for (key, value) in form.pairs("Tag") {
                match deleting {
                    true => snapshot.tags.remove(&key),
                    false => snapshot.tags.insert(key, value),
                };
            }
        }
        Some(xml::done(&call.operation, "<return>true</return>"))
    }

    fn check_pending(&self, volume: &Source) -> Result<(), Refusal> {
        let pending = self.all.iter();
        let pending = pending.filter(|it| it.volume == volume.id && it.state() == "pending");
        let most = match volume.kind.as_str() {
            "st1" | "sc1" => 1,
            _ => PENDING,
        };
        if pending.count() >= most {
            let message = "Maximum allowed in-progress snapshots for a single volume exceeded.";
            return Err(Refusal::new("ConcurrentSnapshotLimitExceeded", message));
        }
        Ok(())
    }
}

/// A volume that a snapshot is made of.
struct Source {
    id: String,
    device: String,
    kind: String,
    size: u32,
    key: VolumeKey,
    tags: BTreeMap<String, String>,
}

impl Ec2State {
    /// CreateSnapshot and CreateSnapshots.
    pub(super) fn create_snapshots(&self, call: &Call, form: &Form) -> Answer {
        let several = call.operation == "CreateSnapshots";
        let volumes = match several {
            true => self.volumes_of(call, form)?,
            false => vec![self.volume(call, form.get("VolumeId").unwrap_or_default())?],
        };
        let mut snapshots = self.snapshots();
        for volume in &volumes {
            snapshots.check_pending(volume)?;
        }
        dry_run(form)?;
        let copy_tags = form.get("CopyTagsFromSource") == Some("volume");
        let mut made = Vec::new();
        for volume in volumes {
            let mut tags = form.tags("snapshot");
            if copy_tags {
                tags.extend(volume.tags.clone());
            }
            let like = Snapshot {
                volume: volume.id,
                size: volume.size,
                key: volume.key,
                tags,
                ..blank(form)
            };
            made.push(snapshots.add(call, like));
        }
        let inner = match (several, made.as_slice()) {
            (false, [one]) => one.describe("status"),
            _ => xml::set("snapshotSet", made.iter().map(|it| it.describe("state"))),
        };
        xml::done(&call.operation, &inner)
    }

    /// The volumes that are attached to the instance and not left out.
    fn volumes_of(&self, call: &Call, form: &Form) -> Result<Vec<Source>, Refusal> {
        let get = |name: &str| form.get(&format!("InstanceSpecification.{name}"));
        let instance = get("InstanceId").unwrap_or_default();
        let asked = self.describe(call, "DescribeInstances", "InstanceId.1", instance);
        asked.map_err(|_| {
            let message = format!("The instance ID '{instance}' does not exist");
            Refusal::new("InvalidInstanceID.NotFound", message)
        })?;
        let attached = self.attached(call, instance);
        let left_out = form.list("InstanceSpecification.ExcludeDataVolumeId");
        let no_boot = get("ExcludeBootVolume") == Some("true");
        let mut volumes = Vec::new();
        for id in attached {
            let volume = self.volume(call, &id)?;
            let boots = ["/dev/sda1", "/dev/xvda"].contains(&volume.device.as_str());
            if !(left_out.contains(&id) || (boots && no_boot)) {
                volumes.push(volume);
            }
        }
        if volumes.is_empty() {
            let message = "no volume is left to make a snapshot of";
            return Err(Refusal::new("InvalidParameterValue", message));
        }
        Ok(volumes)
    }

    fn volume(&self, call: &Call, id: &str) -> Result<Source, Refusal> {
        let answer = self
            .describe(call, "DescribeVolumes", "VolumeId.1", id)
            .map_err(|_| {
                let message = format!("The volume '{id}' does not exist.");
                Refusal::new("InvalidVolume.NotFound", message)
            })?;
        let all = |name: &str| super::texts(&answer, name);
        let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
        let known = self.snapshots().volume_keys.get(id).cloned();
        let key = known.unwrap_or_else(|| match first("encrypted").as_str() {
            "true" => VolumeKey::Customer(first("kmsKeyId")),
            _ => VolumeKey::None,
        });
        Ok(Source {
            id: id.into(),
            device: first("device"),
            kind: first("volumeType"),
            size: first("size").parse().unwrap_or(0),
            key,
            tags: all("key").into_iter().zip(all("value")).collect(),
        })
    }
}

/// A snapshot of which nothing is known but what was asked for.
pub(super) fn blank(form: &Form) -> Snapshot {
    Snapshot {
        id: String::new(),
        account: String::new(),
        region: String::new(),
        volume: String::new(),
        size: 0,
        key: VolumeKey::None,
        source: None,
        description: form.get("Description").unwrap_or_default().into(),
        tags: BTreeMap::new(),
        shared: BTreeSet::new(),
        lock: None,
        started: SystemTime::now(),
        failure: None,
        polls_left: 0,
        polls: 0,
    }
}

/// The ARN of an account's `alias/aws/ebs`.
pub(super) fn default_key(region: &str, account: &str) -> String {
    format!("arn:aws:kms:{region}:{account}:key/00000000-0000-4000-8000-0000000000eb")
}

/// Says that all would have gone well, when only that was asked.
pub(super) fn dry_run(form: &Form) -> Result<(), Refusal> {
    if !form.is_true("DryRun") {
        return Ok(());
    }
    let message = "Request would have succeeded, but DryRun flag is set.";
    Err(Refusal {
        status: 412,
        ..Refusal::new("DryRunOperation", message)
    })
}

/// One page, as `MaxResults` and `NextToken` ask for it, and the element with the token of the next.
pub(super) fn page<T>(all: Vec<T>, form: &Form) -> Result<(Vec<T>, String), Refusal> {
    let wrong = |what: &str| Refusal::new("InvalidParameterValue", what);
    let size = form.get("MaxResults").unwrap_or("1000");
    let size: usize = size.parse().map_err(|_| wrong("MaxResults"))?;
    if !(5..=1000).contains(&size) {
        return Err(wrong("MaxResults is between 5 and 1000"));
    }
    let start = match form.get("NextToken") {
        None | Some("") => 0,
        Some(token) => token
            .strip_prefix("from-")
            .and_then(|start| start.parse().ok())
            .ok_or_else(|| Refusal::new("InvalidNextToken", "The token is invalid."))?,
    };
    let total = all.len();
    let page: Vec<T> = all.into_iter().skip(start).take(size).collect();
    let end = start + page.len();
    let next = match end < total {
        true => xml::element("nextToken", &format!("from-{end}")),
        false => String::new(),
    };
    Ok((page, next))
}
