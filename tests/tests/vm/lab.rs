//! What every case stands on: a bucket on the host, guests with the agent in them, and what a run left in the bucket.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::moto::Moto;
use exhibit_tests::rig::or_skip;
use exhibit_tests::rig::proxy::{ACCESS_KEY, Proxy};
use exhibit_tests::rig::vm::plant::{self, Planted};
use exhibit_tests::rig::vm::{Ended, Guest, HOST, Kernel, Modules};
use serde_json::Value;

const BUCKET: &str = "evidence-bucket";

/// Pages to plant, unless a script says otherwise: with what lies between them they take a quarter of a guest's memory, so
/// that some are near its end.
const PAGES: u32 = 32;

/// A bucket with Object Lock behind a checking proxy, a kernel to boot, and module stores for it.
pub struct Lab {
    pub proxy: Proxy,
    pub modules: Modules,
    kernel: Kernel,
    moto: Moto,
    agent: Agent,
    folder: tempfile::TempDir,
}

/// What one run of the agent in a guest left behind.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stderr: String,
    /// `null` when the run wrote none.
    pub manifest: Value,
    /// The collection, copied out of the bucket.
    pub folder: PathBuf,
}

impl Lab {
    pub fn start() -> Option<Self> {
        let kernel = or_skip(Kernel::ensure())?;
        let moto = or_skip(Moto::start())?;
        moto.create_locked_bucket(BUCKET);
        moto.set_default_retention(BUCKET, "COMPLIANCE", 30);
        let folder = tempfile::tempdir().unwrap();
        Some(Self {
            proxy: Proxy::start(moto.address()),
            modules: Modules::new(&kernel, folder.path()).unwrap(),
            agent: Agent::built().expect("an agent").credentials(ACCESS_KEY),
            kernel,
            moto,
            folder,
        })
    }

    /// As [`Lab::guest`], for cases in which the amount of memory does not matter: 320 MiB, half of it above 4 GiB. With
    /// less, the agent and what is planted do not fit.
    pub fn small_guest(&self) -> Guest {
        self.guest().memory(320).low_memory(160)
    }

    /// A guest with the agent, the helper, and in its share a good store of modules with its key.
    pub fn guest(&self) -> Guest {
        let guest = Guest::new(&self.kernel)
            .unwrap()
            .program("exhibit-agent", self.agent.program())
            .program("guest", Path::new(env!("CARGO_BIN_EXE_guest")));
        self.modules
            .write(&guest.share().join("modules"), |_| ())
            .unwrap();
        let key = guest.share().join("key.pem");
        std::fs::write(key, self.modules.public_key().unwrap()).unwrap();
        guest
    }

    /// A module for the guest that hides a process and itself.
    pub fn rootkit(&self) -> Vec<u8> {
        self.kernel.rootkit().unwrap()
    }

    /// The same modules, to be signed by somebody whose key nobody trusts.
    pub fn stranger(&self) -> Modules {
        let folder = self.folder.path().join("stranger");
        std::fs::create_dir(&folder).unwrap();
        Modules::new(&self.kernel, &folder).unwrap()
    }

    /// A folder with the good module and its signed index beside it.
    pub fn single_module(&self, folder: &Path) {
        let store = self.folder.path().join("single-store");
        self.modules.write(&store, |_| ()).unwrap();
        std::fs::create_dir(folder).unwrap();
        let module = store.join(self.release()).join("x86_64/lime.ko");
        for file in [
            &module,
            &store.join("index.json"),
            &store.join("index.json.sig"),
        ] {
            std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }

    /// Puts a store of modules into a bucket of its own; the place to name.
    pub fn modules_in_bucket(&self, store: &Path) -> String {
        self.moto.create_bucket("modules-bucket");
        let release = self.release();
        for name in [
            "index.json",
            "index.json.sig",
            &format!("{release}/x86_64/lime.ko"),
        ] {
            let bytes = std::fs::read(store.join(name)).unwrap();
            self.moto
                .put("modules-bucket", &format!("lime/{name}"), &bytes);
        }
        "s3://modules-bucket/lime".into()
    }

    /// The release that the guests run.
    pub fn release(&self) -> &str {
        self.kernel.release()
    }

    /// Runs a script with the functions of `prelude.sh`.
    pub fn run(&self, guest: Guest, script: &str) -> Ended {
        let port = self.proxy.address().port();
        let variables = format!(
            "endpoint=http://{HOST}:{port} bucket={BUCKET} pages={PAGES} release={}\n\
             export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY='a secret of the test rig'\n",
            self.release()
        );
        let script = variables + include_str!("prelude.sh") + script + "\nstill_planted\n";
        let ended = guest.run(&script).unwrap();
        eprintln!("the guest took {:?}", ended.took);
        ended.well()
    }

    /// The run that the script called by this name.
    pub fn of(&self, ended: &Ended, name: &str) -> Run {
        let code = ended.text(&format!("{name}.code"));
        let place = format!("{name}/");
        let keys = self.moto.keys(BUCKET);
        let manifest = keys
            .iter()
            .find(|key| key.starts_with(&place) && key.ends_with("/manifest.json"));
        Run {
            code: code
                .trim()
                .parse()
                .unwrap_or_else(|_| panic!("{name}: {ended}")),
            stderr: ended.text(&format!("{name}.err")),
            manifest: manifest.map_or(Value::Null, |key| {
                serde_json::from_slice(&self.moto.read(BUCKET, key)).expect("a manifest")
            }),
            folder: self.copy(&place, &keys),
        }
    }

    /// Copies the objects below a place of the bucket; the folder of the one collection there.
    fn copy(&self, place: &str, keys: &[String]) -> PathBuf {
        let root = self.folder.path().join("copies");
        let mut collection = root.join(place);
        for key in keys.iter().filter(|key| key.starts_with(place)) {
            let path = root.join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, self.moto.read(BUCKET, key)).unwrap();
            // name/case/host/collection/object
            let parts: Vec<&str> = key.splitn(5, '/').collect();
            collection = root.join(parts[..4].join("/"));
        }
        collection
    }

    /// Sends what a run left in `spool` of the share to where it belongs.
    pub fn ship(&self, ended: &Ended, name: &str) {
        let receipt: Value =
            serde_json::from_str(&ended.text(&format!("{name}.receipt"))).expect("a receipt");
        let folder = ended
            .path("spool")
            .join(receipt["prefix"].as_str().expect("a prefix"));
        let (code, _) = self.agent(&[
            "ship",
            "--quiet",
            folder.to_str().unwrap(),
            "--to",
            &format!("s3://{BUCKET}/{name}"),
            "--endpoint-url",
            &self.proxy.endpoint(),
            "--region",
            "us-east-1",
        ]);
        assert_eq!(code, 0, "ship");
    }

    /// Runs the agent on the host; its standard output.
    pub fn agent(&self, arguments: &[&str]) -> (i32, String) {
        let output = self
            .agent
            .command()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let code = output
            .status
            .code()
            .unwrap_or_else(|| panic!("{arguments:?}: {stderr}"));
        assert!(code != 2, "{arguments:?}: {stderr}");
        (code, String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The verdict on a collection, and the exit code that goes with it.
    pub fn verdict(&self, run: &Run) -> (i32, String) {
        let (code, report) = self.agent(&["verify", "--json", run.folder.to_str().unwrap()]);
        let report: Value = serde_json::from_str(&report).expect("a report");
        (
            code,
            report["verdict"].as_str().unwrap_or_default().to_string(),
        )
    }

    /// The memory image of a run, as one file; taking it out ends as verifying the collection does.
    pub fn image(&self, run: &Run) -> PathBuf {
        let image = run.folder.with_extension("lime");
        let (code, _) = self.agent(&[
            "memory",
            "extract",
            run.folder.to_str().unwrap(),
            "--to",
            image.to_str().unwrap(),
        ]);
        assert_eq!(code, self.verdict(run).0, "memory extract");
        // The same bytes that stock tools give.
        let mut segments: Vec<PathBuf> = std::fs::read_dir(run.folder.join("memory"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        segments.sort();
        let stock = Command::new("sh")
            .args([
                "-c",
                "image=$1; shift; cat -- \"$@\" | zstd -dcq | cmp - \"$image\"",
                "sh",
            ])
            .arg(&image)
            .args(&segments)
            .status()
            .unwrap();
        assert!(
            stock.success(),
            "`cat memory/* | zstd -d` gives other bytes"
        );
        image
    }
}

impl Run {
    /// The report on memory in the manifest.
    pub fn memory(&self) -> &Value {
        self.artifact("memory")
    }

    /// The report on an artifact in the manifest.
    pub fn artifact(&self, name: &str) -> &Value {
        let artifacts = self.manifest["artifacts"].as_array();
        let artifacts = artifacts.unwrap_or_else(|| panic!("no manifest: {self:?}"));
        let artifact = artifacts.iter().find(|artifact| artifact["name"] == name);
        artifact.unwrap_or_else(|| panic!("no word on {name}: {self:?}"))
    }

    pub fn outcome(&self) -> &str {
        self.memory()["outcome"].as_str().expect("an outcome")
    }

    /// What the manifest says of the ways that were tried.
    pub fn reason(&self) -> String {
        self.memory()["reason"]
            .as_str()
            .unwrap_or_default()
            .to_string()
    }

    /// Asserts that a reason names all of these, in whatever case.
    pub fn says(&self, words: &[&str]) {
        let reason = self.reason().to_lowercase();
        for word in words {
            assert!(
                reason.contains(&word.to_lowercase()),
                "no \"{word}\" in: {reason}\n{}",
                self.stderr
            );
        }
    }
}

/// The pages that `plant` of the prelude planted.
pub fn planted(ended: &Ended) -> Vec<Planted> {
    plant::parse(&ended.text("planted"))
}

/// What is said of modules that a run left in the kernel; empty when there is none.
pub fn left_over(ended: &Ended) -> String {
    std::fs::read_to_string(ended.path("leftovers")).unwrap_or_default()
}
