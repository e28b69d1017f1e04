//! A case as a bag, before those who take it in: bagit, case_validate, and our own verification of the payload.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use exhibit_tests::rig::cloud::CloudFault;
use exhibit_tests::rig::judges::{bagit_refusal, case_refusal};
use exhibit_tests::rig::or_skip;
use serde_json::{Value, json};

use super::bench::files;
use super::{BUCKET, Bench};

/// A case `IR-7` with one sealed collection, and its instance.
fn sealed(bench: &mut Bench) -> String {
    let instance = bench.instance(&[("Name", "web-1")], |runner| runner);
    let reason = "alert \"1\"\nPayload-Oxum: 0.0";
    bench
        .run(&["case", "open", "IR-7", "--reason", reason])
        .expect(0);
    bench
        .run(&["collect", "--case", "IR-7", "--instance", &instance])
        .expect(0);
    bench.run(&["verify", "IR-7"]).expect(0);
    bench.run(&["seal", "IR-7"]).expect(0);
    instance
}

fn export(to: &Path) -> [&str; 5] {
    ["case", "export", "IR-7", "--to", to.to_str().unwrap()]
}

fn node(document: &Value, which: impl Fn(&Value) -> bool) -> Vec<&Value> {
    let graph = document["@graph"].as_array().unwrap();
    graph.iter().filter(|node| which(node)).collect()
}

#[test]
fn a_sealed_case_becomes_a_bag_that_the_judges_accept_and_no_other() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = sealed(&mut bench);
    let bag = bench.path("bag");

    let plan = bench.run(&[&export(&bag)[..], &["--dry-run"]].concat());
    let plan = plan.expect(0).json();
    assert!(
        plan["resumes"] == false && plan["bytes"].as_u64() > Some(0),
        "{plan}"
    );
    assert!(!bag.exists() && bench.events("IR-7", "exported").is_empty());

    let exported = bench.run(&export(&bag)).expect(0).json();
    let payload = files(&bag.join("data"));
    assert_eq!(exported["payload_files"], payload.len());
    let sizes = payload.iter().map(|file| file.metadata().unwrap().len());
    assert_eq!(exported["payload_bytes"], sizes.sum::<u64>());
    assert_eq!(exported["result"], "complete");
    assert_eq!(
        exported["collections"][0]["report"]["seal"]["state"],
        "trusted"
    );
    let info = fs::read_to_string(bag.join("bag-info.txt")).unwrap();
    for line in [
        "External-Identifier: IR-7",
        "External-Description: alert \"1\" Payload-Oxum: 0.0",
        "Contact-Name: ana",
    ] {
        assert!(info.lines().any(|found| found == line), "{line} in {info}");
    }

    // The payload is a copy as `fetch` makes it, and has the record of its own export.
    let record = bench.journal("IR-7").len() - 1;
    let record = fs::read(bag.join(format!("data/custody/{record:06}.json"))).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(
        record["event"],
        json!({"kind": "exported", "to": bag.to_str().unwrap()})
    );
    let manifest = payload.iter().find(|file| file.ends_with("manifest.json"));
    let collection = manifest.unwrap().parent().unwrap();
    let key = collection.join("pubkey.pem");
    let data = bag.join("data");
    let offline = [
        "verify",
        "--offline",
        data.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    bench.run(&offline).expect(0);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/verify.sh");
    let stock = Command::new("sh")
        .arg(script)
        .arg(collection)
        .arg(&key)
        .output()
        .unwrap();
    assert_eq!(stock.status.code(), Some(0), "{stock:?}");

    // What is finished stays as it is.
    let again = bench.run(&export(&bag)).expect(10);
    assert!(again.stderr.contains("finished bag"), "{}", again.stderr);
    assert_eq!(bench.events("IR-7", "exported").len(), 1);

    let path = bag.join("case.jsonld");
    let text = fs::read_to_string(&path).unwrap();
    says_what_happened(
        &serde_json::from_str(&text).unwrap(),
        &bench.journal("IR-7"),
        &instance,
    );
    let Some(refused) = or_skip(bagit_refusal(&bag)) else {
        return;
    };
    assert_eq!(refused, None);
    assert_eq!(or_skip(case_refusal(&path)).unwrap(), None);

    // Both can say no: to a byte that is another, a file more, a hash that is none, and a word that CASE does not have.
    let segment = collection.join("CHAIN");
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, [&bytes[..bytes.len() - 1], b"x"].concat()).unwrap();
    assert!(bagit_refusal(&bag).unwrap().unwrap().contains("CHAIN"));
    fs::write(&segment, bytes).unwrap();
    fs::write(data.join("more"), "").unwrap();
    assert!(bagit_refusal(&bag).unwrap().is_some());
    fs::remove_file(data.join("more")).unwrap();
    for (old, new) in [
        ("\"uco-types:hashMethod\":\"SHA256\",", ""),
        (
            "\"uco-action:startTime\":{\"@type\":\"xsd:dateTime\",",
            "\"uco-action:startTime\":{",
        ),
        ("\"uco-core:name\":\"IR-7\"", "\"uco-core:nane\":\"IR-7\""),
    ] {
        let broken = text.replacen(old, new, 1);
        assert_ne!(broken, text, "{old}");
        fs::write(&path, broken).unwrap();
        assert!(case_refusal(&path).unwrap().is_some(), "{new:?} for {old}");
        assert!(
            bagit_refusal(&bag)
                .unwrap()
                .unwrap()
                .contains("case.jsonld")
        );
    }
}

/// Each record is an act in its order, each file has a name, a size and a hash, and all of it is in the investigation.
fn says_what_happened(document: &Value, journal: &[Value], instance: &str) {
    let investigation = node(document, |node| {
        node["@type"] == "case-investigation:Investigation"
    });
    assert_eq!(
        investigation[0]["uco-core:description"],
        journal[0]["event"]["reason"]
    );
    let acts = node(document, |node| node["uco-action:startTime"].is_object());
    let acts: Vec<&&Value> = acts
        .iter()
        .filter(|act| act["uco-core:name"] != "collecting")
        .collect();
    assert_eq!(acts.len(), journal.len());
    for (act, record) in acts.iter().zip(journal) {
        assert_eq!(act["uco-core:name"], record["event"]["kind"]);
        assert_eq!(act["uco-action:startTime"]["@value"], record["time"]);
    }
    for pair in acts.windows(2) {
        assert_eq!(
            pair[1]["case-investigation:wasInformedBy"]["@id"],
            pair[0]["@id"]
        );
    }
    let host = node(document, |node| node["uco-core:name"] == *instance)[0];
    let words = host["uco-core:hasFacet"].to_string();
    for word in ["serialNumber", "hostname", "version"] {
        assert!(words.contains(word), "{word}: {host:#}");
    }
    let tools = node(document, |node| node["@type"] == "uco-tool:Tool");
    assert_eq!(tools.len(), 3, "{tools:#?}");
    let known: Vec<&Value> = node(document, |_| true)
        .iter()
        .map(|node| &node["@id"])
        .collect();
    for part in investigation[0]["uco-core:object"].as_array().unwrap() {
        assert!(known.contains(&&part["@id"]), "{part} is nowhere");
    }
}

#[test]
fn an_interrupted_export_is_completed_and_strange_folders_are_refused() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    sealed(&mut bench);
    let bag = bench.path("bag");
    // Killed while the store hesitates with one object.
    let hesitates = |operation: &str| operation.starts_with("GET") && operation.contains("CHAIN");
    bench.cloud.fault(
        10_000,
        move |call| call.service == "s3" && hesitates(&call.operation),
        CloudFault::Throttle,
    );
    let mut exporting = bench.spawn(&export(&bag));
    let deadline = Instant::now() + Duration::from_secs(60);
    while files(&bag.join("data")).len() < 5 {
        assert!(Instant::now() < deadline, "nothing arrives");
        thread::sleep(Duration::from_millis(20));
    }
    exporting.kill().unwrap();
    exporting.wait().unwrap();
    bench.cloud.heal();
    assert!(bag.join("bag-info.txt").exists() && !bag.join("manifest-sha256.txt").exists());
    let completed = bench.run(&export(&bag)).expect(0);
    assert!(
        completed.stderr.contains("were there"),
        "{}",
        completed.stderr
    );
    // As an end in the middle leaves it: half an object, no manifests.
    for name in [
        "manifest-sha256.txt",
        "tagmanifest-sha256.txt",
        "case.jsonld",
    ] {
        fs::remove_file(bag.join(name)).unwrap();
    }
    let chain = files(&bag)
        .into_iter()
        .find(|file| file.ends_with("CHAIN"))
        .unwrap();
    let whole = fs::read(&chain).unwrap();
    fs::write(chain.with_file_name("CHAIN.part"), &whole[..9]).unwrap();
    fs::remove_file(&chain).unwrap();
    let plan = bench.run(&[&export(&bag)[..], &["--dry-run"]].concat());
    assert_eq!(plan.expect(0).json()["resumes"], true);

    // Something is there that nobody fetched: it is named, and what was begun stays unfinished.
    let stray = chain.with_file_name("notes.txt");
    fs::write(&stray, "mine").unwrap();
    let refused = bench.run(&export(&bag)).expect(10);
    assert!(refused.stderr.contains("notes.txt"), "{}", refused.stderr);
    assert_eq!(bench.events("IR-7", "exported").len(), 2);
    fs::remove_file(&stray).unwrap();
    // A name that Exhibit writes, of an object that the bucket does not have.
    let extra = chain.with_file_name("evidence").join("00099.tar.zst");
    fs::write(&extra, "more").unwrap();
    let refused = bench.run(&export(&bag)).expect(10);
    assert!(refused.stderr.contains("00099"), "{}", refused.stderr);
    assert!(!bag.join("manifest-sha256.txt").exists());
    fs::remove_file(&extra).unwrap();

    bench.run(&export(&bag)).expect(0);
    assert_eq!(fs::read(&chain).unwrap(), whole);
    assert!(!chain.with_file_name("CHAIN.part").exists());
    if let Some(refused) = or_skip(bagit_refusal(&bag)) {
        assert_eq!(refused, None);
    }

    // The folder of another case, and one that holds something else.
    bench.open("IR-8");
    let nothing = bench
        .run(&["case", "export", "IR-8", "--to", "bag-8"])
        .expect(22);
    assert!(
        nothing.stderr.contains("nothing to export"),
        "{}",
        nothing.stderr
    );
    let other = bench.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), "mine").unwrap();
    bench.run(&export(&other)).expect(10);
    assert_eq!(files(&other).len(), 1);
}

#[test]
fn an_altered_case_is_exported_as_it_is_and_called_so() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    let instance = sealed(&mut bench);
    let gone = bench.instance(&[], |runner| runner);
    bench
        .run(&["collect", "--case", "IR-7", "--instance", &gone])
        .expect(0);
    let moto = bench.cloud.moto();
    let chain = format!("{}/CHAIN", bench.prefix("IR-7", &instance));
    let remove = |key: &str| {
        let versions = moto.versions(BUCKET).into_iter();
        for version in versions.filter(|version| version.key.starts_with(key)) {
            let hold = "<LegalHold xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>OFF</Status></LegalHold>";
            let path = format!("/{BUCKET}/{}", version.key);
            let id = ("versionId", version.id.as_str());
            let checksum = [("x-amz-sdk-checksum-algorithm", "SHA256")];
            moto.request(
                "PUT",
                &path,
                &[("legal-hold", ""), id],
                &checksum,
                hold.as_bytes(),
            );
            let bypass = [("x-amz-bypass-governance-retention", "true")];
            let gone = moto.request("DELETE", &path, &[id], &bypass, b"");
            assert_eq!(gone.status, 204, "{}", version.key);
        }
    };
    // Of one collection an object is gone, of the other all: only the journal knows of that.
    remove(&chain);
    remove(&format!("cases/IR-7/{gone}/"));
    let bag = bench.path("bag");
    let exported = bench.run(&export(&bag)).expect(20).json();
    assert_eq!(exported["result"], "altered");
    let absent = exported["absent"][0].as_str().unwrap();
    assert!(absent.starts_with(&format!("{gone}/")), "{absent}");
    let info = fs::read_to_string(bag.join("bag-info.txt")).unwrap();
    let altered = info
        .lines()
        .any(|line| line.contains(": altered, ") && line.contains("problems: "));
    assert!(altered, "{info}");
    assert!(
        info.contains("altered, nothing of it is in the bucket"),
        "{info}"
    );
    let document = fs::read_to_string(bag.join("case.jsonld")).unwrap();
    assert!(document.contains("problem: ") && !document.contains("hostname"));
    if let Some(refused) = or_skip(bagit_refusal(&bag)) {
        assert_eq!(refused, None);
        assert_eq!(case_refusal(&bag.join("case.jsonld")).unwrap(), None);
    }
}
