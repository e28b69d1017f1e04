//! What is refused, what is completed, and what stands in the lists.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

fn case() -> CaseId {
    "IR-7".parse().unwrap()
}

fn info() -> Info {
    vec![("External-Identifier", "IR-7".into())]
}

fn put(folder: &Path, name: &str, bytes: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// An unfinished bag with a payload.
fn bag() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    begin(folder.path(), &case(), &info()).unwrap();
    put(folder.path(), "data/custody/000000.json", "{}\n");
    put(folder.path(), "data/i-1/c-1/CHAIN", "chain\n");
    folder
}

fn keys() -> BTreeSet<String> {
    ["custody/000000.json", "i-1/c-1/CHAIN"]
        .map(str::to_owned)
        .into()
}

#[test]
fn a_folder_with_anything_else_is_refused_and_left_alone() {
    let stray = |name: &'static str| move |folder: &Path| put(folder, name, "x");
    type Change = Box<dyn Fn(&Path)>;
    let changes: Vec<(&str, Change)> = vec![
        ("thesis.txt", Box::new(stray("thesis.txt"))),
        ("data/notes.txt", Box::new(stray("data/notes.txt"))),
        (
            "data/i-1/c-1/CHAIN.bak",
            Box::new(stray("data/i-1/c-1/CHAIN.bak")),
        ),
        (
            "data/custody/0.json",
            Box::new(stray("data/custody/0.json")),
        ),
        ("tagmanifest-sha256.txt", Box::new(stray(TAG_MANIFEST))),
        (
            "another case",
            Box::new(|folder| put(folder, INFO, "External-Identifier: IR-77\n")),
        ),
        (
            "no case",
            Box::new(|folder| fs::remove_file(folder.join(INFO)).unwrap()),
        ),
        (
            "a link",
            Box::new(|folder| symlink("/etc", folder.join("data/i-2")).unwrap()),
        ),
        (
            "a link as tag",
            Box::new(|folder| symlink("/etc/passwd", folder.join(ONTOLOGY)).unwrap()),
        ),
        (
            "a folder as tag",
            Box::new(|folder| fs::create_dir(folder.join(MANIFEST)).unwrap()),
        ),
        (
            "a link as payload",
            Box::new(|folder| {
                fs::remove_dir_all(folder.join(DATA)).unwrap();
                symlink("/etc", folder.join(DATA)).unwrap();
            }),
        ),
    ];
    for (what, change) in changes {
        let folder = bag();
        change(folder.path());
        let before = fs::read(folder.path().join(DECLARATION)).unwrap();
        let refused = begin(folder.path(), &case(), &vec![]).unwrap_err();
        assert_eq!(refused.exit, Exit::Target, "{what}");
        assert_eq!(fs::read(folder.path().join(DECLARATION)).unwrap(), before);
        let info = fs::read_to_string(folder.path().join(INFO));
        assert!(info.is_err() || info.unwrap().contains("IR-7"), "{what}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(look(file.path(), &case()).unwrap_err().exit, Exit::Target);
}

#[test]
fn what_an_interruption_leaves_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    assert!(!look(&new, &case()).unwrap() && !new.exists());
    assert!(!look(folder.path(), &case()).unwrap());
    put(folder.path(), "bag-info.txt.part", "External");
    assert!(!look(folder.path(), &case()).unwrap());

    let folder = bag();
    for name in [
        "manifest-sha256.txt",
        "tagmanifest-sha256.txt.part",
        "case.jsonld.part",
        "data/i-1/c-1/CHAIN.part",
        "data/custody/000001.json.part",
    ] {
        put(folder.path(), name, "half");
    }
    assert!(look(folder.path(), &case()).unwrap());
    begin(folder.path(), &case(), &info()).unwrap();
    assert!(
        !folder.path().join(MANIFEST).exists(),
        "it is a bag again too early"
    );
}

#[test]
fn the_payload_is_what_belongs_to_the_case_and_nothing_else() {
    let folder = bag();
    let payload = super::payload(folder.path(), &keys(), &|_| {}).unwrap();
    let sizes: Vec<(&str, u64)> = payload.iter().map(|e| (e.path.as_str(), e.bytes)).collect();
    assert_eq!(sizes, [("custody/000000.json", 3), ("i-1/c-1/CHAIN", 6)]);
    assert_eq!(payload[1].sha256, Digest::of(b"chain\n"));

    put(folder.path(), "data/custody/000001.json", "{}\n");
    let refused = super::payload(folder.path(), &keys(), &|_| {}).unwrap_err();
    assert!(refused.message.contains("custody/000001.json"), "{refused}");
    fs::remove_file(folder.path().join("data/custody/000001.json")).unwrap();
    fs::remove_file(folder.path().join("data/i-1/c-1/CHAIN")).unwrap();
    let lacks = super::payload(folder.path(), &keys(), &|_| {}).unwrap_err();
    assert!(lacks.message.contains("i-1/c-1/CHAIN"), "{lacks}");
}

#[test]
fn a_finished_bag_lists_its_payload_and_its_descriptions() {
    let folder = bag();
    let payload = super::payload(folder.path(), &keys(), &|_| {}).unwrap();
    write(folder.path(), ONTOLOGY, |out| out.write_all(b"{}\n")).unwrap();
    finish(folder.path(), &info(), &payload).unwrap();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let chain = Digest::of(b"chain\n");
    assert!(text(MANIFEST).ends_with(&format!("{chain}  data/i-1/c-1/CHAIN\n")));
    let tags = text(TAG_MANIFEST);
    for name in TAGS {
        let line = format!("{}  {name}\n", Digest::of(text(name).as_bytes()));
        assert!(tags.contains(&line), "{line} in {tags}");
    }
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, TAGS.len() + 2, "something is left over");
    assert_eq!(look(folder.path(), &case()).unwrap_err().exit, Exit::Target);
}

#[test]
fn no_value_makes_a_line_and_no_path_either() {
    let mut out = Vec::new();
    let info = vec![(
        "External-Description",
        "a\r\nPayload-Oxum: 0.0\u{85}\n \u{2028}b\u{2029}".to_owned(),
    )];
    write_info(&mut out, &info).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text, "External-Description: a  Payload-Oxum: 0.0    b\n");
    assert_eq!(encode("a%0A\r\nb\u{e9} c"), "a%250A%0D%0Ab\u{e9} c");
}
