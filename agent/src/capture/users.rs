//! Names of users, from the host's passwd file read as a file: `getpwuid` would load the host's libraries.

use std::collections::BTreeMap;

use crate::host::{Host, SMALL};

/// Names by user id.
#[derive(Debug, Default)]
pub struct Users(BTreeMap<u32, String>);

impl Users {
    /// The users of `/etc/passwd`; none when it can not be read.
    pub fn read(host: &Host) -> Self {
        host.root()
            .read("etc/passwd", SMALL)
            .map(|content| Self::parse(&content.bytes))
            .unwrap_or_default()
    }

    /// The users of a passwd file. Where two share an id, the first counts, as for the C library.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut names = BTreeMap::new();
        for line in String::from_utf8_lossy(bytes).lines() {
            let mut fields = line.split(':');
            if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
                names.entry(id).or_insert_with(|| name.to_owned());
            }
        }
        Self(names)
    }

    /// The name of the user with this id.
    pub fn name(&self, id: u32) -> Option<String> {
        self.0.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::Users;

    #[test]
    fn the_first_name_of_an_id_counts_and_junk_is_passed_over() {
        let users = Users::parse(
            b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n\n# junk\nbad:x:-1:0\nx\n",
        );
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(1), None);
    }
}
