//! Keys, as people make and give them, and an edge that ends.

use std::fs;

use coprof_run::pipeline::{ConnectOptions, Peer};

use crate::program::{Serving, Workplace, signal};

#[test]
#[cfg(unix)]
fn who_has_the_edges_key_measures_and_nobody_else() {
    let workplace = Workplace::new();
    for name in ["board", "stranger"] {
        let ran = workplace.succeed(&["key", name, "--output", &format!("{name}.key")]);
        assert_eq!(ran.stdout, format!("wrote {name}.key\n"));
    }
    workplace.fail(&["key", "--output", "board.key"], 1, &["board.key is there already"]);
    let edge = Serving::start_with(&workplace, &["--key", "board.key"]);
    // On a busy machine the measurement of a slow link settles.
    let link = ["link", "--time", "1s", "--link-rate", "50mbit", "--peer", &edge.address];
    workplace.fail(&link, 3, &["closed the connection", "give it with --key FILE"]);
    workplace.fail(&[&link[..], &["--key", "stranger.key"]].concat(), 3, &["both need the same one"]);
    workplace.succeed(&[&link[..], &["--key", "board.key"]].concat());
    signal("TERM", edge.id());
    let log = edge.end();
    for words in ["greets without a key", "has none of our keys", " (board): connected"] {
        assert!(log.contains(words), "{log}");
    }
    let key = fs::read_to_string(workplace.file("board.key")).unwrap();
    assert!(!log.contains(key.split_whitespace().last().unwrap()));
}

#[test]
#[cfg(unix)]
fn the_environment_names_a_key_too_and_a_bad_file_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let workplace = Workplace::new();
    let line = workplace.succeed(&["key"]).stdout;
    let file = workplace.write("ours.key", &line);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    workplace.fail(&["serve", "--key", &file], 1, &["--key ", &file, "mode 0644", "chmod 600"]);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let edge = Serving::start_with(&workplace, &["--key", &file]);
    let mut command =
        workplace.command(&["link", "--time", "1s", "--link-rate", "50mbit", "--peer", &edge.address]);
    assert!(command.env("COPROF_KEY_FILE", &file).status().unwrap().success());
    workplace.write("none.key", "no key\n");
    fs::set_permissions(workplace.file("none.key"), PermissionsExt::from_mode(0o600)).unwrap();
    for (name, says) in
        [("none.key", "line 1: a key as `coprof key` makes it"), ("nothing.key", "coprof key")]
    {
        workplace.fail(&["link", "--peer", &edge.address, "--key", name], 1, &["--key ", name, says]);
        workplace.fail(&["serve", "--key", name], 1, &["--key ", name, says]);
    }
    workplace.fail(&["serve", "--key", &file, "--insecure"], 2, &["--insecure"]);
    edge.interrupt();
}

#[test]
fn an_edge_that_is_to_end_lets_sessions_finish() {
    let workplace = Workplace::new();
    let edge = Serving::start_with(&workplace, &["--drain", "10m"]);
    let mut peer = Peer::connect(edge.address.parse().unwrap(), &ConnectOptions::default()).unwrap();
    signal("TERM", edge.id());
    edge.tells("waiting up to 10m for the end of sessions under way: 1");
    workplace.fail(&["link", "--peer", &edge.address], 3, &["cannot reach"]);
    peer.stream_up(1000, 20).unwrap();
    drop(peer);
    edge.end();

    // A second signal ends it whoever is there.
    let edge = Serving::start_with(&workplace, &["--drain", "10m"]);
    let _peer = Peer::connect(edge.address.parse().unwrap(), &ConnectOptions::default()).unwrap();
    signal("TERM", edge.id());
    edge.tells("waiting up to");
    signal("TERM", edge.id());
    edge.end();
}
