//! Instances and volumes, made in the emulator so that every call about them works.

use serde_json::Value;

use super::super::super::moto::elements;
use super::super::{Cloud, REGION};
use super::{Snapshot, pair};

/// Images that the emulator knows from the start.
const WINDOWS: &str = "ami-12c6146b";
const LINUX: &str = "ami-0a887e401f7654935";

/// An instance to make.
#[derive(Clone, Debug)]
pub struct Ec2 {
    pub account: String,
    pub region: String,
    pub tags: Vec<(String, String)>,
    pub windows: bool,
    pub stopped: bool,
}

/// A volume to make and attach.
#[derive(Clone, Debug)]
pub struct Volume {
    pub account: String,
    pub instance: String,
    /// `/dev/sdf`.
    pub device: String,
    /// In GiB.
    pub size: u32,
    /// `gp3`, `st1`, ...
    pub kind: String,
    pub key: VolumeKey,
}

/// What a volume is encrypted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeKey {
    None,
    /// The account's `alias/aws/ebs`, which no one can share.
    Default,
    /// The ARN of a customer's key.
    Customer(String),
}

impl Ec2 {
    /// A running Linux instance of this account.
    pub fn new(account: &str) -> Self {
        Self {
            account: account.into(),
            region: REGION.into(),
            tags: Vec::new(),
            windows: false,
            stopped: false,
        }
    }

    /// In this region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = region.into();
        self
    }

    /// With this tag.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.push(pair(key, value));
        self
    }

    /// Of Windows.
    #[must_use]
    pub fn windows(mut self) -> Self {
        self.windows = true;
        self
    }

    /// Stopped.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.stopped = true;
        self
    }
}

impl Volume {
    /// A `gp3` volume of 8 GiB at this place of an instance.
    pub fn new(account: &str, instance: &str, device: &str, key: VolumeKey) -> Self {
        Self {
            account: account.into(),
            instance: instance.into(),
            device: device.into(),
            size: 8,
            kind: "gp3".into(),
            key,
        }
    }
}

impl Cloud {
    /// Makes a running Linux instance with these tags; returns its id.
    pub fn run_instance(&self, account: &str, tags: &[(&str, &str)]) -> String {
        let plain = Ec2::new(account);
        self.ec2(
            &tags
                .iter()
                .fold(plain, |ec2, (key, value)| ec2.tag(key, value)),
        )
    }

    /// Makes so many running Linux instances with these tags; returns their ids.
    pub fn run_instances(&self, account: &str, tags: &[(&str, &str)], count: usize) -> Vec<String> {
        let plain = Ec2::new(account);
        let ec2 = tags
            .iter()
            .fold(plain, |ec2, (key, value)| ec2.tag(key, value));
        self.launch(&ec2, count)
    }

    /// Makes an instance; returns its id.
    pub fn ec2(&self, ec2: &Ec2) -> String {
        let id = self.launch(ec2, 1).remove(0);
        if ec2.stopped {
            let form = [pair("Action", "StopInstances"), pair("InstanceId.1", &id)];
            self.ec2_ask(&ec2.region, &ec2.account, &form);
        }
        id
    }

    fn launch(&self, ec2: &Ec2, count: usize) -> Vec<String> {
        let image = if ec2.windows { WINDOWS } else { LINUX };
        let mut form = vec![
            pair("Action", "RunInstances"),
            pair("ImageId", image),
            pair("InstanceType", "m5.large"),
            pair("MinCount", &count.to_string()),
            pair("MaxCount", &count.to_string()),
        ];
        if !ec2.tags.is_empty() {
            form.push(pair("TagSpecification.1.ResourceType", "instance"));
        }
        for (number, (key, value)) in ec2.tags.iter().enumerate() {
            let tag = format!("TagSpecification.1.Tag.{}", number + 1);
            form.push((format!("{tag}.Key"), key.clone()));
            form.push((format!("{tag}.Value"), value.clone()));
        }
        let group = self.default_group(ec2);
        form.push(pair("SecurityGroupId.1", &group));
        let answer = self.ec2_ask(&ec2.region, &ec2.account, &form);
        let ids = elements(&answer, "instanceId");
        ids.iter().map(ToString::to_string).collect()
    }

    /// The group of an instance that is launched without one: the emulator gives it none.
    fn default_group(&self, ec2: &Ec2) -> String {
        let form = [
            pair("Action", "DescribeSecurityGroups"),
            pair("Filter.1.Name", "group-name"),
            pair("Filter.1.Value.1", "default"),
        ];
        let answer = self.ec2_ask(&ec2.region, &ec2.account, &form);
        elements(&answer, "groupId")[0].to_string()
    }

    /// Asks the emulator's EC2 for anything else, past the log; the answer is XML.
    ///
    /// # Panics
    /// When it refuses.
    pub fn ec2_ask(&self, region: &str, account: &str, form: &[(String, String)]) -> String {
        self.front.ec2.ask_in(region, account, form)
    }

    /// Makes a volume and attaches it; returns its id.
    pub fn volume(&self, volume: &Volume) -> String {
        let mut form = vec![
            pair("Action", "CreateVolume"),
            pair("AvailabilityZone", "us-east-1a"),
            pair("Size", &volume.size.to_string()),
            pair("VolumeType", &volume.kind),
        ];
        if volume.key != VolumeKey::None {
            form.push(pair("Encrypted", "true"));
        }
        if let VolumeKey::Customer(key) = &volume.key {
            form.push(pair("KmsKeyId", key));
        }
        let answer = self.front.ec2.ask(&volume.account, &form);
        let id = elements(&answer, "volumeId")[0].to_string();
        let form = [
            pair("Action", "AttachVolume"),
            pair("VolumeId", &id),
            pair("InstanceId", &volume.instance),
            pair("Device", &volume.device),
        ];
        self.front.ec2.ask(&volume.account, &form);
        let mut snapshots = self.front.ec2.snapshots();
        snapshots.volume_keys.insert(id.clone(), volume.key.clone());
        id
    }

    /// Makes a customer's key in an account; returns its ARN.
    pub fn key(&self, account: &str) -> String {
        let response = self.front.ec2.kms((account, REGION), "CreateKey", "{}");
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let arn = body["KeyMetadata"]["Arn"].as_str();
        arn.expect("CreateKey answers with an ARN").into()
    }

    /// Lets another account use a key for snapshots, as a key policy does.
    pub fn grant_key(&self, arn: &str, account: &str) {
        let mut snapshots = self.front.ec2.snapshots();
        snapshots.grants.insert((arn.into(), account.into()));
    }

    /// How many answers a snapshot that is made from now on is pending for: 2 unless this says otherwise.
    pub fn snapshot_polls(&self, polls: usize) {
        self.front.ec2.snapshots().polls = polls;
    }

    /// The next so many snapshots and copies end in the state `error`.
    pub fn fail_snapshots(&self, times: usize) {
        self.front.ec2.snapshots().failures = times;
    }

    /// Every snapshot of every account, without counting as an answer about them.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.front.ec2.snapshots().all.clone()
    }
}
