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
fn it_shows_models_that_leave_sides_open_or_fix_their_batch() {
    let workplace = Workplace::new();
    let model = |name: &str| repository(&format!("tests/data/onnx/{name}.onnx")).to_str().unwrap().to_owned();
    let (open, fixed) = (model("open"), model("batch_32"));
    workplace.fail(&["models", "show", &open], 1, &["[?, 3, ?, ?]", "--input-shape"]);
    workplace.fail(&["models", "show", &open, "--input-shape", "3x8x8"], 2, &["1x3x224x224"]);
    workplace.fail(&["models", "show", &open, "--input-shape", "1x4x8x8"], 2, &["does not fit", "'pixels'"]);
    workplace.fail(&["models", "show", "alexnet", "--input-shape", "1x3x48x48"], 2, &["does not fit"]);
    let (shown, said) = workplace.document(&["models", "show", &open, "--input-shape", "pixels:1x3x8x8"]);
    assert!(!said.contains("samples at once"), "{said}");
    let (other, said) = workplace.document(&["models", "show", &fixed]);
    assert!(said.contains("runs 32 samples at once; run with one at a time"), "{said}");
    assert_eq!(other["layers"], shown["layers"]);
}

#[test]
fn it_shows_exits_and_results_as_they_are_named() {
    let workplace = Workplace::new();
    let model = repository("tests/data/onnx/results_17.onnx").to_str().unwrap().to_owned();
    let show = ["models", "show", &model];
    let exits = |flags: &[&str]| {
        let (shown, said) = workplace.document(&[&show[..], flags].concat());
        let names = shown["facts"]["exits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|exit| exit["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), shown["model"]["agreement"].as_str().unwrap().to_owned(), said)
    };
    let (names, _, said) = exits(&[]);
    assert_eq!(names, ["results"]);
    assert!(said.contains("years are results") && said.contains("--exits"), "{said}");
    let (names, agreement, said) = exits(&["--exits", "colour,kind"]);
    assert_eq!((names, agreement.as_str()), (vec!["colour".into(), "kind".into()], "same class"));
    assert!(!said.contains("results"), "{said}");
    let (names, agreement, _) = exits(&["--outputs", "vector", "--agree", "cosine:0.9"]);
    assert_eq!((names, agreement.as_str()), (vec!["vector".into()], "cosine of at least 0.9"));
    for (flags, code, says) in [
        (&["--exits", "kind,nobody"][..], 2, "--exits"),
        (&["--exits", "kind,years"], 1, "tell 5 classes apart, found 1 at 'years'"),
        (&["--outputs", "nobody"], 2, "the model's outputs are plane, kind, colour, vector, years"),
        (&["--exits", "kind", "--outputs", "vector"], 2, "cannot be used with"),
        (&["--agree", "cosine:2"], 2, "rel:MOST"),
    ] {
        workplace.fail(&[&show[..], flags].concat(), code, &[says]);
    }
    workplace.fail(
        &["models", "show", "alexnet", "--exits", "final"],
        2,
        &["only those of a file are named"],
    );
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
