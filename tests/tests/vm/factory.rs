//! The factory of LiME modules: what it says of a module is true, what fails is named, what is wrong is not signed.

use std::path::Path;
use std::process::{Command, Output};

use exhibit_tests::rig::or_skip;
use exhibit_tests::rig::vm::{Kernel, Modules, factory};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn sign(key: &Path, store: &Path) -> Output {
    let script = factory().with_file_name("sign");
    Command::new(script).arg(key).arg(store).output().unwrap()
}

#[test]
fn the_index_says_what_the_module_is() {
    let Some(kernel) = or_skip(Kernel::ensure()) else {
        return;
    };
    let index = std::fs::read(kernel.store().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["index_version"], 1);
    let rows = index["modules"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{index}");
    let row = &rows[0];
    let release = kernel.release();
    assert_eq!(
        (&row["release"], &row["architecture"]),
        (&release.into(), &"x86_64".into())
    );
    let module = std::fs::read(kernel.store().join(row["path"].as_str().unwrap())).unwrap();
    assert_eq!(row["sha256"], hex::encode(Sha256::digest(&module)));
    assert_eq!(row["bytes"], module.len());
    let vermagic = row["vermagic"].as_str().unwrap();
    assert!(vermagic.starts_with(&format!("{release} ")), "{vermagic}");
    let package = row["package"].as_str().unwrap();
    assert!(
        package.starts_with(&format!("linux-headers-{release} ")),
        "{package}"
    );
    // Debian's LiME is older than the one that survives pages which are not mapped.
    assert!(
        row["lime_version"].as_str().unwrap().starts_with("1.9.1"),
        "{row}"
    );
    assert_eq!(row["fault_safe"], false);
}

#[test]
fn a_target_that_fails_is_named_and_the_next_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("lime.h"), "").unwrap();
    std::fs::write(path("text"), "").unwrap();
    let list = "# two that can not be built\n\
                rhel 1.0-absent x86_64 unsigned=accept file=absent.rpm\n\n\
                debian 2.0-other x86_64 file=text # neither kind\n\
                debian 3.0 m68k";
    std::fs::write(path("targets"), list).unwrap();
    let output = Command::new(factory())
        .args(["--targets", "targets", "--out", "store", "--source", "."])
        .args(["--lime-version", "none"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for said in [
        "rhel 1.0-absent x86_64: failed",
        "debian 2.0-other x86_64: failed",
        "text is neither a .deb nor a .rpm",
        "debian 3.0 m68k: failed",
        "3 targets failed",
    ] {
        assert!(stderr.contains(said), "no \"{said}\" in {stderr}");
    }
    let index = std::fs::read_to_string(path("store/index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["modules"], Value::Array(Vec::new()));
}

#[test]
fn what_the_index_does_not_describe_is_not_signed() {
    let Some(kernel) = or_skip(Kernel::ensure()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (store, key) = (folder.path().join("store"), folder.path().join("key.pem"));
    let modules = Modules::new(&kernel, folder.path()).unwrap();
    modules.write(&store, |_| ()).unwrap();
    assert!(sign(&key, &store).status.success());

    let signature = store.join("index.json.sig");
    std::fs::remove_file(&signature).unwrap();
    let module = store.join(kernel.release()).join("x86_64/lime.ko");
    std::fs::write(&module, "other").unwrap();
    assert!(!sign(&key, &store).status.success() && !signature.exists());

    modules.write(&store, |_| ()).unwrap();
    std::fs::remove_file(&signature).unwrap();
    let other = folder.path().join("p384.pem");
    let made = Command::new("openssl")
        .args(["ecparam", "-genkey", "-name", "secp384r1", "-noout", "-out"])
        .arg(&other)
        .status();
    assert!(made.unwrap().success());
    let refused = sign(&other, &store);
    assert!(!refused.status.success() && !signature.exists());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("P-256"),
        "{refused:?}"
    );
}
