//! Scripts that complete a command line, in their own shells.

use std::process::Command;

use qchost_testing::has_program;

use crate::common::Folder;

/// What a shell prints for a script.
fn shell(folder: &Folder, shell: &str, arguments: &[&str]) -> String {
    let ran = Command::new(shell)
        .args(arguments)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{shell}: {error}"));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.is_empty(), "{shell}: {said}");
    String::from_utf8(ran.stdout).unwrap()
}

/// A folder with a shell's script in the file `script`.
fn folder(shell: &str) -> Folder {
    let folder = Folder::new("");
    let script = folder.run(&["completions", shell]);
    std::fs::write(folder.path().join("script"), &script.good().stdout).unwrap();
    folder
}

#[test]
fn bash_completes_verbs_options_and_values() {
    let folder = folder("bash");
    for (words, expected) in [
        ("qchost pl", "plugin"),
        ("qchost plugin in", "inspect"),
        ("qchost completions z", "zsh"),
        ("qchost call --acc", "--account"),
        // No person uses these.
        ("qchost compile", ""),
        ("qchost super", ""),
    ] {
        // As the shell calls what `complete` has registered.
        let script = format!(
            "set -f; . ./script && COMP_WORDS=({words}) && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
             name=$(complete -p qchost) && name=${{name#*-F }} && name=${{name%% *}} && \
             \"$name\" qchost \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             echo \"${{COMPREPLY[*]}}\""
        );
        let said = shell(&folder, "bash", &["--norc", "-c", &script]);
        assert_eq!(said.trim_end(), expected, "{words}");
    }
}

#[test]
fn the_scripts_of_the_other_shells_are_read_by_them_and_offer_no_hidden_verb() {
    for (name, arguments) in [
        (
            "zsh",
            &[
                "-f",
                "-c",
                "autoload -U compinit && compinit -u -D && . ./script",
            ][..],
        ),
        ("fish", &["--no-config", "./script"][..]),
    ] {
        let folder = folder(name);
        let script = std::fs::read_to_string(folder.path().join("script")).unwrap();
        assert!(script.contains("approvals"), "{name}: {script}");
        for hidden in ["compile-component", "supervise-server"] {
            assert!(!script.contains(hidden), "{name}: {script}");
        }
        if has_program(name) {
            shell(&folder, name, arguments);
        }
    }
}

#[test]
fn a_script_is_a_text_under_json_and_an_unknown_shell_is_a_wrong_command_line() {
    let folder = folder("bash");
    let script = folder.run(&["--json", "completions", "bash"]).json();
    let printed = std::fs::read_to_string(folder.path().join("script")).unwrap();
    assert_eq!(script.as_str().unwrap().trim_end(), printed.trim_end());
    let ran = folder.run(&["completions", "csh"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(ran.stderr.contains("zsh"), "{ran:?}");
}
