//! *network*: interfaces, addresses, routes, rules and neighbours of every network namespace.
//!
//! The kernel is asked over rtnetlink, which sees all tables of routes, from inside of each namespace. Nothing is set. In a
//! recorded tree, and where a namespace can not be entered, the texts below `/proc/PID/net` are read instead.

mod ask;
mod model;
mod names;
pub mod parse;
pub mod text;

use super::sockets::namespaces::{self, Namespace, visit};
use super::sockets::{self, Handle};
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Folder, Host};
pub use model::{Address, Interface, Neighbour, NextHop, Route, Rule, State, Statistics};

/// The state of the network.
pub struct Network;

static SPEC: Spec = Spec {
    name: "network",
    volatility: Volatility::Network,
    what: "interfaces, addresses, routes of all tables, rules and neighbours of every network namespace, and the texts of \
           /proc/net that tell of them",
    why: "a sniffing interface, a false route or a neighbour that should not be there ends with the next boot",
    deadline_s: 60,
    max_bytes: 256 << 20,
};

/// Texts below `/proc/PID/net`; those that list sockets belong to the artifact *sockets*.
const TEXTS: &[&str] = &[
    "dev",
    "route",
    "ipv6_route",
    "arp",
    "if_inet6",
    "fib_trie",
    "fib_triestat",
    "rt_cache",
    "rt6_stats",
    "igmp",
    "igmp6",
    "mcfilter",
    "mcfilter6",
    "dev_mcast",
    "anycast6",
    "ip_mr_vif",
    "ip_mr_cache",
    "ip6_mr_vif",
    "ip6_mr_cache",
    "snmp",
    "snmp6",
    "netstat",
    "softnet_stat",
    "xfrm_stat",
    "wireless",
    "vlan/config",
    "nf_conntrack",
    "nf_conntrack_expect",
    "ip_tables_names",
    "ip6_tables_names",
    "arp_tables_names",
    "stat/arp_cache",
    "stat/ndisc_cache",
    "stat/nf_conntrack",
];

impl Artifact for Network {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let (all, unseen) = namespaces::all(host).map_err(CaptureError::host("/proc"))?;
        if let Some(error) = unseen {
            sink.loss(&format!("{}:namespaces", sockets::loss(&error)));
        }
        for namespace in &all {
            sink.check()?;
            let Some(found) = look(host, namespace) else {
                sink.gone();
                continue;
            };
            records(&found.state, sink)?;
            if let (Some(why), true) = (&found.refused, found.state == State::default()) {
                sockets::lost_namespace(why, sink);
            }
            sockets::texts(host, &found.handle, found.pid, TEXTS, sink)?;
        }
        Ok(())
    }
}

/// What a namespace tells, and how it was found.
struct Found {
    state: State,
    handle: Handle,
    pid: Option<i32>,
    /// Why it could not be entered.
    refused: Option<String>,
}

/// Asks inside of the namespace, or reads its texts from outside; `None` when it is gone.
fn look(host: &Host, namespace: &Namespace) -> Option<Found> {
    let open = namespaces::open(host, namespace)?;
    let outside = |texts: Option<Folder>| {
        let texts = texts.or_else(|| sockets::recorded(host));
        texts.map(|folder| text::read(&folder)).unwrap_or_default()
    };
    let (state, refused) = match open.refused {
        None if host.is_live() => match visit(open.fd, ask::ask) {
            Ok(state) => (state, None),
            Err(why) => (outside(open.texts), Some(why)),
        },
        refused => (outside(open.texts), refused),
    };
    Some(Found {
        state: state.named(namespace.inode),
        handle: open.handle,
        pid: open.pid,
        refused,
    })
}

fn records(state: &State, sink: &mut Sink<'_>) -> Result<(), Halt> {
    state
        .interfaces
        .iter()
        .try_for_each(|record| sink.record("network/interfaces", record))?;
    state
        .addresses
        .iter()
        .try_for_each(|record| sink.record("network/addresses", record))?;
    state
        .routes
        .iter()
        .try_for_each(|record| sink.record("network/routes", record))?;
    state
        .rules
        .iter()
        .try_for_each(|record| sink.record("network/rules", record))?;
    state
        .neighbours
        .iter()
        .try_for_each(|record| sink.record("network/neighbours", record))?;
    sockets::lost_answers(&state.failures, sink);
    Ok(())
}

#[cfg(test)]
mod tests;
