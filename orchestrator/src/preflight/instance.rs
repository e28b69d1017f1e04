//! The instances that are named: whether a collection would work there, and what it would take.

use std::collections::{BTreeMap, BTreeSet};

use super::estimate::{Estimate, memory_of};
use super::kernel::{self, Modules};
use super::{Light, Table, disks, way};
use crate::aws::ec2::{self, Instance};
use crate::aws::ssm::Managed;
use crate::aws::{Account, ebs, inventory, network};
use crate::case::Volume;
use crate::collect::{self, Targets};
use crate::config::{self, Config};

/// The architectures that there is an agent for, as EC2 names them.
const ARCHITECTURES: [&str; 2] = ["x86_64", "arm64"];

/// Where the instances are, and what is known before they are looked at.
pub(super) struct Suspects<'a> {
    pub(super) config: &'a Config,
    pub(super) account: &'a Account,
    /// Of the configuration.
    pub(super) name: &'a str,
    pub(super) entry: &'a config::Account,
    pub(super) modules: Option<&'a Modules>,
}

pub(super) async fn check(suspects: &Suspects<'_>, targets: &Targets, table: &mut Table) {
    let resolved = match collect::resolve(suspects.account, targets).await {
        Ok(resolved) => resolved,
        Err(failure) => return table.failed("instances", &failure),
    };
    for (instance, failure) in &resolved.refused {
        table.failed(&format!("instance {instance}"), failure);
    }
    let types = memory_of_types(suspects.account, &resolved.instances).await;
    let default_key = disks::default_key(suspects, table).await;
    let mut estimate = Estimate::default();
    for instance in &resolved.instances {
        let what = format!("instance {}", instance.id);
        whole(&what, instance, table);
        if let Some(managed) = resolved.managed.get(&instance.id) {
            by_ssm(&what, instance, managed, table);
        }
        ways(suspects, &what, instance, table).await;
        kernels(suspects, &what, instance, table).await;
        disks::instance(suspects, &what, &instance.id, table).await;
        let key = default_key.as_deref();
        let volumes = volumes(suspects.account, &what, instance, key, table).await;
        disks::shareable(suspects, &what, &volumes, table);
        let gib = volumes.iter().map(|it| u64::from(it.size_gib)).sum();
        estimate.add(memory_of(&types, &instance.instance_type), gib);
    }
    one_agent(&resolved.instances, table);
    table.good("estimate", estimate.text(suspects.config.cost.as_ref()));
}

/// For the estimate: whoever may not ask gets the shortest.
async fn memory_of_types(account: &Account, instances: &[Instance]) -> BTreeMap<String, u64> {
    let types: BTreeSet<String> = instances
        .iter()
        .map(|instance| instance.instance_type.clone())
        .collect();
    let types: Vec<String> = types.into_iter().collect();
    ec2::memory_of_types(account, &types)
        .await
        .unwrap_or_default()
}

fn whole(what: &str, instance: &Instance, table: &mut Table) {
    table.good(
        what,
        format!(
            "{}, {}, {} volumes",
            instance.name.as_deref().unwrap_or("no name"),
            instance.instance_type,
            instance.volumes.len()
        ),
    );
    table.want(
        &format!("{what}: instance profile"),
        instance.profile.is_some(),
        instance.profile.as_deref().unwrap_or("none"),
        "SSM works without one only with Default Host Management; the agent needs it to read its credentials",
    );
    table.want(
        &format!("{what}: IMDSv2"),
        instance.metadata == "required",
        &instance.metadata,
        "require tokens: IMDSv1 hands the role to whoever can make the host fetch an address",
    );
}

fn by_ssm(what: &str, instance: &Instance, managed: &Managed, table: &mut Table) {
    let now = crate::clock::now().unix_timestamp();
    let seen = match managed.last_ping {
        Some(ping) => format!("seen {} s ago", now.saturating_sub(ping).max(0)),
        None => "last seen at a time that SSM does not tell".to_owned(),
    };
    table.good(
        &format!("{what}: SSM"),
        format!("{}, {seen}, agent {}", managed.ping, managed.agent_version),
    );
    let known = ARCHITECTURES.contains(&instance.architecture.as_str());
    table.need(
        &format!("{what}: system"),
        known,
        format!("{}, {}", managed.system, instance.architecture),
        "there is no agent for this architecture: snapshot its disks",
    );
}

async fn ways(suspects: &Suspects<'_>, what: &str, instance: &Instance, table: &mut Table) {
    let to_s3 = format!("{what}: way to S3");
    let network = match network::of(suspects.account, instance).await {
        Ok(network) => network,
        Err(refusal) => return table.unknown(&to_s3, &refusal.failure),
    };
    let bucket = &suspects.config.evidence.region;
    let near = *bucket == suspects.entry.region;
    let way = way::to_s3(&network, instance.public, near);
    let to_do = match near {
        true => format!(
            "add a gateway endpoint for S3 to {}, before the instance is isolated: the agent sends the evidence there",
            network.table
        ),
        false => format!(
            "the bucket is in {bucket}, where no endpoint of this VPC leads: add a NAT gateway, or use a bucket in {}",
            suspects.entry.region
        ),
    };
    let found = match &way {
        Some(way) => format!("a route, by {way}"),
        None => format!("none found in {}", network.table),
    };
    table.want(&to_s3, way.is_some(), found, &to_do);
    table.good(
        &format!("{what}: way to SSM"),
        match way::to_ssm(&network, instance.public) {
            Some(way) => format!("it is online; a route, by {way}"),
            None => "it is online, by a way that its routes do not show".to_owned(),
        },
    );
    table.want(
        &format!("{what}: HTTPS out"),
        network.https_out,
        if network.https_out {
            "a rule of its security groups"
        } else {
            "no rule of its security groups lets TCP 443 out"
        },
        "let TCP 443 out, to S3's prefix list at least",
    );
}

async fn kernels(suspects: &Suspects<'_>, what: &str, instance: &Instance, table: &mut Table) {
    let what = format!("{what}: kernel, free memory");
    let agent = match suspects.config.agent.source.as_str() {
        path if path.starts_with('/') => path,
        _ => "exhibit-agent",
    };
    let ask = format!(
        "on the host, `{agent} memory check` (by hand, or with SSM's AWS-RunShellScript) says which way works and how much \
         memory there is; it changes nothing"
    );
    match inventory::kernels(suspects.account, &instance.id).await {
        Ok(kernels) => kernel::line(&what, &kernels, suspects.modules, &ask, table),
        Err(refusal) => table.add(Light::Amber, &what, &refusal.failure, &ask),
    }
}

/// For the estimate and its keys: whoever may not ask gets none.
async fn volumes(
    account: &Account,
    what: &str,
    instance: &Instance,
    default_key: Option<&str>,
    table: &mut Table,
) -> Vec<Volume> {
    match ebs::volumes(account, instance, default_key).await {
        Ok(volumes) => volumes,
        Err(refusal) => {
            table.unknown(&format!("{what}: volumes"), &refusal.failure);
            Vec::new()
        }
    }
}

/// One request runs one file: `agent.sha256`.
fn one_agent(instances: &[Instance], table: &mut Table) {
    let kinds: BTreeSet<&str> = instances
        .iter()
        .map(|it| it.architecture.as_str())
        .collect();
    if kinds.len() > 1 {
        table.add(
            Light::Red,
            "architectures",
            kinds.into_iter().collect::<Vec<_>>().join(", "),
            "agent.sha256 is that of one file: collect on each architecture apart, with a configuration for each",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(architecture: &str) -> Instance {
        Instance {
            architecture: architecture.to_owned(),
            ..Instance::default()
        }
    }

    #[test]
    fn an_architecture_without_an_agent_is_red() {
        for (architecture, colour) in [
            ("x86_64", Light::Green),
            ("arm64", Light::Green),
            ("i386", Light::Red),
            ("", Light::Red),
        ] {
            let mut table = Table::default();
            by_ssm("i", &of(architecture), &Managed::default(), &mut table);
            let system = table.0.iter().find(|check| check.what == "i: system");
            assert_eq!(
                system.map(|check| check.light),
                Some(colour),
                "{architecture}"
            );
        }
    }

    #[test]
    fn one_agent_does_not_fit_two_architectures() {
        let mut table = Table::default();
        one_agent(&[of("arm64"), of("arm64")], &mut table);
        assert!(table.0.is_empty());
        one_agent(&[of("arm64"), of("x86_64")], &mut table);
        assert_eq!(table.0.remove(0).found, "arm64, x86_64");
    }
}
