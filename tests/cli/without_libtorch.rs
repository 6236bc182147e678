//! The program as it is built without libtorch: it plans, and says what it lacks for the rest.

use super::program::{Workplace, repository};

#[test]
fn it_plans_and_shows_records() {
    let workplace = Workplace::new();
    let scenario = repository("tests/data/scenario.json");
    let (optimized, _) = workplace.document(&["optimize", "--scenario", scenario.to_str().unwrap()]);
    assert_eq!(optimized["best"]["plan"]["links"][0]["encoding"], "q8");
    for command in ["models", "exits", "encodings"] {
        workplace.document(&[command]);
    }
}

#[test]
fn it_measures_links() {
    let workplace = Workplace::new();
    let (link, _) =
        workplace.document(&["link", "--time", "1s", "--link-rate", "50mbit", "--link-delay", "1ms"]);
    assert!(link["uplink"]["bits_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn it_says_what_it_lacks_before_anything_is_measured() {
    let workplace = Workplace::new();
    for command in [&["layers"][..], &["optimize"], &["replay"], &["demo"], &["exits", "--record"]] {
        let ran = workplace.run(command);
        assert_eq!(ran.code, Some(1), "{command:?}: {ran:?}");
        assert!(ran.stderr.contains("built without libtorch"), "{command:?}: {ran:?}");
        assert!(!workplace.file("reports").exists(), "{command:?} measured something");
    }
}
