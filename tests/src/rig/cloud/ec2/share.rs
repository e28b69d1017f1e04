//! Snapshots that other accounts may use, and copies.

use super::super::call::Call;
use super::super::form::Form;
use super::super::refusal::{Answer, Refusal};
use super::launch::VolumeKey;
use super::snapshots::{COPY_VOLUME, Snapshot, Snapshots, blank, dry_run};
use super::{Ec2State, xml};

/// How EC2 tells, in the end, of a key that was no use.
const WRONG_KEY: &str = "Given key ID is not accessible";

impl Snapshots {
    pub(super) fn modify_attribute(&mut self, call: &Call, form: &Form) -> Answer {
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        let direct = [form.list("UserId"), form.list("UserGroup")].concat();
        match form.get("OperationType") {
            Some("add") => add.extend(direct),
            Some("remove") => remove.extend(direct),
            _ => {}
        }
        for (list, name) in [(&mut add, "Add"), (&mut remove, "Remove")] {
            for item in form.items(&format!("CreateVolumePermission.{name}")) {
                let get = |field: &str| form.get(&format!("{item}.{field}"));
                list.extend(get("UserId").or(get("Group")).map(str::to_string));
            }
        }
        if add.is_empty() && remove.is_empty() {
            let message = "no account to add or to remove";
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        let snapshot = self.own(call, form.get("SnapshotId").unwrap_or_default())?;
        let refused = match snapshot.key {
            _ if add.is_empty() => None,
            VolumeKey::Default => Some("Encrypted snapshots with EBS default key cannot be shared"),
            VolumeKey::Customer(_) if add.iter().any(|who| who == "all") => {
                Some("Encrypted snapshots cannot be public")
            }
            _ => None,
        };
        if let Some(message) = refused {
            return Err(Refusal::new("OperationNotPermitted", message));
        }
        dry_run(form)?;
        snapshot.shared.extend(add);
        snapshot.shared.retain(|who| !remove.contains(who));
        xml::done("ModifySnapshotAttribute", "<return>true</return>")
    }

    pub(super) fn describe_attribute(&mut self, call: &Call, form: &Form) -> Answer {
        let snapshot = self.own(call, form.get("SnapshotId").unwrap_or_default())?;
        let who = snapshot.shared.iter().map(|who| match who.as_str() {
            "all" => xml::element("group", who),
            _ => xml::element("userId", who),
        });
        let inner =
            xml::element("snapshotId", &snapshot.id) + &xml::set("createVolumePermission", who);
        xml::done("DescribeSnapshotAttribute", &inner)
    }

    /// The snapshot to copy, from whichever region it is in.
    fn to_copy(&self, call: &Call, form: &Form) -> Result<Snapshot, Refusal> {
        let named = form.get("SourceSnapshotId").unwrap_or_default();
        let id = named.rsplit('/').next().unwrap_or(named);
        let region = form.get("SourceRegion").unwrap_or_default();
        let found = self
            .all
            .iter()
            .find(|it| it.id == id && it.region == region && it.visible_to(&call.account));
        let Some(source) = found else {
            let message = format!("The snapshot '{id}' does not exist.");
            return Err(Refusal::new("InvalidSnapshot.NotFound", message));
        };
        if source.state() != "completed" {
            let message = format!("The snapshot '{id}' is not in the state completed");
            return Err(Refusal::new("IncorrectState", message));
        }
        Ok(source.clone())
    }
}

impl Ec2State {
    /// The call succeeds whatever the key: whether it is of use shows when the copy ends.
    pub(super) fn copy_snapshot(&self, call: &Call, form: &Form) -> Answer {
        let source = self.snapshots().to_copy(call, form)?;
        let encrypted = source.key != VolumeKey::None || form.is_true("Encrypted");
        let key = match form.get("KmsKeyId") {
            Some(_) if !encrypted => {
                let message = "The parameter KmsKeyId requires the parameter Encrypted to be set.";
                return Err(Refusal::new("InvalidParameterDependency", message));
            }
            None if !encrypted => VolumeKey::None,
            None | Some("alias/aws/ebs") => VolumeKey::Default,
            Some(key) => VolumeKey::Customer(key.into()),
        };
        dry_run(form)?;
        let both = [&source.key, &key];
        let usable = both.iter().all(|key| self.may_use(call, key));
        let like = Snapshot {
            volume: COPY_VOLUME.into(),
            size: source.size,
            key,
            source: Some(source.id),
            tags: form.tags("snapshot"),
            failure: (!usable).then(|| WRONG_KEY.into()),
            ..blank(form)
        };
        let copy = self.snapshots().add(call, like);
        let inner = xml::element("snapshotId", &copy.id) + &xml::tags(&copy.tags);
        xml::done("CopySnapshot", &inner)
    }

    /// Whether the caller may use a key: it must be there, and the caller's or granted.
    fn may_use(&self, call: &Call, key: &VolumeKey) -> bool {
        let VolumeKey::Customer(key) = key else {
            return true;
        };
        let owner = match key.split(':').nth(4) {
            Some(owner) => owner.to_string(),
            None => call.account.clone(),
        };
        let grant = (key.clone(), call.account.clone());
        let granted = owner == call.account || self.snapshots().grants.contains(&grant);
        granted && self.has_key(&owner, &call.region, key)
    }
}
