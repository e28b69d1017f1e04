//! Tells the program from which commit it was built, when there is a checkout to ask.

use std::process::Command;

#[expect(
    clippy::disallowed_methods,
    reason = "the build asks git, on the builder's machine"
)]
fn main() {
    let given = std::env::var("EXHIBIT_COMMIT").ok();
    let asked = || {
        let output = Command::new("git")
            .args(["rev-parse", "HEAD"])
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = given.or_else(asked).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=EXHIBIT_COMMIT={commit}");
    println!("cargo:rerun-if-env-changed=EXHIBIT_COMMIT");
    println!("cargo:rerun-if-changed=../.git/logs/HEAD");
}
