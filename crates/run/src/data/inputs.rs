//! Inputs that a user brings for a model: a folder of pictures, or NumPy arrays. They have no labels.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader};
use npyz::{DType, Deserialize, NpyFile, Order};

use super::images::Images;
use super::npz;
use coprof_core::error::{Error, Given, Remedy, Result};
use coprof_core::model::Input;

/// As many inputs are read; more take longer and hardly say more.
const MOST_INPUTS: usize = 1000;

/// Endings of the pictures that are read.
const PICTURES: [&str; 3] = ["png", "jpg", "jpeg"];

/// The first inputs in `place` for a model that takes these, without the batch dimension.
///
/// An `.npy` file holds an array `[n, …sides]` of `float32` or `uint8`, the sides as the model's file has them: the numbers as
/// the model takes them. An `.npz` file holds one for each input under its name; there all values of a sample come one behind
/// the other. From a folder, the pictures (PNG, JPEG) are taken in the order of their names, scaled to cover
/// `[3, height, width]` or, in grey, `[1, height, width]`, and what sticks out is cut off evenly; the model gets the numbers 0
/// to 255.
pub fn load_inputs(place: &Path, inputs: &[Input]) -> Result<Images> {
    let loaded = if place.is_dir() { pictures(place, inputs) } else { arrays(place, inputs) };
    let named = |what: String| {
        Error::failed(format!("{}: {what}\nexpected {}", place.display(), expected(inputs)))
            .with(Remedy::GiveAnother(Given::Data))
    };
    let inputs = loaded.map_err(named)?;
    if inputs.len() < 2 {
        return Err(named(format!("at least two inputs are needed, found {}", inputs.len())));
    }
    Ok(inputs)
}

fn expected(inputs: &[Input]) -> String {
    let of = "of float32 or uint8 with inputs of shape";
    match inputs {
        [only] => format!(
            "a folder of PNG or JPEG pictures, or an .npy array {of} {} (with the batch before it)",
            shown(&only.sides_in_file())
        ),
        several => {
            let each = |input: &Input| format!("{} {}", input.name, shown(&input.sides_in_file()));
            let each: Vec<String> = several.iter().map(each).collect();
            format!("an .npz file with arrays {of} (with the batch before it): {}", each.join(", "))
        }
    }
}

fn shown<T: Display>(shape: &[T]) -> String {
    shape.iter().map(T::to_string).collect::<Vec<_>>().join("×")
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// The numbers of one input, sample after sample.
enum Numbers {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

fn arrays(path: &Path, inputs: &[Input]) -> Result<Images, String> {
    let mut file = File::open(path).map_err(text)?;
    let columns = if npz::is_archive(&mut file)? {
        let member = |input: &Input| {
            let read = |array: &mut dyn Read| numbers_of(array, input);
            npz::member(&mut file, &format!("{}.npy", input.name), read)
                .map_err(|what| format!("{}: {what}", input.name))
        };
        inputs.iter().map(member).collect::<Result<Vec<_>, String>>()?
    } else {
        let [input] = inputs else { return Err("no .npz file".into()) };
        // The header says how long it is; a file that ends before has none.
        let length = file.metadata().map_err(text)?.len();
        vec![numbers_of(file.take(length), input)?]
    };
    beside_each_other(columns, inputs)
}

/// Every input's values of a sample, one behind the other.
fn beside_each_other(columns: Vec<Numbers>, inputs: &[Input]) -> Result<Images, String> {
    let widths: Vec<usize> = inputs.iter().map(|input| input.shape.elements()).collect();
    let total = widths.iter().sum();
    let count = |(numbers, width): (&Numbers, &usize)| match numbers {
        Numbers::Bytes(bytes) => bytes.len() / width,
        Numbers::Floats(floats) => floats.len() / width,
    };
    let counts: Vec<usize> = columns.iter().zip(&widths).map(count).collect();
    if counts.iter().any(|count| *count != counts[0]) {
        let each: Vec<String> =
            inputs.iter().zip(&counts).map(|(input, count)| format!("{count} of {}", input.name)).collect();
        return Err(format!("found {}, which are not as many", each.join(", ")));
    }
    let images = match columns.as_slice() {
        [Numbers::Bytes(bytes)] => Images::new(total, bytes.clone(), None),
        columns => {
            let mut values = Vec::with_capacity(total * counts[0]);
            for sample in 0..counts[0] {
                for (numbers, &width) in columns.iter().zip(&widths) {
                    let own = sample * width..(sample + 1) * width;
                    match numbers {
                        Numbers::Bytes(bytes) => {
                            values.extend(bytes[own].iter().map(|&byte| f32::from(byte)))
                        }
                        Numbers::Floats(floats) => values.extend_from_slice(&floats[own]),
                    }
                }
            }
            Images::from_floats(total, values)
        }
    };
    images.ok_or_else(|| "the array ends early".into())
}

/// The first samples of an array, channels first.
fn numbers_of(file: impl Read, input: &Input) -> Result<Numbers, String> {
    let array = NpyFile::new(BufReader::new(file)).map_err(|error| format!("no .npy file ({error})"))?;
    let sides = input.sides_in_file();
    let fits = array.shape().split_first().filter(|(_, rest)| {
        rest.len() == sides.len() && rest.iter().zip(&sides).all(|(&found, &side)| found == side as u64)
    });
    let Some((&count, _)) = fits else {
        return Err(format!("found an array of shape {}", shown(array.shape())));
    };
    if array.order() != Order::C {
        return Err("the array is in Fortran order; save numpy.ascontiguousarray(x)".into());
    }
    let wanted = count.min(MOST_INPUTS as u64) as usize * input.shape.elements();
    match array.dtype() {
        DType::Plain(kind) if kind.to_string().ends_with("u1") => {
            Ok(Numbers::Bytes(channels_first(numbers(array, wanted)?, input)))
        }
        DType::Plain(kind) if kind.to_string().ends_with("f4") => {
            Ok(Numbers::Floats(channels_first(numbers(array, wanted)?, input)))
        }
        other => Err(format!("found numbers of type {}", other.descr())),
    }
}

/// Samples that lie as the model's file has them, as the network takes them.
fn channels_first<T: Copy>(values: Vec<T>, input: &Input) -> Vec<T> {
    let &[channels, height, width] = input.shape.0.as_slice() else { return values };
    if !input.channels_last {
        return values;
    }
    let samples = values.chunks_exact(channels * height * width);
    samples
        .flat_map(|sample| {
            (0..channels).flat_map(move |channel| sample.iter().skip(channel).step_by(channels).copied())
        })
        .collect()
}

/// The first numbers of an array. What the header promises but the file does not hold takes no memory.
fn numbers<T: Deserialize>(array: NpyFile<impl Read>, wanted: usize) -> Result<Vec<T>, String> {
    let found: Vec<T> =
        array.data::<T>().map_err(text)?.take(wanted).collect::<std::io::Result<_>>().map_err(text)?;
    if found.len() == wanted { Ok(found) } else { Err("the array ends early".into()) }
}

fn pictures(folder: &Path, inputs: &[Input]) -> Result<Images, String> {
    let sides = match inputs {
        [only] => only.shape.0.as_slice(),
        _ => &[],
    };
    let &[channels @ (1 | 3), height, width] = sides else {
        return Err("pictures have 1 or 3 channels, a height and a width, so this model takes none".into());
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(text)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().and_then(|end| end.to_str()).is_some_and(is_picture))
        .collect();
    files.sort();
    files.truncate(MOST_INPUTS);
    let values = channels * height * width;
    let mut pixels = Vec::with_capacity(values * files.len());
    for file in &files {
        let picture = picture(file, [width, height]).map_err(|what| format!("{}: {what}", file.display()))?;
        match channels {
            1 => pixels.extend_from_slice(&picture.into_luma8()),
            _ => {
                let colours = picture.into_rgb8();
                pixels.extend((0..3).flat_map(|channel| colours.iter().skip(channel).step_by(3)));
            }
        }
    }
    Images::new(values.max(1), pixels, None).ok_or_else(|| "the model takes no pictures of this size".into())
}

fn is_picture(ending: &str) -> bool {
    PICTURES.iter().any(|known| known.eq_ignore_ascii_case(ending))
}

fn picture(file: &Path, [width, height]: [usize; 2]) -> Result<DynamicImage, String> {
    let reader = ImageReader::open(file).map_err(text)?.with_guessed_format().map_err(text)?;
    let picture = reader.decode().map_err(text)?;
    let size = (u32::try_from(width).map_err(text)?, u32::try_from(height).map_err(text)?);
    let fits = (picture.width(), picture.height()) == size;
    Ok(if fits { picture } else { picture.resize_to_fill(size.0, size.1, FilterType::Triangle) })
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, RgbImage};
    use proptest::prelude::*;

    use super::super::npz::zipped;
    use super::*;
    use coprof_core::model::Shape;

    /// An `.npy` file of version 1.
    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        let header = format!("{header:<117}\n");
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    fn header(kind: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': ({shape}), }}")
    }

    fn input(name: &str, sides: &[usize], channels_last: bool) -> Input {
        Input { name: name.into(), shape: Shape(sides.to_vec()), channels_last }
    }

    fn load(file: &[u8], shape: &[usize]) -> Result<Images, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        std::fs::write(&path, file).unwrap();
        load_inputs(&path, &[input("x", shape, false)]).map_err(text)
    }

    #[test]
    fn arrays_are_taken_as_they_are() {
        let floats: Vec<u8> = [0.5f32, -1.0, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let inputs = load(&npy(&header("<f4", "False", "2, 1, 2"), &floats), &[1, 2]).unwrap();
        assert_eq!((inputs.len(), inputs.floats(1), inputs.label(0)), (2, vec![2.0, 3.0], None));
        let inputs = load(&npy(&header("|u1", "False", "3, 1"), &[7, 8, 255]), &[1]).unwrap();
        assert_eq!((inputs.len(), inputs.floats(2), inputs.are_pixels()), (3, vec![255.0], true));
        let many = vec![9; MOST_INPUTS + 5];
        let inputs = load(&npy(&header("|u1", "False", &format!("{}, 1", many.len())), &many), &[1]).unwrap();
        assert_eq!(inputs.len(), MOST_INPUTS);
    }

    #[test]
    fn arrays_that_do_not_fit_are_named() {
        let message =
            |kind, fortran, shape| load(&npy(&header(kind, fortran, shape), &[1; 64]), &[2, 2]).unwrap_err();
        assert!(message("<f4", "False", "3, 2, 3").contains("found an array of shape 3×2×3"));
        assert!(message("<f4", "False", "2, 2").contains("shape 2×2\n"));
        let promised = message("<f4", "False", "99999999999999, 2, 2");
        assert!(promised.contains("fill whole buffer"), "1.6 PB: {promised}");
        assert!(message("<f8", "False", "2, 2, 2").contains("'<f8'"));
        assert!(message("<f4", "True", "2, 2, 2").contains("ascontiguousarray"));
        assert!(message("|u1", "False", "1, 2, 2").contains("at least two"));
        assert!(load(b"PK", &[2]).unwrap_err().contains("no .npy file"));
    }

    #[test]
    fn pictures_come_in_the_order_of_their_names_and_in_the_models_size() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        RgbImage::from_fn(2, 2, |x, y| image::Rgb([x as u8, y as u8, 9])).save(at("b.png")).unwrap();
        GrayImage::from_pixel(40, 10, image::Luma([200])).save(at("a.JPG")).unwrap();
        std::fs::write(at("notes.txt"), "no picture").unwrap();
        let inputs = load_inputs(folder.path(), &[input("x", &[3, 2, 2], true)]).unwrap();
        assert_eq!((inputs.len(), inputs.are_pixels()), (2, true));
        assert!(inputs.floats(0).iter().all(|value| (value - 200.0).abs() <= 2.0));
        assert_eq!(inputs.floats(1), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0]);
        assert_eq!(load_inputs(folder.path(), &[input("x", &[1, 4, 4], false)]).unwrap().floats(0).len(), 16);
        assert!(
            load_inputs(folder.path(), &[input("x", &[5], false)])
                .unwrap_err()
                .to_string()
                .contains("takes none")
        );
        std::fs::write(at("c.png"), "no picture either").unwrap();
        let error = load_inputs(folder.path(), &[input("x", &[3, 2, 2], true)]).unwrap_err().to_string();
        assert!(error.contains("c.png"), "{error}");
    }

    #[test]
    fn what_lies_channels_last_in_a_file_is_turned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let values: Vec<u8> = (0..24).collect();
        std::fs::write(&path, npy(&header("|u1", "False", "2, 2, 2, 3"), &values)).unwrap();
        let inputs = load_inputs(&path, &[input("x", &[3, 2, 2], true)]).unwrap();
        assert_eq!(*inputs.bytes(0), [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
        assert_eq!(*inputs.bytes(1), [12, 15, 18, 21, 13, 16, 19, 22, 14, 17, 20, 23]);
    }

    #[test]
    fn an_archive_has_an_array_for_each_input() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        let pixels = npy(&header("|u1", "False", "3, 1, 2"), &[1, 2, 3, 4, 5, 6]);
        let facts = |count: u32| {
            let numbers: Vec<u8> = (0..count).flat_map(|i| (i as f32 / 2.0).to_le_bytes()).collect();
            npy(&header("<f4", "False", &format!("{count}, 1")), &numbers)
        };
        let two = [input("pixels", &[1, 2], false), input("facts", &[1], false)];
        for deflated in [false, true] {
            let members = [("facts.npy", &facts(3)[..]), ("other.npy", b""), ("pixels.npy", &pixels)];
            std::fs::write(&path, zipped(&members, deflated)).unwrap();
            let inputs = load_inputs(&path, &two).unwrap();
            assert_eq!((inputs.len(), inputs.floats(1)), (3, vec![3.0, 4.0, 0.5]));
            let only = load_inputs(&path, &two[..1]).unwrap();
            assert_eq!((only.len(), only.are_pixels()), (3, true));
        }
        let message = |members: &[(&str, &[u8])]| {
            std::fs::write(&path, zipped(members, false)).unwrap();
            load_inputs(&path, &two).unwrap_err().to_string()
        };
        let lacking = message(&[("pixels.npy", &pixels)]);
        assert!(
            lacking.contains("no facts.npy in it") && lacking.contains("pixels 1×2, facts 1"),
            "{lacking}"
        );
        let uneven = message(&[("pixels.npy", &pixels), ("facts.npy", &facts(2))]);
        assert!(uneven.contains("3 of pixels, 2 of facts"), "{uneven}");
        let wrong = message(&[("pixels.npy", &facts(3)), ("facts.npy", &facts(3))]);
        assert!(wrong.contains("pixels: found an array of shape 3×1"), "{wrong}");
        std::fs::write(&path, &pixels).unwrap();
        assert!(load_inputs(&path, &two).unwrap_err().to_string().contains("no .npz file"));
    }

    proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(at in 0usize..160, junk in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut file = npy(&header("<f4", "False", "2, 1, 2"), &[0; 16]);
            let at = at.min(file.len());
            file.splice(at..(at + junk.len()).min(file.len()), junk);
            let _ = load(&file, &[1, 2]);
        }
    }
}
