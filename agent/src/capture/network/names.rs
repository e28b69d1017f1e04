//! Words for the kernel's numbers.

/// Names of the bits that are set, from `names` by bit; those without a name as `0x...`.
pub fn bits(value: u32, names: &[(u32, &str)]) -> Vec<String> {
    let mut left = value;
    let mut words = Vec::new();
    for (bit, name) in names {
        if value & bit != 0 {
            words.push((*name).to_owned());
            left &= !bit;
        }
    }
    if left != 0 {
        words.push(format!("0x{left:x}"));
    }
    words
}

/// The name of `number`, or the number.
pub fn number(number: u32, names: &[(u32, &str)]) -> String {
    let found = names.iter().find(|(value, _)| *value == number);
    found.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

/// `net_device_flags`, `include/uapi/linux/if.h`.
pub const LINK_FLAGS: &[(u32, &str)] = &[
    (1, "UP"),
    (1 << 1, "BROADCAST"),
    (1 << 2, "DEBUG"),
    (1 << 3, "LOOPBACK"),
    (1 << 4, "POINTOPOINT"),
    (1 << 5, "NOTRAILERS"),
    (1 << 6, "RUNNING"),
    (1 << 7, "NOARP"),
    (1 << 8, "PROMISC"),
    (1 << 9, "ALLMULTI"),
    (1 << 10, "MASTER"),
    (1 << 11, "SLAVE"),
    (1 << 12, "MULTICAST"),
    (1 << 13, "PORTSEL"),
    (1 << 14, "AUTOMEDIA"),
    (1 << 15, "DYNAMIC"),
    (1 << 16, "LOWER_UP"),
    (1 << 17, "DORMANT"),
    (1 << 18, "ECHO"),
];

/// `ARPHRD_*`, `include/uapi/linux/if_arp.h`.
pub const HARDWARE: &[(u32, &str)] = &[
    (1, "ether"),
    (32, "infiniband"),
    (512, "ppp"),
    (768, "tunnel"),
    (769, "tunnel6"),
    (772, "loopback"),
    (776, "sit"),
    (778, "ipgre"),
    (801, "ieee80211"),
    (802, "ieee80211_prism"),
    (803, "ieee80211_radiotap"),
    (820, "phonet"),
    (823, "ip6gre"),
    (824, "netlink"),
    (826, "vsockmon"),
    (65534, "none"),
];

/// `IF_OPER_*`, `include/uapi/linux/if.h` (RFC 2863).
pub const OPERATION: &[(u32, &str)] = &[
    (0, "unknown"),
    (1, "notpresent"),
    (2, "down"),
    (3, "lowerlayerdown"),
    (4, "testing"),
    (5, "dormant"),
    (6, "up"),
];

/// `IFA_F_*`, `include/uapi/linux/if_addr.h`.
pub const ADDRESS_FLAGS: &[(u32, &str)] = &[
    (0x01, "secondary"),
    (0x02, "nodad"),
    (0x04, "optimistic"),
    (0x08, "dadfailed"),
    (0x10, "homeaddress"),
    (0x20, "deprecated"),
    (0x40, "tentative"),
    (0x80, "permanent"),
    (0x100, "managetempaddr"),
    (0x200, "noprefixroute"),
    (0x400, "mcautojoin"),
    (0x800, "stable_privacy"),
];

/// `rt_scope_t`, `include/uapi/linux/rtnetlink.h`.
pub const SCOPES: &[(u32, &str)] = &[
    (0, "global"),
    (200, "site"),
    (253, "link"),
    (254, "host"),
    (255, "nowhere"),
];

/// `RTPROT_*`, `include/uapi/linux/rtnetlink.h`.
pub const PROTOCOLS: &[(u32, &str)] = &[
    (0, "unspec"),
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (8, "gated"),
    (9, "ra"),
    (10, "mrt"),
    (11, "zebra"),
    (12, "bird"),
    (13, "dnrouted"),
    (14, "xorp"),
    (15, "ntk"),
    (16, "dhcp"),
    (17, "mrouted"),
    (18, "keepalived"),
    (42, "babel"),
    (99, "openr"),
    (186, "bgp"),
    (187, "isis"),
    (188, "ospf"),
    (189, "rip"),
    (192, "eigrp"),
];

/// `RTN_*`, `include/uapi/linux/rtnetlink.h`.
pub const ROUTE_KINDS: &[(u32, &str)] = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
    (9, "throw"),
    (10, "nat"),
    (11, "xresolve"),
];

/// `rt_class_t`, `include/uapi/linux/rtnetlink.h`.
pub const TABLES: &[(u32, &str)] = &[
    (0, "unspec"),
    (252, "compat"),
    (253, "default"),
    (254, "main"),
    (255, "local"),
];

/// `RTNH_F_*` and `RTM_F_*`, `include/uapi/linux/rtnetlink.h`.
pub const ROUTE_FLAGS: &[(u32, &str)] = &[
    (0x01, "dead"),
    (0x02, "pervasive"),
    (0x04, "onlink"),
    (0x08, "offload"),
    (0x10, "linkdown"),
    (0x20, "unresolved"),
    (0x40, "trap"),
    (0x200, "cloned"),
    (0x4000, "rt_offload"),
    (0x8000, "rt_trap"),
];

/// `FR_ACT_*`, `include/uapi/linux/fib_rules.h`.
pub const ACTIONS: &[(u32, &str)] = &[
    (0, "unspec"),
    (1, "lookup"),
    (2, "goto"),
    (3, "nop"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];

/// `NUD_*`, `include/uapi/linux/neighbour.h`.
pub const NEIGHBOUR_STATES: &[(u32, &str)] = &[
    (0x01, "incomplete"),
    (0x02, "reachable"),
    (0x04, "stale"),
    (0x08, "delay"),
    (0x10, "probe"),
    (0x20, "failed"),
    (0x40, "noarp"),
    (0x80, "permanent"),
];

/// `NTF_*`, `include/uapi/linux/neighbour.h`.
pub const NEIGHBOUR_FLAGS: &[(u32, &str)] = &[
    (0x01, "use"),
    (0x02, "self"),
    (0x04, "master"),
    (0x08, "proxy"),
    (0x10, "ext_learned"),
    (0x20, "offloaded"),
    (0x40, "sticky"),
    (0x80, "router"),
];

/// Address families of routing, `include/linux/socket.h` and `include/uapi/linux/rtnetlink.h`.
pub const FAMILIES: &[(u32, &str)] = &[
    (2, "ipv4"),
    (7, "bridge"),
    (10, "ipv6"),
    (28, "mpls"),
    (128, "ipmr"),
    (129, "ip6mr"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_keeps_its_number() {
        assert_eq!(
            bits(0x8000_0101, LINK_FLAGS),
            ["UP", "PROMISC", "0x80000000"]
        );
        assert_eq!(
            (number(254, TABLES), number(100, TABLES)),
            ("main".to_owned(), "100".to_owned())
        );
    }
}
