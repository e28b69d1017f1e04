//! Texts of a real kernel (Linux 6.18, x86-64; `agent/tests/fixtures/proc-net`), whole and spoiled.
#![cfg(target_endian = "little")]

use std::path::Path;

use super::*;
use crate::host::Host;

fn fixtures() -> State {
    let host = Host::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")).unwrap();
    read(&host.root().folder("proc-net").unwrap()).named(9)
}

#[test]
fn what_the_texts_tell_is_read() {
    let state = fixtures();
    assert!(state.failures.is_empty(), "{:?}", state.failures);
    let veth0 = state
        .interfaces
        .iter()
        .find(|interface| interface.name == "veth0")
        .unwrap();
    let statistics = veth0.statistics.unwrap();
    assert_eq!(
        (
            veth0.index,
            veth0.netns,
            statistics.rx_bytes,
            statistics.tx_packets
        ),
        (3, 9, 230, 2)
    );
    let to = |text: &str| {
        state
            .routes
            .iter()
            .find(|route| route.destination == text)
            .unwrap()
    };
    let default = to("default");
    assert_eq!(
        (default.gateway.unwrap().to_string(), default.metric),
        ("192.0.2.254".to_owned(), Some(100))
    );
    assert_eq!(
        (default.interface, default.interface_name.as_deref()),
        (Some(3), Some("veth0"))
    );
    assert_eq!(
        (
            to("10.0.0.0/8").kind.as_str(),
            to("192.0.2.0/24").kind.as_str()
        ),
        ("blackhole", "unicast")
    );
    assert_eq!(
        to("2001:db8:1::/48").gateway.unwrap().to_string(),
        "2001:db8::2"
    );
    assert_eq!(to("2001:db8:2::/48").kind, "unreachable");
    let [neighbour] = state.neighbours.as_slice() else {
        panic!("{:?}", state.neighbours)
    };
    assert_eq!(
        (neighbour.mac.as_deref(), neighbour.interface),
        (Some("02:00:00:00:00:99"), 3)
    );
    assert_eq!(
        state
            .addresses
            .iter()
            .map(|address| address.prefix_length)
            .collect::<Vec<_>>(),
        [64, 64, 64, 128]
    );
    assert_eq!(state.addresses[0].scope, "link");
}

#[test]
fn no_line_is_worth_a_panic() {
    macro_rules! text {
        ($name:literal) => {
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/proc-net/",
                $name
            ))
        };
    }
    for text in [
        text!("dev"),
        text!("route"),
        text!("ipv6_route"),
        text!("arp"),
        text!("if_inet6"),
    ] {
        for line in text.lines() {
            for at in 0..line.len() {
                let spoiled = [&line[..at], "\u{e4}", &line[at + 1..]].concat();
                for line in [&line[..at], spoiled.as_str()] {
                    let _ = (
                        interface(line),
                        address(line),
                        route(line),
                        route_v6(line),
                        neighbour(line),
                    );
                }
            }
        }
    }
    assert_eq!(ip_v6("+0000000000000000000000000000001"), None);
    assert_eq!(ip_v6("1"), None);
}
