//! *contained*: which container each process, network namespace and mount belongs to, without asking any runtime.
//!
//! The command lines and sockets of Docker, containerd, CRI-O and Podman are programs of a host that is suspected: they may
//! lie, hang, or tell whoever watches. What they know is in their state files; what counts is what the kernel says: cgroups
//! and namespaces. Both are read, and where they disagree it is a finding. The files themselves are taken by the family
//! *containers*.

pub mod cgroup;
mod findings;
mod json;
mod labels;
mod members;
mod model;
mod record;
mod states;
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "fixtures are files of the tests, not of the host"
)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::processes::context;
use super::processes::record::Context;
use super::sensitive::Policy;
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Host, Mount};
use members::{KINDS, Member, Namespaces};
use model::Container;
use states::Known;

/// Containers; of their environments what the policy says.
pub struct Contained(pub Policy);

static SPEC: Spec = Spec {
    name: "contained",
    volatility: Volatility::Processes,
    what: "containers of Docker, containerd, CRI-O, Podman, ECS, Kubernetes, runc, crun, systemd-nspawn and LXC by their state \
           files; by cgroup and namespaces each process in one, their mounts and their namespaces. A socket joins by its \
           `netns` with containers/namespaces, a process by its `entity_id` with containers/members; who is in none is the host's",
    why: "which container, image, pod or task a process came from, and what of the host it could reach",
    deadline_s: 180,
    max_bytes: 512 << 20,
};

/// Most mounts of one container that are told of.
const MOST_MOUNTS: usize = 2048;

impl Artifact for Contained {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let mut known = states::read(host, sink)?;
        let processes = members::processes(host, sink)?;
        let hosts = members::hosts_namespaces(&processes);
        let members = members::members(processes, &known);
        for member in &members {
            known
                .entry(member.id.clone())
                .or_insert_with(|| Container::new(&member.id));
        }
        let nothing = known.is_empty() && sink.tally().losses.is_empty() && sink.tally().items == 0;
        if nothing {
            return Err(CaptureError::Absent(
                "neither a state file nor a cgroup names a container".to_owned(),
            ));
        }
        let scene = Scene {
            environment: self.0,
            context: context(host),
            hosts_root: root_of(&host.mounts_of(1)),
            known,
            members,
            hosts,
        };
        scene.containers(host, sink)?;
        scene.members(sink)?;
        scene.namespaces(sink)?;
        Ok(())
    }
}

/// All that was read.
struct Scene {
    environment: Policy,
    context: Context,
    hosts_root: Option<Mount>,
    known: Known,
    members: Vec<Member>,
    /// The host's namespaces.
    hosts: Namespaces,
}

impl Scene {
    /// The oldest process in each container that its cgroup or its state tells of.
    fn firsts(&self) -> BTreeMap<&str, &Member> {
        let mut firsts: BTreeMap<&str, &Member> = BTreeMap::new();
        for member in self
            .members
            .iter()
            .filter(|member| !member.how.is_by_namespace())
        {
            let first = firsts.entry(&member.id).or_insert(member);
            let age = |member: &Member| (member.process.start_ticks, member.process.pid);
            if age(member) < age(first) {
                *first = member;
            }
        }
        firsts
    }

    fn containers(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), Halt> {
        let firsts = self.firsts();
        for container in self.known.values() {
            let first = firsts.get(container.id.as_str()).copied();
            sink.record(
                "containers/containers",
                &record::container(container, first, self.environment),
            )?;
            let mounts = match first {
                Some(first) if !first.with_host.contains(&"mnt") => {
                    host.mounts_of(first.process.pid)
                }
                _ => Vec::new(),
            };
            if mounts.len() > MOST_MOUNTS {
                sink.loss("truncated:mounts");
            }
            for mount in mounts.iter().take(MOST_MOUNTS) {
                sink.record("containers/mounts", &record::mount(container, first, mount))?;
            }
            for finding in
                findings::of_container(container, first, &mounts, self.hosts_root.as_ref())
            {
                sink.finding(&finding)?;
            }
            if let (true, Some(first)) = (container.sources.is_empty(), first) {
                sink.finding(&findings::without_state(container, first))?;
            }
        }
        Ok(())
    }

    fn members(&self, sink: &mut Sink<'_>) -> Result<(), Halt> {
        for member in &self.members {
            sink.record("containers/members", &record::member(member, &self.context))?;
            let finding = self
                .known
                .get(&member.id)
                .and_then(|container| findings::of_member(member, container));
            if let Some(finding) = finding {
                sink.finding(&finding)?;
            }
        }
        Ok(())
    }

    /// Each namespace that a container's own processes are in, with the containers: what sockets and mounts join with.
    fn namespaces(&self, sink: &mut Sink<'_>) -> Result<(), Halt> {
        let mut spaces: BTreeMap<(&str, u64), BTreeSet<&str>> = BTreeMap::new();
        for member in self
            .members
            .iter()
            .filter(|member| !member.how.is_by_namespace())
        {
            for (kind, inode) in &member.process.namespaces {
                spaces
                    .entry((*kind, *inode))
                    .or_default()
                    .insert(&member.id);
            }
        }
        for kind in KINDS {
            for ((_, inode), containers) in spaces.iter().filter(|((of, _), _)| *of == kind) {
                let host = self.hosts.get(kind) == Some(inode);
                sink.record(
                    "containers/namespaces",
                    &record::Namespace {
                        kind,
                        inode: *inode,
                        host,
                        containers,
                    },
                )?;
            }
        }
        Ok(())
    }
}

/// What is mounted at `/`: of several, the last.
fn root_of(mounts: &[Mount]) -> Option<Mount> {
    let at_root = |mount: &&Mount| mount.point.parent().is_none();
    mounts.iter().rfind(at_root).cloned()
}
