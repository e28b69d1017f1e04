//! What a responder looks at first. A finding is a place to look, not a verdict.

use serde::Serialize;

use super::members::Member;
use super::model::Container;
use crate::host::Mount;

/// Names of sockets that let whoever reaches them start containers, and so own the host.
const SOCKETS: &[&str] = &[
    "docker.sock",
    "containerd.sock",
    "crio.sock",
    "podman.sock",
    "dockershim.sock",
    "cri-dockerd.sock",
];
/// Folders of the host with which one owns it, when they can be written.
const FOLDERS: &[&str] = &[
    "/etc",
    "/root",
    "/proc",
    "/boot",
    "/dev",
    "/run",
    "/var/run",
    "/usr",
    "/var",
    "/home",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/etc/cron.d",
    "/etc/kubernetes",
    "/sys/fs/cgroup",
    "/lib/modules",
];
/// Capabilities with which one leaves a container.
const STRONG: &[&str] = &[
    "all",
    "sys_admin",
    "sys_module",
    "sys_ptrace",
    "sys_rawio",
    "dac_read_search",
    "bpf",
    "sys_boot",
];

#[derive(Debug, Serialize)]
pub struct Finding {
    pub rule: &'static str,
    pub technique: &'static str,
    pub reason: String,
    pub known_benign: &'static str,
    pub container: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

const ESCAPE: &str = "T1611";
const AGENTS: &str = "agents of networks, storage and monitoring";

/// What is odd about a container: by its settings, and by its first process and the mounts that it sees where it runs.
pub fn of_container(
    container: &Container,
    first: Option<&Member>,
    mounts: &[Mount],
    hosts_root: Option<&Mount>,
) -> Vec<Finding> {
    let name = container.name.as_deref().unwrap_or("without a name");
    let found = |rule, reason: String, known_benign| Finding {
        rule,
        technique: ESCAPE,
        reason: format!("container {name}: {reason}"),
        known_benign,
        container: container.id.clone(),
        pid: first.map(|member| member.process.pid),
    };
    let mut findings = Vec::new();
    if container.privileged == Some(true) {
        findings.push(found(
            "privileged-container",
            "it is privileged".to_owned(),
            AGENTS,
        ));
    } else {
        let strong = STRONG
            .iter()
            .filter(|name| container.capabilities.contains(**name));
        let strong: Vec<&str> = strong.copied().collect();
        if !strong.is_empty() {
            let reason = format!("it has the capabilities {}", strong.join(", "));
            findings.push(found("strong-capabilities-in-container", reason, AGENTS));
        }
    }
    let shared = shared(container, first);
    if !shared.is_empty() {
        let reason = format!("it is in the host's namespaces: {}", shared.join(", "));
        findings.push(found(
            "container-in-host-namespaces",
            reason,
            "agents; pods with hostNetwork or hostPID",
        ));
    }
    if let Some(socket) = socket(container, mounts) {
        let reason = format!("it has the runtime's socket, as {socket}");
        findings.push(found(
            "runtime-socket-in-container",
            reason,
            "agents; builders and managers of containers",
        ));
    }
    if let Some(point) = root(container, mounts, hosts_root) {
        let reason = format!("it has the host's root directory, at {point}");
        findings.push(found(
            "host-root-in-container",
            reason,
            "agents that watch the host, such as node_exporter",
        ));
    }
    let writable = container
        .mounts
        .iter()
        .filter(|mount| is_bind(mount) && mount.read_only != Some(true));
    let folders = writable.filter_map(|mount| mount.source.as_deref());
    let folders: Vec<&str> = folders
        .filter(|source| FOLDERS.contains(&source.trim_end_matches('/')))
        .collect();
    if !folders.is_empty() {
        let reason = format!("it can write to the host's {}", folders.join(", "));
        findings.push(found("host-folder-in-container", reason, AGENTS));
    }
    findings
}

/// Namespaces that it has in common with the host, by its settings or in truth.
fn shared(container: &Container, first: Option<&Member>) -> Vec<String> {
    let mut shared = container.host_namespaces.clone();
    let observed = first.iter().flat_map(|member| &member.with_host);
    shared.extend(observed.map(|kind| (*kind).to_owned()));
    // The others say little: Kubernetes has a namespace of ipc and uts for each pod, Docker may have none.
    shared
        .into_iter()
        .filter(|kind| matches!(kind.as_str(), "pid" | "net" | "mnt"))
        .collect()
}

fn is_bind(mount: &super::model::Mount) -> bool {
    mount.kind.as_deref() == Some("bind")
}

fn socket<'a>(container: &'a Container, mounts: &'a [Mount]) -> Option<&'a str> {
    let is_one = |path: &str| {
        SOCKETS
            .iter()
            .any(|name| path.rsplit('/').next() == Some(name))
    };
    let said = container
        .mounts
        .iter()
        .find(|mount| mount.source.as_deref().is_some_and(is_one));
    let seen = mounts
        .iter()
        .find(|mount| mount.root.to_str().is_some_and(is_one));
    said.map(|mount| mount.destination.as_str())
        .or_else(|| seen?.point.to_str())
}

fn root<'a>(
    container: &'a Container,
    mounts: &'a [Mount],
    hosts: Option<&Mount>,
) -> Option<&'a str> {
    let said = container
        .mounts
        .iter()
        .find(|mount| is_bind(mount) && mount.source.as_deref() == Some("/"));
    let same = |mount: &&Mount| {
        hosts.is_some_and(|hosts| hosts.device == mount.device && hosts.root == mount.root)
            && mount.point.parent().is_some()
    };
    let seen = mounts
        .iter()
        .find(same)
        .and_then(|mount| mount.point.to_str());
    said.map(|mount| mount.destination.as_str()).or(seen)
}

/// A container that only a cgroup knows.
pub fn without_state(container: &Container, first: &Member) -> Finding {
    Finding {
        rule: "container-without-state",
        technique: "T1610",
        reason: format!(
            "process {} ({}) is in the cgroup of a container that no state file knows",
            first.process.pid, first.process.name
        ),
        known_benign: "runtimes with a folder of their own, containers in containers",
        container: container.id.clone(),
        pid: Some(first.process.pid),
    }
}

/// What is odd about a process in a container.
pub fn of_member(member: &Member, container: &Container) -> Option<Finding> {
    let found = |rule, reason: String, known_benign| Finding {
        rule,
        technique: ESCAPE,
        reason: format!(
            "process {} ({}) {reason}",
            member.process.pid, member.process.name
        ),
        known_benign,
        container: member.id.clone(),
        pid: Some(member.process.pid),
    };
    if member.how.is_by_namespace() {
        let reason =
            "has namespaces of a container in common, and is outside of its cgroup".to_owned();
        return Some(found(
            "process-beside-container",
            reason,
            "debuggers, and helpers of networks such as rootlessport",
        ));
    }
    // Machines and containers of LXC are told of by nothing that would say so.
    let own_mounts = !container.sources.is_empty() && !container.host_namespaces.contains("mnt");
    (own_mounts && member.with_host.contains(&"mnt")).then(|| {
        let reason = "is in a container's cgroup and in the host's mount namespace".to_owned();
        found(
            "container-process-on-host",
            reason,
            "a runtime while it starts a container; agents that use nsenter",
        )
    })
}
