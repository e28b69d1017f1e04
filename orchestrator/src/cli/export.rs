//! `case export`: a case as a bag for a laboratory.

use std::path::PathBuf;

use clap::Args;
use evidence::{CaseId, Exit};
use indicatif::HumanBytes;
use serde_json::json;

use super::{Global, copy, fetch};
use crate::export;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  A bag with all of the case, verified on the way; run it again if it was interrupted
    exhibit case export IR-7 --to ./IR-7.bag
  Whoever gets it
    bagit.py --validate IR-7.bag
    case_validate IR-7.bag/case.jsonld
    exhibit verify --offline IR-7.bag/data --key pubkey.pem";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The case, such as IR-7
    case: CaseId,
    /// Folder that becomes the bag: new, empty, or an unfinished bag of this case
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let progress = global.progress();
    let mut work = global.work(&config, &arguments.case, &progress).await?;
    let folder = &arguments.to;
    if arguments.dry_run {
        let plan = export::plan(&work, folder).await?;
        let (bytes, collections) = (plan.fetched.bytes, &plan.fetched.collections);
        global.print(
            &json!({"folder": folder.display().to_string(), "resumes": plan.resumes, "bytes": bytes, "collections": collections}),
            |_| {
                let what = if plan.resumes { "complete the bag" } else { "make a bag" };
                let size = HumanBytes(bytes);
                let count = collections.len();
                format!("{what} {} of {size} in {count} collections\n", folder.display())
            },
        )?;
        return Ok(Exit::Complete);
    }
    let key = fetch::trusted(&work).await;
    let exported = export::export(&mut work, folder, key.as_ref()).await?;
    progress.end();
    for key in &exported.fetched.strange {
        progress.say(&format!("not exported, Exhibit writes no such key: {key}"));
    }
    let mut value = copy::value(&exported.copy);
    value.extend([
        ("folder".to_owned(), json!(folder.display().to_string())),
        ("payload_files".to_owned(), exported.files.into()),
        ("payload_bytes".to_owned(), exported.bytes.into()),
        ("result".to_owned(), exported.copy.exit().word().into()),
        ("not_exported".to_owned(), json!(exported.fetched.strange)),
    ]);
    global.print(&value, |_| text(arguments, &exported))?;
    Ok(exported.copy.exit())
}

fn text(arguments: &Arguments, exported: &export::Exported) -> String {
    format!(
        "{}the bag {} is finished: {} files, {}\n",
        copy::text(&exported.copy),
        arguments.to.display(),
        exported.files,
        HumanBytes(exported.bytes)
    )
}
