//! What `--help` says.

use test_case::test_case;

use crate::program::run;

#[test_case(&[]; "all")]
#[test_case(&["run"]; "run")]
#[test_case(&["shell"]; "shell")]
#[test_case(&["serve"]; "serve")]
#[test_case(&["create"]; "create")]
#[test_case(&["ps"]; "ps")]
#[test_case(&["exec"]; "exec")]
#[test_case(&["cp"]; "cp")]
#[test_case(&["logs"]; "logs")]
#[test_case(&["rm"]; "rm")]
#[test_case(&["template"]; "template")]
#[test_case(&["pool"]; "pool")]
#[test_case(&["image"]; "image")]
#[test_case(&["top"]; "top")]
#[test_case(&["keys"]; "keys")]
#[test_case(&["doctor"]; "doctor")]
#[test_case(&["openapi"]; "openapi")]
#[test_case(&["completions"]; "completions")]
fn help(command: &[&str]) {
    let answer = run(&[command, &["--help"]].concat());
    assert_eq!((answer.status, answer.stderr.as_str()), (0, ""));
    let name = command.first().unwrap_or(&"hothouse");
    insta::assert_snapshot!(format!("help-{name}"), answer.stdout);
}

#[test]
fn no_arguments_are_answered_with_the_help() {
    let (bare, help) = (run(&[]), run(&["--help"]));
    assert_eq!(bare.status, 2);
    assert_eq!((bare.stderr, bare.stdout), (help.stdout, String::new()));
}

#[test_case("bash")]
#[test_case("zsh")]
#[test_case("fish")]
fn completions(shell: &str) {
    let answer = run(&["completions", shell]);
    assert_eq!(answer.status, 0);
    assert!(answer.stdout.contains("hothouse") && answer.stdout.contains("doctor"));
}

#[test]
fn the_spawner_is_not_offered() {
    assert!(!run(&["--help"]).stdout.contains("spawner"));
}
