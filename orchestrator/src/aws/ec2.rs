//! EC2: which instances there are.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::Filter;

use super::{Account, Refusal};

/// Values that one filter takes (EC2 API reference, "Filter": 200).
pub(super) const MAX_VALUES: usize = 200;

/// How instances are named.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    Ids(Vec<String>),
    /// A tag, `key` and `value`.
    Tag(String, String),
    /// A private or public address.
    Address(String),
    /// The tag `Name`.
    Name(String),
}

/// An instance as EC2 describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Instance {
    pub(crate) id: String,
    /// `running`, `stopped`, ...
    pub(crate) state: String,
    pub(crate) windows: bool,
    pub(crate) name: Option<String>,
    pub(crate) instance_type: String,
    pub(crate) profile: Option<String>,
    /// `required` or `optional`, of IMDSv2; `disabled` when the service is off.
    pub(crate) metadata: String,
    pub(crate) volumes: Vec<String>,
    /// `x86_64`, `arm64`, ...
    pub(crate) architecture: String,
    pub(crate) vpc: String,
    pub(crate) subnet: String,
    pub(crate) groups: Vec<String>,
    /// Whether it has a public IPv4 address: an internet gateway is of no use to one without.
    pub(crate) public: bool,
    /// Name of the device that it boots from, such as `/dev/xvda`.
    pub(crate) root_device: Option<String>,
}

/// All instances that answer to `named`, over all pages. Those that are terminated have no evidence and do not count.
///
/// # Errors
/// When EC2 refuses. An id that does not exist is no error: it is not in the answer.
pub(crate) async fn instances(account: &Account, named: &Named) -> Result<Vec<Instance>, Refusal> {
    let filters = match named {
        // By filter and not by id: one unknown id would make the whole call fail.
        Named::Ids(ids) => ids
            .chunks(MAX_VALUES)
            .map(|ids| filter("instance-id", ids))
            .collect(),
        Named::Tag(key, value) => vec![filter(&format!("tag:{key}"), std::slice::from_ref(value))],
        Named::Name(name) => vec![filter("tag:Name", std::slice::from_ref(name))],
        Named::Address(address) => [
            "private-ip-address",
            "ip-address",
            "network-interface.addresses.private-ip-address",
            "ipv6-address",
        ]
        .map(|name| filter(name, std::slice::from_ref(address)))
        .to_vec(),
    };
    let client = Client::new(&account.config);
    let mut found: Vec<Instance> = Vec::new();
    for filter in filters {
        let mut pages = client
            .describe_instances()
            .filters(filter)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Refusal::of(&error, "ec2:DescribeInstances", "*"))?;
            let instances = page.reservations().iter().flat_map(|r| r.instances());
            for instance in instances.map(instance) {
                if instance.state != "terminated"
                    && !found.iter().any(|other| other.id == instance.id)
                {
                    found.push(instance);
                }
            }
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// A filter: the name, and the values of which one has to fit.
pub(super) fn filter(name: &str, values: &[String]) -> Filter {
    Filter::builder()
        .name(name)
        .set_values(Some(values.to_vec()))
        .build()
}

fn instance(instance: &aws_sdk_ec2::types::Instance) -> Instance {
    let state = instance.state().and_then(|state| state.name());
    let name = instance.tags().iter().find(|tag| tag.key() == Some("Name"));
    let metadata = instance.metadata_options();
    let off = metadata
        .and_then(|m| m.http_endpoint())
        .is_some_and(|e| e.as_str() == "disabled");
    let volumes = instance.block_device_mappings().iter();
    Instance {
        id: instance.instance_id().unwrap_or_default().to_owned(),
        state: state
            .map(|state| state.as_str().to_owned())
            .unwrap_or_default(),
        windows: instance
            .platform()
            .is_some_and(|p| p.as_str().eq_ignore_ascii_case("windows")),
        name: name.and_then(|tag| tag.value()).map(str::to_owned),
        instance_type: instance
            .instance_type()
            .map(|t| t.as_str().to_owned())
            .unwrap_or_default(),
        profile: instance
            .iam_instance_profile()
            .and_then(|p| p.arn())
            .map(str::to_owned),
        metadata: if off {
            "disabled".to_owned()
        } else {
            metadata
                .and_then(|m| m.http_tokens())
                .map(|t| t.as_str().to_owned())
                .unwrap_or_default()
        },
        volumes: volumes
            .filter_map(|v| v.ebs()?.volume_id().map(str::to_owned))
            .collect(),
        architecture: instance
            .architecture()
            .map(|a| a.as_str().to_owned())
            .unwrap_or_default(),
        vpc: instance.vpc_id().unwrap_or_default().to_owned(),
        subnet: instance.subnet_id().unwrap_or_default().to_owned(),
        groups: instance
            .security_groups()
            .iter()
            .filter_map(|group| group.group_id().map(str::to_owned))
            .collect(),
        public: instance.public_ip_address().is_some(),
        root_device: instance.root_device_name().map(str::to_owned),
    }
}

/// Memory of these instance types, in bytes.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn memory_of_types(
    account: &Account,
    types: &[String],
) -> Result<std::collections::BTreeMap<String, u64>, Refusal> {
    let client = Client::new(&account.config);
    let mut memory = std::collections::BTreeMap::new();
    // InstanceTypes takes 100 (EC2 API reference, DescribeInstanceTypes).
    for types in types.chunks(100) {
        let types = types.iter().map(|t| t.as_str().into()).collect();
        let mut pages = client
            .describe_instance_types()
            .set_instance_types(Some(types))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| Refusal::of(&error, "ec2:DescribeInstanceTypes", "*"))?;
            for info in page.instance_types() {
                let mib = info
                    .memory_info()
                    .and_then(|m| m.size_in_mib())
                    .and_then(|m| u64::try_from(m).ok());
                if let (Some(name), Some(mib)) = (info.instance_type(), mib) {
                    memory.insert(name.as_str().to_owned(), mib << 20);
                }
            }
        }
    }
    Ok(memory)
}

/// Whether new volumes and copies of snapshots are encrypted without being asked.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn encrypts_by_default(account: &Account) -> Result<bool, Refusal> {
    let answer = Client::new(&account.config)
        .get_ebs_encryption_by_default()
        .send()
        .await;
    let answer =
        answer.map_err(|error| Refusal::of(&error, "ec2:GetEbsEncryptionByDefault", "*"))?;
    Ok(answer.ebs_encryption_by_default().unwrap_or_default())
}

/// The disks that are built into an instance type, in words; none when it has none.
///
/// # Errors
/// When EC2 refuses.
pub(crate) async fn instance_store(
    account: &Account,
    instance_type: &str,
) -> Result<Option<String>, Refusal> {
    let answer = Client::new(&account.config)
        .describe_instance_types()
        .instance_types(instance_type.into())
        .send()
        .await;
    let answer = answer.map_err(|error| Refusal::of(&error, "ec2:DescribeInstanceTypes", "*"))?;
    let types = answer.instance_types();
    Ok(types
        .iter()
        .find_map(|info| info.instance_storage_info())
        .map(|storage| {
            let disks = storage.disks().iter().map(|disk| {
                format!(
                    "{} x {} GB",
                    disk.count().unwrap_or(1),
                    disk.size_in_gb().unwrap_or_default()
                )
            });
            disks.collect::<Vec<_>>().join(", ")
        }))
}
