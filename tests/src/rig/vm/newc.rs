//! Writes the archive that the kernel unpacks as its first file system: cpio's "newc", see the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst. No program and no rights are needed.

/// An archive under way.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const TEXT: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

impl Archive {
    /// A folder; the one above it comes before it.
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    /// A file that can be run.
    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, (0, 0), content);
    }

    /// A file.
    pub(super) fn text(&mut self, path: &str, content: &[u8]) {
        self.entry(path, TEXT, (0, 0), content);
    }

    /// A character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[]);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file of less than 4 GiB");
        let name = u32::try_from(path.len() + 1).expect("a short path");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").into_bytes());
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn bsdtar_reads_what_was_written() {
        let Ok(bsdtar) = super::super::super::need("bsdtar") else {
            return super::super::super::skip_or_fail("bsdtar is not installed");
        };
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.program("bin/odd", b"12345");
        archive.text("empty", b"");
        archive.device("console", 5, 1);
        let mut child = Command::new(bsdtar)
            .args(["-tvf", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&archive.finish()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let list = String::from_utf8(output.stdout).unwrap();
        let found: Vec<Vec<&str>> = list
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let row = |name: &str| {
            let row = found.iter().find(|row| row.last() == Some(&name));
            row.unwrap_or_else(|| panic!("no {name} in {list}"))
        };
        assert_eq!(row("bin")[0], "drwxr-xr-x");
        assert_eq!((row("bin/odd")[0], row("bin/odd")[4]), ("-rwxr-xr-x", "5"));
        assert_eq!(row("empty")[4], "0");
        assert_eq!(
            (row("console")[0], row("console")[4]),
            ("crw-------", "5,1")
        );
    }
}
