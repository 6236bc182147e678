//! Help and usage.

use crate::program::{Workplace, repository};

#[test]
fn the_help_of_every_command_has_an_example() {
    let workplace = Workplace::new();
    let overview = workplace.succeed(&["--help"]).stdout;
    let commands: Vec<&str> = overview
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split(' ').next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    for command in commands {
        let help = workplace.succeed(&[command, "--help"]).stdout;
        let (_, examples) = help.split_once("Example").expect("an example");
        assert!(examples.contains(&format!("\n  coprof {command}")), "{help}");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let workplace = Workplace::new();
    for args in [
        &["frobnicate"][..],
        &["layers", "--threads", "0"],
        &["link", "--link-rate", "20"],
        &["link", "--time", "1ms"],
        &["optimize", "--min-rate", "-3"],
        &["optimize", "--scenario", "x.json", "--slowdown", "8"],
        &["replay", "--tasks", "1"],
        &["serve", "--core", "100000"],
    ] {
        workplace.fail(args, 2, &[]);
        workplace.fail(&[args, &["--json"]].concat(), 2, &[]);
    }
    workplace.fail(&["serve", "--listen", "0.0.0.0:0"], 2, &["--key", "--insecure", "127.0.0.1"]);
}

#[test]
fn more_threads_than_cores_are_a_usage_error() {
    let workplace = Workplace::new();
    let cores = std::thread::available_parallelism().unwrap().get();
    let scenario = repository("tests/data/scenario.json");
    for command in [
        &["layers"][..],
        &["link"],
        &["exits"],
        &["encodings"],
        &["optimize"],
        &["optimize", "--scenario", scenario.to_str().unwrap()],
        &["replay"],
        &["demo"],
        &["serve"],
    ] {
        let threads = (cores + 1).to_string();
        let says = [&*format!("--threads {threads}"), &*format!("may use {cores} core")];
        workplace.fail(&[command, &["--threads", &threads]].concat(), 2, &says);
    }
}
