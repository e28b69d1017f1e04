//! What a collection costs: the quick sweep, the process pass, and the way of bytes from a file to a store.
//!
//!     cargo bench -p exhibit-agent

#![allow(
    clippy::unwrap_used,
    reason = "a bench that can not be set up has nothing to measure"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evidence::manifest::StoredObject;
use exhibit_agent::capture::plan::{self, Plan, Selection};
use exhibit_agent::host::Host;
use exhibit_agent::run::{Options, run};
use exhibit_agent::ship::{Object, Readiness, ShipError, Store};

/// Takes everything and keeps nothing: what is left is the cost on the host.
struct Nowhere;

impl Store for Nowhere {
    fn kind(&self) -> &'static str {
        "directory"
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }

    fn prepare(&self) -> Result<Readiness, ShipError> {
        Ok(Readiness::default())
    }

    fn put(&self, object: &Object) -> Result<StoredObject, ShipError> {
        Ok(StoredObject {
            shipped: true,
            ..object.unshipped()
        })
    }
}

fn options(artifact: &str) -> Options {
    let full = plan::profiles().pop().unwrap();
    Options {
        prefix: "bench/h-0/c-0".parse().unwrap(),
        operator: String::new(),
        reason: String::new(),
        arguments: Vec::new(),
        capture: Plan {
            selection: Selection::new(&full, vec![artifact.to_owned()], Vec::new()),
            ..Plan::of(full)
        },
        spool: None,
        deadline: None,
        max_file_bytes: u64::MAX,
        max_total_bytes: None,
        rate_limit: None,
        cpu_percent: None,
        level: 3,
        workers: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn collect(root: &Path, artifact: &str) {
    let host = Host::open(root).unwrap();
    let receipt = run(
        &options(artifact),
        &host,
        Arc::new(Nowhere),
        &AtomicBool::new(false),
        &|_| (),
    );
    black_box(receipt.unwrap());
}

/// Blocks of 64 KiB, in turn noise that does not compress and lines of a log that do.
fn mixed(bytes: usize) -> Vec<u8> {
    const BLOCK: usize = 64 << 10;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut data = Vec::with_capacity(bytes + BLOCK);
    while data.len() < bytes {
        (0..BLOCK / 8).for_each(|_| data.extend_from_slice(&noise().to_le_bytes()));
        let end = data.len() + BLOCK;
        while data.len() < end {
            let line = format!(
                "Jan  1 00:00:00 host sshd[{}]: Accepted publickey for user\n",
                noise() % 65_536
            );
            data.extend_from_slice(line.as_bytes());
        }
    }
    data.truncate(bytes);
    data
}

fn live(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("live");
    group.sample_size(20);
    for artifact in ["first_sweep", "sockets", "processes", "kernel", "accounts"] {
        group.bench_function(artifact, |bencher| {
            bencher.iter(|| collect(Path::new("/"), artifact))
        });
    }
    group.finish();
}

fn pipeline(criterion: &mut Criterion) {
    const BYTES: usize = 256 << 20;
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("var/log")).unwrap();
    std::fs::write(root.path().join("var/log/mixed"), mixed(BYTES)).unwrap();
    let mut group = criterion.benchmark_group("pipeline");
    group
        .sample_size(10)
        .throughput(Throughput::Bytes(BYTES as u64));
    group.bench_function("read, hash, compress, hash", |bencher| {
        bencher.iter(|| collect(root.path(), "logs"))
    });
    group.finish();
}

criterion_group!(benches, live, pipeline);
criterion_main!(benches);
