//! Records of one copy of CIFAR-10, images of another: said, never silently compared.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use coprof_run::data::{Split, fingerprint, locate};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::program::{Workplace, repository};
use crate::schemas::check;

/// A folder with the files that records need, in which every picture has one colour.
pub fn copy_of_cifar10(workplace: &Workplace, name: &str, colour: u8) -> String {
    const RECORD_BYTES: usize = 1 + 3 * 32 * 32;
    let mut batch = Vec::new();
    for i in 0..10_000 {
        batch.push((i % 10) as u8);
        batch.resize((i + 1) * RECORD_BYTES, colour);
    }
    fs::create_dir(workplace.file(name)).unwrap();
    for file in ["data_batch_5.bin", "test_batch.bin"] {
        fs::write(workplace.file(name).join(file), &batch).unwrap();
    }
    workplace.file(name).to_str().unwrap().into()
}

/// What a record made on that copy carries.
fn fingerprint_of(copy: &str) -> String {
    let found = locate(Some(Path::new(copy))).unwrap().unwrap();
    let images = found.load_many(&[Split::Validation, Split::Test]).unwrap();
    fingerprint(&images.iter().collect::<Vec<_>>())
}

/// AlexNet as a model of one's own, with a record as if it had been made on that copy.
fn write_model(workplace: &Workplace, copy: &str) {
    fs::copy(repository("models/alexnet.onnx"), workplace.file("mine.onnx")).unwrap();
    let mut text = String::new();
    let record = fs::File::open(repository("models/alexnet.exits.csv.gz")).unwrap();
    GzDecoder::new(record).read_to_string(&mut text).unwrap();
    let (header, table) = text.split_once('\n').unwrap();
    let (rest, _) = header.split_once(" data_sha256=").unwrap();
    let text = format!("{rest} data_sha256={}\n{table}", fingerprint_of(copy));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    workplace.write("mine.exits.csv.gz", gzip.finish().unwrap());
}

#[test]
fn records_of_other_images_are_told() {
    let workplace = Workplace::new();
    let [own, other] =
        [("own", 5), ("other", 6)].map(|(name, colour)| copy_of_cifar10(&workplace, name, colour));
    write_model(&workplace, &own);
    let exits = |data: &[&str]| {
        let (document, said) = workplace.document(&[&["exits", "--model", "mine.onnx"], data].concat());
        check("exits", &document);
        (
            document["records_of_other_images"].clone(),
            said.contains("mine's records were made on other images"),
        )
    };
    assert_eq!(exits(&[]), (Value::Null, false));
    assert_eq!(exits(&["--data", &own]), (json!(false), false));
    assert_eq!(exits(&["--data", &other]), (json!(true), true));
    fs::rename(workplace.file("other"), workplace.file("datasets")).unwrap();
    assert_eq!(exits(&[]), (json!(true), true));
    // Without the validation images nobody knows.
    fs::remove_file(workplace.file("own").join("data_batch_5.bin")).unwrap();
    let (document, said) = workplace.document(&["exits", "--model", "mine.onnx", "--data", &own]);
    assert_eq!(document["records_of_other_images"], Value::Null);
    assert!(said.contains("nobody knows whether") && said.contains("data_batch_5.bin"), "{said}");
    workplace.fail(&["exits", "--model", "mine.onnx", "--data", "nowhere"], 1, &["nowhere", "coprof fetch"]);
}
