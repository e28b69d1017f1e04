//! Names of things in the description: the same thing of the same case has the same name in every export.

use sha1::{Digest as _, Sha1};

use evidence::custody::Record;

/// Namespace of URLs, and other URIs (RFC 9562, 6.6).
const NAMESPACE: [u8; 16] = [
    0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
];

/// The names of a case.
#[derive(Debug)]
pub(super) struct Names(String);

impl Names {
    /// Of the case that begins with this record: another case with the same id has other names.
    pub(super) fn of(first: Option<&Record>) -> Self {
        let hash = first.and_then(|record| record.hash().ok());
        Self(hash.map_or_else(String::new, |hash| hash.to_string()))
    }

    /// The name of a thing: what kind it is of, and which of that kind.
    pub(super) fn name(&self, kind: &str, which: &str) -> String {
        format!(
            "urn:uuid:{}",
            uuid(&format!("urn:exhibit:{}:{kind}:{which}", self.0))
        )
    }
}

/// UUID of version 5 (RFC 9562, 5.5): a name, and no proof of anything.
fn uuid(text: &str) -> String {
    let hash = Sha1::new()
        .chain_update(NAMESPACE)
        .chain_update(text)
        .finalize();
    let hex = hex::encode(hash);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    // The first two bits of the fourth group are 1 and 0.
    let variant = u8::from_str_radix(part(16, 17), 16).unwrap_or_default() & 3 | 8;
    format!(
        "{}-{}-5{}-{variant:x}{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_the_one_that_others_make() {
        // python3 -c "import uuid; print(uuid.uuid5(uuid.NAMESPACE_URL, 'urn:exhibit:a'))"
        assert_eq!(
            uuid("urn:exhibit:a"),
            "cea3a5a1-0fc2-53e5-a057-adbce03a4ca5"
        );
    }

    #[test]
    fn kinds_and_cases_do_not_share_names() {
        let names = Names::of(None);
        assert_eq!(names.name("host", "i-1"), names.name("host", "i-1"));
        assert_ne!(names.name("host", "i-1"), names.name("file", "i-1"));
        assert_ne!(
            names.name("host", "i-1"),
            Names("x".into()).name("host", "i-1")
        );
    }
}
