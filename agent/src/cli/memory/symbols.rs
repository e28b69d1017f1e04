//! `memory symbols`: a collection's own symbols, as Volatility 3 reads them.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use evidence::Exit;
use evidence::verify::Tap;

use super::image::{Image, NewFile, unaltered};
use crate::bundle::ROOT;
use crate::capture::symbols::{BTF, KALLSYMS, VERSION, VMCOREINFO};
use crate::cli::store::S3Arguments;
use crate::cli::verify::verified;
use crate::cli::{Failure, json_line, print, tell};
use crate::memory::symbols::{Inputs, write};

/// Most bytes of one input.
const MAX_INPUT: usize = 256 << 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The collection: a directory, or s3://bucket/prefix/<case>/<host>/<collection>
    collection: String,
    /// The file to write, which Volatility wants below `symbols/linux`; it must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    s3: S3Arguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let objects = Image::collection(&arguments.collection, &arguments.s3)?;
    let mut members = Members::default();
    let report = verified(&arguments.collection, &*objects, &mut members)?;
    unaltered(
        &report,
        "the collection is altered: its symbols would be the attacker's",
    )?;
    let none = |name: &str| {
        let message = format!(
            "{} has no {name}: collect the artifact `symbols`",
            arguments.collection
        );
        Failure::new(Exit::NotACollection, message)
    };
    let [btf, kallsyms, version, vmcoreinfo] = members.contents;
    let inputs = Inputs {
        btf: &btf.ok_or_else(|| none(BTF))?,
        kallsyms: &kallsyms.ok_or_else(|| none(KALLSYMS))?,
        version: &version.ok_or_else(|| none(VERSION))?,
        vmcoreinfo: vmcoreinfo.as_deref(),
    };
    let (new, file) = NewFile::create(&arguments.to)?;
    let mut file = BufWriter::new(file);
    let written = write(&inputs, &mut file)
        .map_err(|error| Failure::new(Exit::NotACollection, format!("no symbols: {error}")))
        .and_then(|summary| {
            let flushed = file.flush().map_err(|error| new.unwritable(error));
            flushed.map(|()| summary)
        });
    let summary = written.map_err(|failure| new.discard(failure))?;
    new.keep()?;
    for name in &summary.missing {
        tell(&format!(
            "warning: {name} is not among the symbols: Volatility may not find its way"
        ));
    }
    print(&json_line(&summary)?)?;
    Ok(report.verdict.exit())
}

/// The members that symbols are made from.
#[derive(Default)]
struct Members {
    contents: [Option<Vec<u8>>; 4],
    now: Option<usize>,
}

impl Tap for Members {
    fn member(&mut self, name: &[u8]) -> bool {
        let names = [BTF, KALLSYMS, VERSION].map(|path| format!("{ROOT}/{path}"));
        let [btf, kallsyms, version] = names;
        let names = [btf, kallsyms, version, VMCOREINFO.to_owned()];
        self.now = names.iter().position(|wanted| wanted.as_bytes() == name);
        if let Some(slot) = self.now.and_then(|now| self.contents.get_mut(now)) {
            *slot = Some(Vec::new());
        }
        self.now.is_some()
    }

    fn content(&mut self, bytes: &[u8]) {
        let slot = self
            .now
            .and_then(|now| self.contents.get_mut(now)?.as_mut());
        if let Some(content) = slot.filter(|content| content.len() + bytes.len() <= MAX_INPUT) {
            content.extend_from_slice(bytes);
        }
    }
}
