//! Answers of a real kernel (Linux 6.18, x86-64; `agent/tests/fixtures/sock-diag`), whole, cut and spoiled.
#![cfg(target_endian = "little")]

use super::*;

macro_rules! answers {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/sock-diag/",
            $name,
            ".hex"
        ))
        .lines()
        .map(|line| hex::decode(line).unwrap())
        .collect::<Vec<_>>()
    };
}

fn all(family: Family, answers: &[Vec<u8>]) -> Vec<Socket> {
    answers
        .iter()
        .map(|body| parse(family, 9, body).unwrap())
        .collect()
}

fn ends(socket: &Socket) -> (String, String) {
    (
        socket.local().unwrap().to_string(),
        socket.remote().unwrap().to_string(),
    )
}

fn pair(local: &str, remote: &str) -> (String, String) {
    (local.to_owned(), remote.to_owned())
}

#[test]
fn connections_have_ends_states_queues_and_timers() {
    let tcp = all(Family::Tcp, &answers!("tcp"));
    let states: Vec<_> = tcp.iter().map(|socket| socket.state).collect();
    assert_eq!(
        states,
        [
            "listen",
            "listen",
            "established",
            "time_wait",
            "established"
        ]
    );
    assert_eq!(ends(&tcp[0]), pair("127.0.0.1:8443", "0.0.0.0:0"));
    assert_eq!(ends(&tcp[2]), pair("127.0.0.1:43368", "127.0.0.1:8080"));
    assert_eq!(
        (tcp[1].inode, tcp[1].uid, tcp[1].tx_queue),
        (246_021, Some(0), Some(5))
    );
    assert_eq!(
        (tcp[4].rx_queue, tcp[4].cgroup_id, tcp[4].cookie),
        (Some(5), Some(1), Some(0x7e))
    );
    let timer = tcp[3].timer.unwrap();
    assert_eq!(
        (timer.kind, timer.expires_ms, tcp[3].uid, tcp[3].inode),
        ("time_wait", 59_920, None, 0)
    );
    assert!(
        tcp.iter()
            .all(|socket| socket.netns == 9 && socket.source == Source::SockDiag)
    );

    let tcp6 = all(Family::Tcp6, &answers!("tcp6"));
    assert!(
        tcp6.iter()
            .any(|socket| ends(socket) == pair("[::1]:8081", "[::]:0"))
    );
    let udp = all(Family::Udp, &answers!("udp"));
    assert_eq!(ends(&udp[0]), pair("0.0.0.0:5353", "0.0.0.0:0"));
    assert_eq!((udp[0].state, udp[1].state), ("close", "established"));
    assert_eq!(all(Family::Udp6, &answers!("udp6")).len(), 1);
    assert_eq!(
        ends(&all(Family::UdpLite, &answers!("udplite"))[0]).0,
        "127.0.0.1:777"
    );
    assert_eq!(
        ends(&all(Family::Mptcp, &answers!("mptcp"))[0]).0,
        "127.0.0.1:8443"
    );
}

#[test]
fn unix_sockets_have_names_kinds_and_peers() {
    let unix = all(Family::Unix, &answers!("unix"));
    let named = |name: &[u8]| {
        unix.iter()
            .filter(|socket| socket.path() == Some(name))
            .count()
    };
    assert_eq!(named(b"/tmp/fixture.sock"), 1);
    assert_eq!(named(b"\0exhibit abstract"), 1);
    assert_eq!(named(b"/tmp/not-\xff-utf8"), 1);
    assert_eq!(named(b"/tmp/two\nlines"), 1);
    for socket in &unix {
        let Address::Unix {
            kind,
            path,
            peer_inode,
            file,
        } = &socket.address
        else {
            panic!("{socket:?}")
        };
        match peer_inode {
            Some(peer) => {
                assert!(path.is_none() && file.is_none() && matches!(*kind, "dgram" | "seqpacket"));
                let peer = unix.iter().find(|other| other.inode == *peer).unwrap();
                assert_eq!(peer.peer_inode(), Some(socket.inode));
            }
            None => {
                assert_eq!(
                    (socket.state, *kind, socket.uid, socket.tx_queue),
                    ("listen", "stream", Some(0), Some(3))
                );
                assert_eq!(file.is_some(), !path.as_ref().unwrap().starts_with(b"\0"));
            }
        }
    }
}

#[test]
fn packet_sockets_show_their_filters_and_netlink_sockets_their_groups() {
    let packet = all(Family::Packet, &answers!("packet"));
    let [socket] = packet.as_slice() else {
        panic!("{packet:?}")
    };
    let Address::Packet {
        kind,
        protocol,
        running,
        filter,
    } = &socket.address
    else {
        panic!("{socket:?}")
    };
    assert_eq!(
        (*kind, *protocol, *running, socket.interface),
        ("raw", 3, Some(true), Some(1))
    );
    assert_eq!(
        (filter.as_ref().unwrap().len(), socket.uid, socket.inode),
        (4 * 8, Some(0), 246_070)
    );

    let netlink = all(Family::Netlink, &answers!("netlink"));
    let ours = netlink.iter().find(|socket| {
        matches!(
            socket.address,
            Address::Netlink {
                port_id: 0x1267,
                ..
            }
        )
    });
    let want = Address::Netlink {
        protocol: 0,
        port_id: 0x1267,
        groups: 5,
    };
    assert_eq!(ours.unwrap().address, want);
    assert!(
        netlink
            .iter()
            .any(|socket| matches!(socket.address, Address::Netlink { port_id: 0, .. }))
    );
}

#[test]
fn raw_sockets_have_a_protocol_for_a_port() {
    let mut body = answers!("udp")[0].clone();
    body[4..6].copy_from_slice(&[0, 47]);
    let socket = parse(Family::Raw, 0, &body).unwrap();
    assert_eq!(
        (socket.protocol(), socket.local().unwrap().port()),
        (Some(47), 0)
    );
    body.extend([5, 0, 10, 0, 132, 0, 0, 0]);
    assert_eq!(
        parse(Family::Raw, 0, &body).unwrap().protocol(),
        Some(132),
        "what it was made for comes first"
    );
}

#[test]
fn no_answer_is_worth_a_panic() {
    for (family, answers) in [
        (Family::Tcp, answers!("tcp")),
        (Family::Tcp6, answers!("tcp6")),
        (Family::Unix, answers!("unix")),
        (Family::Packet, answers!("packet")),
        (Family::Netlink, answers!("netlink")),
    ] {
        for body in &answers {
            for cut in 0..=body.len() {
                let _ = parse(family, 0, &body[..cut]);
            }
            for at in 0..body.len() {
                for value in [0, 1, 0x7F, 0xFF] {
                    let mut spoiled = body.clone();
                    spoiled[at] = value;
                    let _ = parse(family, 0, &spoiled);
                }
            }
            let mut other = body.clone();
            other[0] = 99;
            assert_eq!(parse(family, 0, &other), Err(Malformed));
        }
        assert_eq!(parse(family, 0, &[]), Err(Malformed));
    }
}

#[test]
fn requests_have_the_kernels_lengths() {
    for (family, length) in [
        (Family::Tcp, 56),
        (Family::Raw6, 56),
        (Family::Mptcp, 64),
        (Family::Unix, 24),
        (Family::Packet, 20),
        (Family::Netlink, 20),
    ] {
        assert_eq!(request(family).unwrap().len(), length, "{family:?}");
    }
    assert_eq!(request(Family::Icmp), None);
}
