//! Pictures in colour: three planes of pixels, as tensors have them, and three bytes a pixel, as files have them.

/// Planes, one behind the other, to pixels.
pub(super) fn interleave(planes: &[u8], pixels: &mut [u8]) {
    let (red, rest) = planes.split_at(planes.len() / 3);
    let (green, blue) = rest.split_at(planes.len() / 3);
    for (((pixel, &r), &g), &b) in pixels.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
        pixel.copy_from_slice(&[r, g, b]);
    }
}

/// Pixels back to planes.
pub(super) fn separate(pixels: &[u8], planes: &mut [u8]) {
    let plane = planes.len() / 3;
    let (red, rest) = planes.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for (((pixel, r), g), b) in pixels.chunks_exact(3).zip(red).zip(green).zip(blue) {
        (*r, *g, *b) = (pixel[0], pixel[1], pixel[2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_come_back() {
        let planes = [1, 2, 3, 4, 5, 6];
        let mut pixels = [0; 6];
        interleave(&planes, &mut pixels);
        assert_eq!(pixels, [1, 3, 5, 2, 4, 6]);
        let mut back = [0; 6];
        separate(&pixels, &mut back);
        assert_eq!(back, planes);
    }
}
