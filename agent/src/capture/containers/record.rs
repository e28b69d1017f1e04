//! Lines of the tables, with ECS names where they exist and our own under `exhibit`.

use std::collections::{BTreeMap, BTreeSet};

use evidence::inventory::Name;
use serde::Serialize;

use super::labels::{self, Orchestrator};
use super::members::{How, Member, Namespaces};
use super::model::{Container, Mount};
use crate::capture::processes::record::Context;
use crate::capture::sensitive::Policy;
use crate::host;
use crate::text::rfc3339;

/// A line of `containers/containers.jsonl`.
#[derive(Serialize)]
pub struct ContainerRecord<'a> {
    container: Ecs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orchestrator: Option<Orchestrator>,
    exhibit: Own<'a>,
}

/// ECS field set `container`.
#[derive(Serialize)]
struct Ecs<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Image<'a>>,
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    security_context: Option<Security>,
}

#[derive(Serialize)]
struct Image<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hashes<'a>>,
}

#[derive(Serialize)]
struct Hashes<'a> {
    all: [&'a str; 1],
}

#[derive(Serialize)]
struct Security {
    privileged: bool,
}

/// What ECS has no name for.
#[derive(Serialize)]
struct Own<'a> {
    /// Whether a state file tells of it; otherwise only a cgroup does.
    known: bool,
    /// Whether a process of it is running.
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<&'a str>,
    /// Whether it only holds the namespaces of its pod, and the id of the one that does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sandbox: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init_pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rootfs: Option<&'a str>,
    mounts: &'a [Mount],
    capabilities: &'a BTreeSet<String>,
    /// Namespaces that it has in common with the host: by its settings, and in truth.
    host_namespaces: &'a BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_namespaces_seen: Option<&'a [&'static str]>,
    command: &'a [String],
    /// Names alone, unless the policy collects environments.
    environment: Vec<&'a str>,
    sources: &'a BTreeSet<String>,
}

/// The record of `container`, whose oldest process is `first`.
pub fn container<'a>(
    container: &'a Container,
    first: Option<&'a Member>,
    environment: Policy,
) -> ContainerRecord<'a> {
    let claim = first.and_then(|member| member.claim.as_ref());
    let pod_uid = claim.and_then(|claim| claim.pod_uid.as_deref());
    let task = claim.and_then(|claim| claim.task.as_deref());
    let (name, hash) = (container.image.as_deref(), container.image_id.as_deref());
    ContainerRecord {
        container: Ecs {
            id: &container.id,
            name: container.name.as_deref(),
            runtime: container.runtime.or_else(|| claim?.runtime),
            image: (name.is_some() || hash.is_some()).then(|| Image {
                name,
                hash: hash.map(|hash| Hashes { all: [hash] }),
            }),
            labels: &container.labels,
            security_context: container
                .privileged
                .map(|privileged| Security { privileged }),
        },
        orchestrator: labels::orchestrator(&container.labels, pod_uid, task),
        exhibit: Own {
            known: !container.sources.is_empty(),
            running: first.is_some(),
            state: container.state.as_deref(),
            created: container.created.as_deref(),
            started: container.started.as_deref(),
            sandbox: container.is_sandbox(),
            sandbox_id: labels::sandbox(&container.labels),
            init_pid: container.init.map(|init| init.pid),
            rootfs: container.rootfs.as_deref(),
            mounts: &container.mounts,
            capabilities: &container.capabilities,
            host_namespaces: &container.host_namespaces,
            host_namespaces_seen: first.map(|member| member.with_host.as_slice()),
            command: &container.command,
            environment: variables(&container.environment, environment),
            sources: &container.sources,
        },
    }
}

fn variables(variables: &[String], policy: Policy) -> Vec<&str> {
    let name = |variable: &'_ String| {
        variable
            .split_once('=')
            .map_or(variable.len(), |(name, _)| name.len())
    };
    let shown = variables.iter().map(|variable| match policy {
        Policy::Collect => variable.as_str(),
        Policy::Mask | Policy::Hash => variable.get(..name(variable)).unwrap_or_default(),
    });
    shown.collect()
}

/// A line of `containers/members.jsonl`.
#[derive(Serialize)]
pub struct MemberRecord<'a> {
    process: Process<'a>,
    container: Id<'a>,
    exhibit: Membership<'a>,
}

#[derive(Serialize)]
struct Process<'a> {
    pid: i32,
    entity_id: String,
    name: &'a str,
    start: String,
}

#[derive(Serialize)]
struct Id<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Membership<'a> {
    start_ticks: u64,
    /// How it was attributed.
    how: How,
    namespaces: &'a Namespaces,
    /// Kinds of namespaces that it has in common with the host.
    host_namespaces: &'a [&'static str],
    cgroups: Vec<&'a str>,
}

/// The record of `member`.
pub fn member<'a>(member: &'a Member, context: &Context) -> MemberRecord<'a> {
    let process = &member.process;
    MemberRecord {
        process: Process {
            pid: process.pid,
            entity_id: context.entity_id(process.pid, process.start_ticks),
            name: &process.name,
            start: rfc3339(context.start_ns(process.start_ticks)),
        },
        container: Id { id: &member.id },
        exhibit: Membership {
            start_ticks: process.start_ticks,
            how: member.how,
            namespaces: &process.namespaces,
            host_namespaces: &member.with_host,
            cgroups: process.cgroup.lines().collect(),
        },
    }
}

/// A line of `containers/namespaces.jsonl`.
#[derive(Serialize)]
pub struct Namespace<'a> {
    pub kind: &'a str,
    pub inode: u64,
    /// Whether it is the host's.
    pub host: bool,
    pub containers: &'a BTreeSet<&'a str>,
}

/// A line of `containers/mounts.jsonl`: what the container's first process sees mounted.
#[derive(Serialize)]
pub struct MountRecord<'a> {
    container: Id<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mntns: Option<u64>,
    point: Name,
    /// What of the file system is mounted there: of a bind mount, the directory on its file system.
    root: Name,
    device: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    source: &'a str,
}

/// The record of `mount`, as `first` sees it.
pub fn mount<'a>(
    container: &'a Container,
    first: Option<&Member>,
    mount: &'a host::Mount,
) -> MountRecord<'a> {
    let name = |path: &std::path::Path| Name::of(path.as_os_str().as_encoded_bytes());
    MountRecord {
        container: Id { id: &container.id },
        mntns: first.and_then(|member| member.process.namespaces.get("mnt").copied()),
        point: name(&mount.point),
        root: name(&mount.root),
        device: &mount.device,
        kind: &mount.kind,
        source: &mount.source,
    }
}
