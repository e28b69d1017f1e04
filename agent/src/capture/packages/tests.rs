//! Roots with the databases of each manager, and files that are, and are not, what they say.

use std::os::unix::fs::{PermissionsExt, symlink};

use md5::Digest as _;
use serde_json::Value;

use super::*;
use crate::capture::rehearsal::{Rehearsed, rehearse};
use evidence::manifest::Outcome;

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn mode(&self, path: &str, mode: u32) -> &Self {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.0.path().join(path), permissions).unwrap();
        self
    }

    fn link(&self, target: &str, path: &str) -> &Self {
        symlink(target, self.0.path().join(path)).unwrap();
        self
    }
}

fn integrity(root: &Root) -> Rehearsed {
    rehearse(&Integrity, root.0.path())
}

/// `path: what differs`, of each line.
fn differences(rehearsed: &Rehearsed) -> Vec<String> {
    let line = |line: &Value| {
        let differs: Vec<&str> = line["exhibit"]["differs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        format!(
            "{}: {}",
            line["file"]["path"].as_str().unwrap(),
            differs.join(" ")
        )
    };
    let mut lines: Vec<String> = rehearsed
        .table("packages/integrity")
        .iter()
        .map(line)
        .collect();
    lines.sort();
    lines
}

fn unowned(rehearsed: &Rehearsed) -> Vec<String> {
    let path = |line: &Value| line["file"]["path"].as_str().unwrap().to_owned();
    let mut paths: Vec<String> = rehearsed
        .table("packages/unowned")
        .iter()
        .map(path)
        .collect();
    paths.sort();
    paths
}

fn md5(content: &str) -> String {
    hex::encode(md5::Md5::digest(content))
}

/// A Debian with `/bin` as a link, a package that put `/usr/bin/tool` of another aside, and settings.
fn debian() -> Root {
    let root = Root::new();
    root.write("usr/bin/good", "#!/bin/sh\ngood\n")
        .write("usr/bin/tool", "#!/bin/sh\nnew\n")
        .write("usr/bin/tool.distrib", "#!/bin/sh\nold\n")
        .write("usr/bin/evil", "\x7fELF trojan")
        .write("usr/share/doc/x", "changed text")
        .write("etc/own.conf", "changed = 1\n")
        .write("usr/lib/stray.so", "\x7fELF")
        .link("usr/bin", "bin")
        .link("good", "usr/bin/alias");
    let sums = format!(
        "{}  bin/good\n{}  usr/bin/tool\n{}  bin/evil\n{}  usr/share/doc/x\n{}  usr/bin/gone\n",
        md5("#!/bin/sh\ngood\n"),
        md5("#!/bin/sh\nold\n"),
        md5("\x7fELF honest"),
        md5("text"),
        md5("")
    );
    root.write("var/lib/dpkg/info/base:amd64.md5sums", sums);
    let list = "/.\n/bin\n/bin/good\n/usr/bin/tool\n/bin/evil\n/usr/bin/alias\n/usr/share/doc/x\n/usr/bin/gone\n/etc/own.conf\n";
    root.write("var/lib/dpkg/info/base:amd64.list", list);
    root.write(
        "var/lib/dpkg/info/other.md5sums",
        format!("{}  usr/bin/tool\n", md5("#!/bin/sh\nnew\n")),
    );
    root.write(
        "var/lib/dpkg/diversions",
        "/usr/bin/tool\n/usr/bin/tool.distrib\nother\n",
    );
    let status = format!(
        "Package: base\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nConffiles:\n /etc/own.conf {}\n /etc/hook newconffile remove-on-upgrade\n\nPackage: other\nStatus: install ok installed\nVersion: 2\n\nPackage: left\nStatus: deinstall ok config-files\nVersion: 3\nConffiles:\n /etc/left.conf {}\n",
        md5("own = 1\n"),
        md5("x")
    );
    root.write("var/lib/dpkg/status", status);
    root
}

#[test]
fn a_debian_is_compared_through_links_and_diversions() {
    let root = debian();
    let rehearsed = integrity(&root);
    assert_eq!(rehearsed.report.outcome, Outcome::Captured);
    assert_eq!(
        differences(&rehearsed),
        [
            "/etc/own.conf: content",
            "/usr/bin/evil: content",
            "/usr/bin/gone: missing",
            "/usr/share/doc/x: content",
        ]
    );
    assert_eq!(unowned(&rehearsed), ["/usr/lib/stray.so"]);
    let totals = &rehearsed.table("packages/totals")[0];
    let number = |name: &str| totals[name].as_u64().unwrap();
    assert_eq!(
        [
            "packages",
            "modified",
            "modified_settings",
            "missing",
            "unowned"
        ]
        .map(number),
        [3, 2, 1, 1, 1]
    );
    let findings = rehearsed.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0]["path"], "/usr/bin/evil");
    assert_eq!(
        rehearsed.members["[root]/usr/bin/evil"], b"\x7fELF trojan",
        "the changed program is evidence"
    );
    assert!(!rehearsed.members.contains_key("[root]/usr/share/doc/x"));
}

#[test]
fn packages_are_listed_in_the_order_of_their_database() {
    let rehearsed = rehearse(&Packages, debian().0.path());
    let names: Vec<Value> = rehearsed
        .table("packages/packages")
        .iter()
        .map(|line| line["package"]["name"].clone())
        .collect();
    assert_eq!(names, ["base", "other", "left"]);
}

#[test]
fn no_database_is_absent_and_not_everything_unowned() {
    let root = Root::new();
    root.write("usr/bin/x", "");
    for artifact in [&Packages as &dyn Artifact, &Integrity] {
        let rehearsed = rehearse(artifact, root.0.path());
        assert_eq!(rehearsed.report.outcome, Outcome::Absent);
        assert_eq!(unowned(&rehearsed), [""; 0]);
    }
    root.write("var/lib/rpm/Packages", "not a database");
    let rehearsed = integrity(&root);
    assert_eq!(rehearsed.report.outcome, Outcome::Partial);
    assert_eq!(unowned(&rehearsed), [""; 0]);
}

/// What rpm installed in the root that the fixture was made in.
fn red_hat() -> Root {
    let root = Root::new();
    let fixture: &[u8] = include_bytes!("../../../tests/fixtures/packages/rpmdb.sqlite.zst");
    root.write(
        "usr/lib/sysimage/rpm/rpmdb.sqlite",
        zstd::decode_all(fixture).unwrap(),
    );
    root.write("usr/bin/tiny", "#!/bin/sh\necho tiny\n")
        .write("etc/tiny.conf", "a = 1\n")
        .write("usr/share/tiny/data", "data\n")
        .link("data", "usr/share/tiny/link")
        .mode("usr/bin/tiny", 0o755)
        .mode("etc/tiny.conf", 0o644)
        .mode("usr/share/tiny/data", 0o644);
    for number in 1..=300 {
        let path = format!("usr/share/large/a-rather-long-name-of-a-file-{number}");
        root.write(&path, format!("{number}\n")).mode(&path, 0o644);
    }
    for folder in ["usr/share/large", "usr/share/tiny"] {
        root.mode(folder, 0o755);
    }
    root.write("etc/passwd", "me:x:0:0::/:/bin/sh\n");
    root
}

/// The fixture's files are root's; those of a test are of whoever runs it.
fn owners(root: &Root) {
    use std::os::unix::fs::MetadataExt;
    let made = std::fs::metadata(root.0.path().join("usr/bin/tiny")).unwrap();
    root.write(
        "etc/passwd",
        format!("root:x:{}:0::/:/bin/sh\n", made.uid()),
    )
    .write("etc/group", format!("root:x:{}:\n", made.gid()));
}

#[test]
fn a_red_hat_as_installed_has_nothing_to_tell() {
    let root = red_hat();
    owners(&root);
    let rehearsed = integrity(&root);
    assert_eq!(differences(&rehearsed), [""; 0]);
    assert_eq!(
        unowned(&rehearsed),
        [
            "/etc/group",
            "/etc/passwd",
            "/usr/lib/sysimage/rpm/rpmdb.sqlite"
        ]
    );
    assert_eq!(rehearsed.table("packages/totals")[0]["hashed"], 303);
}

#[test]
fn a_red_hat_that_was_tampered_with_is_told_of() {
    let root = red_hat();
    owners(&root);
    root.write("usr/bin/tiny", "#!/bin/sh\necho evil\n")
        .mode("usr/bin/tiny", 0o4755)
        .mode("usr/share/large/a-rather-long-name-of-a-file-7", 0o666)
        .write("usr/bin/rootshell", "\x7fELF")
        .mode("usr/bin/rootshell", 0o4755)
        .write("usr/lib/security/pam_x.so", "\x7fELF")
        .write("etc/ld.so.preload", "/x.so\n");
    std::fs::remove_file(root.0.path().join("usr/share/tiny/link")).unwrap();
    root.link("/etc/shadow", "usr/share/tiny/link");
    let rehearsed = integrity(&root);
    assert_eq!(
        differences(&rehearsed),
        [
            "/usr/bin/tiny: mode content",
            "/usr/share/large/a-rather-long-name-of-a-file-7: mode",
            "/usr/share/tiny/link: link",
        ]
    );
    let mut rules: Vec<String> = rehearsed
        .findings()
        .iter()
        .map(|finding| finding["rule"].as_str().unwrap().to_owned())
        .collect();
    rules.sort();
    assert_eq!(
        rules,
        [
            "package-file-modified",
            "unowned-pam-module",
            "unowned-preload",
            "unowned-setuid"
        ]
    );
}

#[test]
fn an_alpine_is_compared_by_its_own_digests() {
    use base64::Engine as _;
    let sha1 = |content: &str| {
        let digest = sha1::Sha1::digest(content);
        format!(
            "Q1{}",
            base64::engine::general_purpose::STANDARD.encode(digest)
        )
    };
    let root = Root::new();
    root.write("bin/busybox", "busy").mode("bin/busybox", 0o755);
    root.link("busybox", "bin/sh").link("/tmp/x", "bin/ls");
    let text = format!(
        "C:Q1x\nP:busybox\nV:1.36\nA:x86_64\nT:tools\nF:bin\nR:busybox\na:0:0:755\nZ:{}\nR:sh\na:0:0:777\nZ:{}\nR:ls\na:0:0:777\nZ:{}\n\nP:musl\nV:1\n",
        sha1("busy"),
        sha1("busybox"),
        sha1("/bin/busybox")
    );
    root.write("lib/apk/db/installed", text);
    let rehearsed = integrity(&root);
    assert_eq!(differences(&rehearsed), ["/bin/ls: type"]);
    assert_eq!(rehearsed.table("packages/totals")[0]["packages"], 2);
}
