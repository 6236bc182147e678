//! Made-up pictures, for machines without a data set: seeded, and the same on every machine.

use super::images::Images;
use coprof_core::units::Share;

/// The lattice sizes of the octaves from coarse to fine, and how far each swings. The swing falls with the size, as
/// the amplitudes in natural pictures fall with frequency; the last ones stand for texture and sensor noise. Chosen so that
/// deflate packs these pictures about as well as it packs CIFAR-10's.
const OCTAVES: [(usize, f64); 5] = [(2, 150.0), (4, 95.0), (8, 55.0), (16, 34.0), (32, 20.0)];
/// How much of the swing each channel has for itself; the rest is common to all, as brightness is.
const OWN: f64 = 0.15;

/// `count` pictures of `shape` (`[channels, height, width]`; without the first, or the first two, they count as 1),
/// without labels. The same `seed` gives the same pictures, and picture `i` does not depend on `count`.
pub fn made_up_frames(shape: &[usize], count: usize, seed: u64) -> Images {
    let sides = match shape {
        [channels @ .., height, width] => [channels.iter().product(), *height, *width],
        [width] => [1, 1, *width],
        [] => [1, 1, 1],
    };
    let stream = |i: u64| SplitMix64(seed ^ i.wrapping_mul(0xD129_0C3B_5A1F_77E5));
    let pixels = (0..count as u64).flat_map(|i| picture(sides, stream(i))).collect();
    Images::of_pixels(sides.iter().product::<usize>().max(1), pixels)
}

fn picture([channels, height, width]: [usize; 3], mut random: SplitMix64) -> Vec<u8> {
    random.next();
    let common = field(height, width, &mut random);
    let mean = 128.0 + 60.0 * random.signed();
    let mut bytes = Vec::with_capacity(channels * height * width);
    for _ in 0..channels {
        let own = field(height, width, &mut random);
        let tint = mean + 15.0 * random.signed();
        // Rust's float-to-integer casts saturate, which clamps to 0..=255.
        bytes.extend(
            common.iter().zip(&own).map(|(common, own)| (tint + common * (1.0 - OWN) + own * OWN) as u8),
        );
    }
    bytes
}

/// Octaves of smoothly joined random values, one on another.
fn field(height: usize, width: usize, random: &mut SplitMix64) -> Vec<f64> {
    let mut sum = vec![0.0; height * width];
    for (cells, swing) in OCTAVES {
        let side = cells + 1;
        let lattice: Vec<f64> = (0..side * side).map(|_| swing * random.signed()).collect();
        for y in 0..height {
            let (top, down) = place(y, height, cells);
            for x in 0..width {
                let (left, right) = place(x, width, cells);
                let row = |at: usize| {
                    lattice[at * side + left] * (1.0 - right) + lattice[at * side + left + 1] * right
                };
                sum[y * width + x] += row(top) * (1.0 - down) + row(top + 1) * down;
            }
        }
    }
    sum
}

/// The lattice cell in which position `at` of `size` lies, and how far into it, 0 to 1.
fn place(at: usize, size: usize, cells: usize) -> (usize, f64) {
    let scaled = at * cells;
    (scaled / size, (scaled % size) as f64 / size as f64)
}

/// Steele, Lea and Flood's SplitMix64 ("Fast Splittable Pseudorandom Number Generators", OOPSLA 2014): integers only, so
/// that every machine makes the same pictures.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly in −1 to 1.
    fn signed(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Within so many of them one after another, the order is random.
const MIXED: usize = 50;

/// The kind of each of `count` frames: any stretch of them holds each kind as often as `shares` says, to within one or two, in an
/// order that is random among neighbours. Were each drawn by itself, a few hundred would be another mix by some percent.
pub fn mixed(shares: &[Share], count: usize, seed: u64) -> Vec<usize> {
    let mut given = vec![0.0; shares.len()];
    let mut kinds: Vec<usize> = Vec::with_capacity(count);
    for frames in 1..=count {
        let lacks = |kind: usize| shares[kind].0 * frames as f64 - given[kind];
        let Some(kind) = (0..shares.len()).max_by(|&a, &b| lacks(a).total_cmp(&lacks(b))) else { break };
        given[kind] += 1.0;
        kinds.push(kind);
    }
    let mut random = SplitMix64(seed);
    for neighbours in kinds.chunks_mut(MIXED) {
        for last in (1..neighbours.len()).rev() {
            neighbours.swap(last, (random.next() % (last as u64 + 1)) as usize);
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_as_often_as_they_should_in_every_stretch_and_in_no_order() {
        let shares = [0.37, 0.0, 0.21, 0.42].map(Share);
        let kinds = mixed(&shares, 1000, 7);
        for start in [0, 300, 650] {
            for (kind, share) in shares.into_iter().enumerate() {
                let found = kinds[start..start + 200].iter().filter(|&&other| other == kind).count();
                assert!((found as f64 - 200.0 * share.0).abs() <= 2.0, "{found} of {kind} from {start}");
            }
        }
        // Sorted by kind, or in turns, few or nearly all would differ from the one before.
        let changes = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((550..750).contains(&changes), "{changes}");
        assert_eq!(kinds, mixed(&shares, 1000, 7));
        assert_eq!((mixed(&[], 5, 7), mixed(&[Share(1.0)], 3, 7)), (vec![], vec![0; 3]));
    }

    #[test]
    fn the_same_seed_gives_the_same_pictures() {
        let frames = made_up_frames(&[3, 32, 32], 3, 7);
        assert_eq!(frames, made_up_frames(&[3, 32, 32], 3, 7));
        assert_eq!(frames.bytes(1), made_up_frames(&[3, 32, 32], 2, 7).bytes(1));
        assert_ne!(frames.bytes(0), frames.bytes(1));
        assert_ne!(frames.bytes(0), made_up_frames(&[3, 32, 32], 1, 8).bytes(0));
        assert_eq!((frames.len(), frames.label(0)), (3, None));
    }

    #[test]
    fn they_are_the_same_on_every_machine() {
        // The published first outputs of SplitMix64 for seed 1234567.
        let mut random = SplitMix64(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        let sum: u64 = made_up_frames(&[3, 32, 32], 4, 1).bytes(3).iter().map(|&byte| u64::from(byte)).sum();
        assert_eq!(sum, 677_956);
    }

    #[test]
    fn neighbouring_pixels_are_alike_but_the_picture_is_not_flat() {
        let frames = made_up_frames(&[3, 32, 32], 20, 1);
        let (mut steps, mut spread) = (0, 0);
        for i in 0..frames.len() {
            let pixels = frames.bytes(i);
            steps += pixels.windows(2).map(|two| two[0].abs_diff(two[1]) as usize).sum::<usize>() / 3071;
            spread += (pixels.iter().max().unwrap() - pixels.iter().min().unwrap()) as usize;
        }
        assert!((2..20).contains(&(steps / 20)), "mean step {}", steps / 20);
        assert!(spread / 20 > 80, "mean spread {}", spread / 20);
    }

    #[test]
    fn any_shape_will_do() {
        assert_eq!(made_up_frames(&[1, 5, 7], 2, 0).bytes(1).len(), 35);
        assert_eq!(made_up_frames(&[9], 2, 0).bytes(1).len(), 9);
        assert!(made_up_frames(&[3, 0, 0], 2, 0).is_empty());
    }
}
