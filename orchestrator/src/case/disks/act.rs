//! What was asked for, and what the journal says was done.

use serde::{Deserialize, Serialize};

/// The disks of an instance that were asked for, fixed when they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRequest {
    /// Eight hexadecimal digits.
    pub id: String,
    /// Name of the instance's account in the configuration, and its id.
    pub account: String,
    pub account_id: String,
    pub region: String,
    pub instance: String,
    /// Account and region that get the copies.
    pub forensic_account: String,
    pub forensic_region: String,
    /// The volumes that were attached.
    pub volumes: Vec<Volume>,
    /// Disks that no snapshot will have, with the reason.
    pub uncovered: Vec<Uncovered>,
}

impl DiskRequest {
    /// Whether the copies go to another account, which the snapshots have to be shared with.
    pub fn shares(&self) -> bool {
        self.forensic_account != self.account_id
    }
}

/// A volume that a snapshot can be made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: String,
    /// `/dev/sda1`; empty when it was attached after the request.
    pub device: String,
    /// Whether the instance boots from it.
    pub root: bool,
    pub size_gib: u32,
    /// ARN of its key; none when it is in clear.
    pub key: Option<String>,
    /// Whether it has to be encrypted anew before it can be shared: it has the account's default key.
    pub reencrypt: bool,
}

/// A disk without a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncovered {
    pub what: String,
    pub why: String,
}

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Of the volume itself, in the account of the instance.
    Original,
    /// Of the original, under a key that can be shared; deleted once there is a copy.
    Shareable,
    /// In the forensic account, under its key.
    Copy,
}

impl Role {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Shareable => "shareable",
            Self::Copy => "copy",
        }
    }
}

/// What is done with a snapshot that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    LockOriginal,
    Share,
    LockCopy,
    Verify,
    UnlockOriginal,
    DeleteShareable,
}

impl Deed {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::LockOriginal => "lock the original",
            Self::Share => "share the snapshot",
            Self::LockCopy => "lock the copy",
            Self::Verify => "verify the copy",
            Self::UnlockOriginal => "unlock the original",
            Self::DeleteShareable => "delete the snapshot in between",
        }
    }
}

/// One entry of the journal about snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// Snapshots are about to be made: from here on they may be there, whether or not `Made` follows.
    Making {
        role: Role,
        /// By which they are found again; counts up within the request.
        number: u32,
        volumes: Vec<String>,
        /// The key that they get, if it is another than the source's.
        key: Option<String>,
    },
    /// They are there. A volume of `Making` that is not among them has none.
    Made {
        role: Role,
        number: u32,
        snapshots: Vec<Made>,
    },
    /// Something is about to be done with one that is there.
    Doing {
        volume: String,
        deed: Deed,
        snapshot: String,
    },
    /// Nobody can delete it before that time. While EC2 is making it, the days have not begun to count.
    Locked {
        volume: String,
        role: Role,
        snapshot: String,
        mode: String,
        /// RFC 3339, UTC.
        until: String,
    },
    /// Another account can copy it.
    Shared {
        volume: String,
        snapshot: String,
        with: String,
    },
    /// EC2 says that the copy is finished, and it has the size, the key and the owner that it has to have.
    Verified {
        volume: String,
        snapshot: String,
        size_gib: u32,
        key: String,
        /// Bytes of all blocks that were ever written, as EC2 counts them.
        full_bytes: Option<i64>,
        /// The lock that it had then: its state, and until when.
        lock: String,
        until: String,
    },
    /// The original may be deleted again: there is a copy.
    Unlocked { volume: String, snapshot: String },
    /// What stood between original and copy is gone.
    Deleted { volume: String, snapshot: String },
    /// The way of a volume ends here until it is tried again.
    Failed {
        volume: String,
        role: Role,
        /// None: the snapshot itself.
        deed: Option<Deed>,
        /// Word of the exit code.
        code: String,
        why: String,
    },
    /// The responder wants what failed to be tried again.
    Retried,
    /// The responder wants no more of it. What is there stays there.
    GivenUp,
}

/// A snapshot that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub volume: String,
    pub snapshot: String,
    /// The snapshot that it is a copy of.
    pub source: Option<String>,
    /// The moment that it is of, by EC2: RFC 3339, UTC.
    pub started: Option<String>,
    pub size_gib: u32,
    pub encrypted: bool,
}
