//! Reads kernel structures out of bytes, never past their end. Numbers are in the host's byte order.

/// A place in bytes that moves as they are read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_ne_bytes)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    /// A number in network byte order, such as a port.
    pub fn be16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }
}

/// The number in a whole attribute; `None` when it has another size.
pub fn u32_of(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// As [`u32_of`], of eight bytes.
pub fn u64_of(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_ne_bytes)
}

/// Text up to the first NUL, as the kernel's names come.
pub fn text_of(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// Attributes behind a structure: `struct nlattr`, `include/uapi/linux/netlink.h`. One that claims to be longer than what
/// is there ends them.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(Reader<'a>);

/// `NLA_TYPE_MASK`: the two bits above say "nested" and "network byte order".
const TYPE_MASK: u16 = 0x3FFF;

impl<'a> Attributes<'a> {
    /// The attributes in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(self.0.u16()?);
        let kind = self.0.u16()? & TYPE_MASK;
        let value = self.0.take(length.checked_sub(4)?)?;
        // The last one may come without its padding.
        let padding = length.next_multiple_of(4) - length;
        self.0.take(padding.min(self.0.rest().len()))?;
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_end_where_one_lies_about_its_length() {
        let mut bytes = Vec::new();
        for (length, kind) in [(5_u16, 1_u16), (4, 0x8002), (200, 3)] {
            bytes.extend(length.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(if length == 5 { &b"a\0\0\0"[..] } else { b"" });
        }
        let found: Vec<_> = Attributes::new(&bytes).collect();
        assert_eq!(found, [(1, &b"a"[..]), (2, b"")]);
        for cut in 0..bytes.len() {
            assert!(Attributes::new(&bytes[..cut]).count() <= 2);
        }
        assert_eq!(
            Attributes::new(&[3, 0, 1, 0, 9, 9]).count(),
            0,
            "shorter than its own header"
        );
    }

    #[test]
    fn names_end_at_their_nul() {
        assert_eq!(text_of(b"eth0\0x"), "eth0");
        assert_eq!(text_of(b"a\xff"), "a\u{fffd}");
        assert_eq!(u32_of(&[0; 3]), None);
    }
}
