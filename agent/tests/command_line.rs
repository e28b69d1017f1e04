//! The built program, asked about itself.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails to say what went wrong, and runs the program"
)]

use std::process::Command;

fn answer(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exhibit-agent"));
    let output = command.args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn help_manual_and_completions_know_each_command() {
    let (code, help) = answer(&["--help"]);
    assert!(
        code == Some(0) && help.contains("Examples:") && help.contains("Exit codes:"),
        "{help}"
    );
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    // Further lines of a description stand farther to the right.
    let commands: Vec<&str> = listed
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        commands.contains(&"collect") && commands.len() > 5,
        "{commands:?}"
    );
    let ((_, manual), (_, completions)) = (answer(&["man"]), answer(&["completions", "bash"]));
    for command in commands.iter().filter(|command| **command != "help") {
        assert!(
            manual
                .to_lowercase()
                .contains(&format!(".sh exhibit-agent {command}")),
            "man: {command}"
        );
        assert!(completions.contains(command), "completions: {command}");
    }
}

#[test]
fn a_command_line_that_means_nothing_ends_with_2() {
    for wrong in [&[][..], &["--no-such-option"], &["no-such-command"]] {
        assert_eq!(answer(wrong).0, Some(2), "{wrong:?}");
    }
}

#[test]
fn the_reference_of_artifacts_is_current() {
    let (code, printed) = answer(&["artifacts", "--markdown"]);
    assert_eq!(code, Some(0));
    let kept =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/artifacts.md"));
    assert!(
        kept.unwrap() == printed,
        "docs/artifacts.md is old: exhibit-agent artifacts --markdown > docs/artifacts.md"
    );
}
