//! Inputs that a user brings for a model: a folder of pictures, or a NumPy array. They have no labels.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader};
use npyz::{DType, Deserialize, NpyFile, Order};

use super::images::Images;
use coprof_core::error::{Error, Given, Remedy, Result};

/// As many inputs are read; more take longer and hardly say more.
pub const MOST_INPUTS: usize = 1000;

/// Endings of the pictures that are read.
const PICTURES: [&str; 3] = ["png", "jpg", "jpeg"];

/// The first inputs in `place` for a model that takes `shape`, without the batch dimension.
///
/// An `.npy` file holds an array `[n, …shape]` of `float32` or `uint8`: the numbers as the model takes them. From a folder,
/// the pictures (PNG, JPEG) are taken in the order of their names, scaled to cover `[3, height, width]` or, in grey,
/// `[1, height, width]`, and what sticks out is cut off evenly; the model gets the numbers 0 to 255.
pub fn load_inputs(place: &Path, shape: &[usize]) -> Result<Images> {
    let loaded = if place.is_dir() { pictures(place, shape) } else { array(place, shape) };
    let named = |what: String| {
        Error::failed(format!(
            "{}: {what}\nexpected a folder of PNG or JPEG pictures, or an .npy array of float32 or uint8 with inputs of shape \
             {} (with the batch before it)",
            place.display(),
            shown(shape)
        ))
        .with(Remedy::GiveAnother(Given::Data))
    };
    let inputs = loaded.map_err(named)?;
    if inputs.len() < 2 {
        return Err(named(format!("at least two inputs are needed, found {}", inputs.len())));
    }
    Ok(inputs)
}

fn shown<T: Display>(shape: &[T]) -> String {
    shape.iter().map(T::to_string).collect::<Vec<_>>().join("×")
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn array(path: &Path, shape: &[usize]) -> Result<Images, String> {
    let file = File::open(path).map_err(text)?;
    let length = file.metadata().map_err(text)?.len();
    // The header says how long it is; a file that ends before has none.
    let array =
        NpyFile::new(BufReader::new(file.take(length))).map_err(|error| format!("no .npy file ({error})"))?;
    let values: usize = shape.iter().product();
    let fits = array.shape().split_first().filter(|(_, rest)| {
        rest.len() == shape.len() && rest.iter().zip(shape).all(|(&found, &side)| found == side as u64)
    });
    let Some((&count, _)) = fits else {
        return Err(format!("found an array of shape {}", shown(array.shape())));
    };
    if array.order() != Order::C {
        return Err("the array is in Fortran order; save numpy.ascontiguousarray(x)".into());
    }
    let wanted = count.min(MOST_INPUTS as u64) as usize * values;
    let inputs = match array.dtype() {
        DType::Plain(kind) if kind.to_string().ends_with("u1") => {
            Images::new(values, numbers::<u8>(array, wanted)?, None)
        }
        DType::Plain(kind) if kind.to_string().ends_with("f4") => {
            Images::from_floats(values, numbers::<f32>(array, wanted)?)
        }
        other => return Err(format!("found numbers of type {}", other.descr())),
    };
    inputs.ok_or_else(|| "the array ends early".into())
}

/// The first numbers of an array. What the header promises but the file does not hold takes no memory.
fn numbers<T: Deserialize>(array: NpyFile<impl Read>, wanted: usize) -> Result<Vec<T>, String> {
    array.data::<T>().map_err(text)?.take(wanted).collect::<std::io::Result<_>>().map_err(text)
}

fn pictures(folder: &Path, shape: &[usize]) -> Result<Images, String> {
    let &[channels @ (1 | 3), height, width] = shape else {
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

    use super::*;

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

    fn load(file: &[u8], shape: &[usize]) -> Result<Images, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        std::fs::write(&path, file).unwrap();
        load_inputs(&path, shape).map_err(text)
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
        let inputs = load_inputs(folder.path(), &[3, 2, 2]).unwrap();
        assert_eq!((inputs.len(), inputs.are_pixels()), (2, true));
        assert!(inputs.floats(0).iter().all(|value| (value - 200.0).abs() <= 2.0));
        assert_eq!(inputs.floats(1), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0]);
        assert_eq!(load_inputs(folder.path(), &[1, 4, 4]).unwrap().floats(0).len(), 16);
        assert!(load_inputs(folder.path(), &[5]).unwrap_err().to_string().contains("takes none"));
        std::fs::write(at("c.png"), "no picture either").unwrap();
        let error = load_inputs(folder.path(), &[3, 2, 2]).unwrap_err().to_string();
        assert!(error.contains("c.png"), "{error}");
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
