//! Answers of a real kernel (Linux 6.18, x86-64; `agent/tests/fixtures/rtnetlink`), whole, cut and spoiled.
#![cfg(target_endian = "little")]

use super::*;

macro_rules! answers {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/rtnetlink/",
            $name,
            ".hex"
        ))
        .lines()
        .map(|line| hex::decode(line).unwrap())
        .collect::<Vec<_>>()
    };
}

fn all<T>(answers: &[Vec<u8>], parse: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    answers.iter().map(|body| parse(body).unwrap()).collect()
}

fn address_of(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn an_interface_that_listens_to_all_frames_says_so() {
    let all = all(&answers!("interfaces"), interface);
    let names: Vec<_> = all.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["lo", "veth1", "veth0", "br0"]);
    let [lo, veth1, veth0, br0] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(
        (lo.hardware.as_deref(), lo.state.as_deref(), lo.mtu),
        (Some("loopback"), Some("unknown"), Some(65_536))
    );
    assert_eq!(
        veth0.flags,
        [
            "UP",
            "BROADCAST",
            "RUNNING",
            "PROMISC",
            "MULTICAST",
            "LOWER_UP"
        ]
    );
    assert_eq!(
        (veth0.promiscuity, veth0.kind.as_deref(), veth0.link),
        (Some(1), Some("veth"), Some(veth1.index))
    );
    assert_eq!(
        (veth0.mac.as_deref(), veth0.alias.as_deref()),
        (Some("02:00:00:00:00:01"), Some("to the other side"))
    );
    assert_eq!(veth0.other_names, ["a-much-longer-name-for-veth0"]);
    assert!(
        !veth1.flags.contains(&"PROMISC".to_owned()),
        "a bridge's port is promiscuous, but without the flag"
    );
    assert_eq!(
        (veth1.promiscuity, veth1.master, br0.kind.as_deref()),
        (Some(1), Some(br0.index), Some("bridge"))
    );
    let statistics = veth0.statistics.unwrap();
    assert_eq!(
        (
            statistics.rx_bytes,
            statistics.rx_packets,
            statistics.tx_packets
        ),
        (230, 3, 2)
    );
}

#[test]
fn addresses_tell_the_other_end_and_how_long_they_stay() {
    let all = all(&answers!("addresses"), address);
    let of = |text: &str| {
        all.iter()
            .find(|found| Some(found.address) == address_of(text))
            .unwrap()
    };
    let plain = of("192.0.2.1");
    assert_eq!(
        (plain.prefix_length, plain.broadcast, plain.peer),
        (24, address_of("192.0.2.255"), None)
    );
    assert_eq!(
        (plain.scope.as_str(), plain.flags.as_slice()),
        ("global", ["permanent".to_owned()].as_slice())
    );
    let peer = of("198.51.100.1");
    assert_eq!(
        (peer.peer, peer.valid_s.is_some(), plain.valid_s),
        (address_of("198.51.100.2"), true, None)
    );
    assert_eq!(of("2001:db8::1").prefix_length, 64);
    assert_eq!(of("::1").scope, "host");
}

#[test]
fn routes_of_all_tables_are_told() {
    let all = all(&answers!("routes"), route);
    let to = |text: &str| all.iter().find(|route| route.destination == text).unwrap();
    let default = to("default");
    assert_eq!(
        (default.gateway, default.metric, default.table.as_str()),
        (address_of("192.0.2.254"), Some(100), "main")
    );
    let other = to("203.0.113.0/24");
    assert_eq!(
        (other.table.as_str(), other.protocol.as_str()),
        ("4711", "static")
    );
    assert_eq!(other.preferred_source, address_of("192.0.2.1"));
    assert_eq!(to("10.0.0.0/8").kind, "blackhole");
    assert_eq!(to("2001:db8:2::/48").kind, "unreachable");
    assert_eq!(to("127.0.0.0/8").table, "local");
    assert_eq!(
        (to("2001:db8:1::/48").gateway, to("ff00::/8").kind.as_str()),
        (address_of("2001:db8::2"), "multicast")
    );
    let hops: Vec<_> = to("172.16.0.0/12")
        .next_hops
        .iter()
        .map(|hop| (hop.gateway, hop.weight))
        .collect();
    assert_eq!(
        hops,
        [(address_of("192.0.2.2"), 2), (address_of("192.0.2.3"), 1)]
    );
}

#[test]
fn rules_tell_what_they_match() {
    let all = all(&answers!("rules"), rule);
    let at = |priority: u32| all.iter().find(|rule| rule.priority == priority).unwrap();
    let want = Rule {
        family: "ipv4".to_owned(),
        priority: 100,
        action: "lookup".to_owned(),
        table: "4711".to_owned(),
        source: Some("192.0.2.0/24".to_owned()),
        in_interface: Some("veth0".to_owned()),
        mark: Some(0x10),
        mark_mask: Some(0xFF),
        users: Some((1000, 2000)),
        ip_protocol: Some(6),
        destination_ports: Some((80, 90)),
        protocol: Some("unspec".to_owned()),
        ..Rule::default()
    };
    assert_eq!(at(100), &want);
    let jump = at(200);
    assert_eq!(
        (jump.inverted, jump.goto, jump.action.as_str()),
        (true, Some(32_766), "goto")
    );
    assert_eq!(jump.destination.as_deref(), Some("10.0.0.0/8"));
}

#[test]
fn neighbours_tell_their_hardware() {
    let all = all(&answers!("neighbours"), neighbour);
    let found = all
        .iter()
        .find(|found| found.address == address_of("192.0.2.2"))
        .unwrap();
    assert_eq!(
        (found.mac.as_deref(), found.state.as_slice()),
        (
            Some("02:00:00:00:00:99"),
            ["permanent".to_owned()].as_slice()
        )
    );
    assert_eq!((found.family.as_str(), found.interface), ("ipv4", 3));
}

#[test]
fn no_answer_is_worth_a_panic() {
    fn spoil<T>(answers: &[Vec<u8>], parse: impl Fn(&[u8]) -> Option<T>) {
        for body in answers {
            for cut in 0..=body.len() {
                let _ = parse(&body[..cut]);
            }
            for at in 0..body.len() {
                for value in [0, 1, 0x7F, 0xFF] {
                    let mut spoiled = body.clone();
                    spoiled[at] = value;
                    let _ = parse(&spoiled);
                }
            }
        }
        assert!(parse(&[]).is_none());
    }
    spoil(&answers!("interfaces"), interface);
    spoil(&answers!("addresses"), address);
    spoil(&answers!("routes"), route);
    spoil(&answers!("rules"), rule);
    spoil(&answers!("neighbours"), neighbour);
}
