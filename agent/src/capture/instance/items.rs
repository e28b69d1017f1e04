//! What of the metadata is asked for: an explicit list, so that nothing is asked for by accident.
//!
//! EC2 User Guide, "Instance metadata categories". Left out on purpose: `iam/security-credentials/ROLE` and
//! `identity-credentials/`, which hold keys.

/// Below [`ROOT`], as they are.
pub const PLAIN: &[&str] = &[
    "ami-id",
    "ami-launch-index",
    "ami-manifest-path",
    "ancestor-ami-ids",
    "autoscaling/target-lifecycle-state",
    "events/maintenance/history",
    "events/maintenance/scheduled",
    "events/recommendations/rebalance",
    "hibernation/configured",
    "hostname",
    "iam/info",
    "instance-action",
    "instance-id",
    "instance-life-cycle",
    "instance-type",
    "ipv6",
    "kernel-id",
    "local-hostname",
    "local-ipv4",
    "mac",
    "placement/availability-zone",
    "placement/availability-zone-id",
    "placement/group-name",
    "placement/host-id",
    "placement/partition-number",
    "placement/region",
    "product-codes",
    "public-hostname",
    "public-ipv4",
    "ramdisk-id",
    "reservation-id",
    "security-groups",
    "services/domain",
    "services/partition",
    "spot/instance-action",
    "spot/termination-time",
    "system",
];

/// Folders that list names, and what is asked for below each name; nothing where the names alone are wanted.
pub const LISTS: &[(&str, &[&str])] = &[
    ("block-device-mapping", &[""]),
    ("tags/instance", &[""]),
    // The name of the role, and nothing below it.
    ("iam/security-credentials", &[]),
    ("public-keys", &[]),
    (
        "network/interfaces/macs",
        &[
            "/device-number",
            "/interface-id",
            "/ipv4-prefix",
            "/ipv6-prefix",
            "/ipv6s",
            "/local-hostname",
            "/local-ipv4s",
            "/mac",
            "/network-card",
            "/owner-id",
            "/public-hostname",
            "/public-ipv4s",
            "/security-group-ids",
            "/security-groups",
            "/subnet-id",
            "/subnet-ipv4-cidr-block",
            "/subnet-ipv6-cidr-blocks",
            "/vpc-id",
            "/vpc-ipv4-cidr-block",
            "/vpc-ipv4-cidr-blocks",
            "/vpc-ipv6-cidr-blocks",
        ],
    ),
];

pub const ROOT: &str = "/latest/meta-data/";

/// What proves which instance it is: each is kept as it is, and is a member of its own.
pub const IDENTITY: &[&str] = &["document", "pkcs7", "rsa2048", "signature"];
pub const IDENTITY_ROOT: &str = "/latest/dynamic/instance-identity/";
pub const USER_DATA: &str = "/latest/user-data";

/// Most names of a list that are asked for: an instance has 15 interfaces and 50 tags at most, and some dozens of disks.
const MOST: usize = 128;

/// The names in the answer of a folder, and whether some were left out.
pub fn names(listing: &[u8]) -> (Vec<String>, bool) {
    let text = String::from_utf8_lossy(listing);
    let names = text
        .lines()
        .map(|line| line.trim().trim_end_matches('/'))
        .filter(|name| !name.is_empty());
    // A name is a part of a path: whatever could be more than that is not asked for.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=+@".contains(&byte);
    let is_plain =
        |name: &&str| name.len() <= 128 && !name.starts_with('.') && name.bytes().all(plain);
    let all = names.clone().count();
    let kept: Vec<String> = names
        .filter(is_plain)
        .take(MOST)
        .map(str::to_owned)
        .collect();
    let left_out = kept.len() < all;
    (kept, left_out)
}

#[cfg(test)]
mod tests {
    use super::super::service::holds_credentials;
    use super::*;

    #[test]
    fn nothing_on_the_list_holds_credentials() {
        for name in PLAIN {
            assert!(!holds_credentials(&format!("{ROOT}{name}")), "{name}");
        }
        for (folder, fields) in LISTS {
            let below = fields
                .iter()
                .map(|field| format!("{ROOT}{folder}/x{field}"));
            assert!(
                !below.into_iter().any(|path| holds_credentials(&path)),
                "{folder}"
            );
        }
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        let (names, left_out) = names(b"0e:49:61:0f:c3:11/\nName\n\n../../iam/security-credentials/role\na/b\na b\n.\na%2Fb\n");
        assert_eq!(names, ["0e:49:61:0f:c3:11", "Name"]);
        assert!(left_out);
        assert!(!super::names(b"ami\nroot").1);
        assert_eq!(super::names("x\n".repeat(1000).as_bytes()).0.len(), MOST);
    }
}
