//! Constant tensors: stored in the file, or computed while reading it.

use std::sync::Arc;

use half::{bf16, f16};

use super::proto::{TensorProto, data_type};
use crate::error::{Error, Result};
use crate::model::Weights;

/// A tensor whose values are known while reading. Every floating-point type becomes `f32`, every other one `i64`.
#[derive(Clone, Debug)]
pub enum Constant {
    /// Weights and other real values.
    Float(Arc<Weights>),
    /// Shapes, axes and flags.
    Int(Arc<Ints>),
}

/// A tensor of integers, row-major.
#[derive(Debug)]
pub struct Ints {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values; as many as the product of `shape`.
    pub data: Vec<i64>,
    /// The least and the largest value of the element type that they were stored in.
    pub range: [i64; 2],
}

impl Constant {
    /// From values that number the product of `shape`.
    pub fn float(shape: Vec<usize>, data: Vec<f32>) -> Self {
        Self::Float(Arc::new(Weights { shape, data }))
    }

    /// From 64-bit values that number the product of `shape`.
    pub fn int(shape: Vec<usize>, data: Vec<i64>) -> Self {
        Self::of_range(shape, data, [i64::MIN, i64::MAX])
    }

    /// From values that number the product of `shape`, of an element type with this least and largest value.
    pub fn of_range(shape: Vec<usize>, data: Vec<i64>, range: [i64; 2]) -> Self {
        Self::Int(Arc::new(Ints { shape, data, range }))
    }

    /// Its dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(weights) => &weights.shape,
            Self::Int(ints) => &ints.shape,
        }
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        match self {
            Self::Float(weights) => weights.data.len(),
            Self::Int(ints) => ints.data.len(),
        }
    }

    /// The same values under another shape, which must hold as many.
    pub fn reshaped(&self, shape: Vec<usize>) -> Self {
        match self {
            Self::Float(weights) => Self::float(shape, weights.data.clone()),
            Self::Int(ints) => Self::of_range(shape, ints.data.clone(), ints.range),
        }
    }

    /// Its values as real numbers.
    pub fn as_float(&self) -> Self {
        match self {
            Self::Float(_) => self.clone(),
            Self::Int(ints) => {
                Self::float(ints.shape.clone(), ints.data.iter().map(|&value| value as f32).collect())
            }
        }
    }

    /// Its values as integers, cut off towards 0.
    pub fn as_int(&self) -> Self {
        match self {
            Self::Int(_) => self.clone(),
            Self::Float(weights) => {
                Self::int(weights.shape.clone(), weights.data.iter().map(|&value| value as i64).collect())
            }
        }
    }

    /// 1 where a value is not 0.
    pub fn as_flags(&self) -> Self {
        let flags = match self {
            Self::Float(weights) => weights.data.iter().map(|&value| i64::from(value != 0.0)).collect(),
            Self::Int(ints) => ints.data.iter().map(|&value| i64::from(value != 0)).collect(),
        };
        Self::int(self.shape().to_vec(), flags)
    }

    /// Its only value, if it is a single integer.
    pub fn single_int(&self) -> Option<i64> {
        match self {
            Self::Int(ints) if ints.data.len() == 1 => Some(ints.data[0]),
            _ => None,
        }
    }

    /// Its only value, if it is a single real number.
    pub fn single_float(&self) -> Option<f32> {
        match self {
            Self::Float(weights) if weights.data.len() == 1 => Some(weights.data[0]),
            _ => None,
        }
    }

    /// Reads a stored tensor. Nothing is allocated before the data is known to be as long as the shape says.
    pub fn decode(tensor: &TensorProto) -> Result<Self, String> {
        if tensor.data_location != 0 || !tensor.external_data.is_empty() {
            return Err("its weights lie in a separate file, which is not there".into());
        }
        let shape = dimensions(&tensor.dims)?;
        let count = elements(&shape).ok_or("its dimensions overflow")?;
        match tensor.data_type {
            data_type::FLOAT | data_type::FLOAT16 | data_type::BFLOAT16 | data_type::DOUBLE => {
                Ok(Self::float(shape, float_values(tensor, count)?))
            }
            other => match range(other) {
                Some(range) => Ok(Self::of_range(shape, int_values(tensor, count)?, range)),
                None => Err(format!(
                    "element type {other} is not supported; supported: float, float16, bfloat16, double, \
                     int8, uint8, int16, uint16, int32, int64, bool"
                )),
            },
        }
    }
}

/// The least and the largest value of an element type; `None` for types that are not read, and those of real numbers.
pub fn range(data_type: i32) -> Option<[i64; 2]> {
    Some(match data_type {
        data_type::INT64 => [i64::MIN, i64::MAX],
        data_type::INT32 => [i32::MIN.into(), i32::MAX.into()],
        data_type::INT16 => [i16::MIN.into(), i16::MAX.into()],
        data_type::INT8 => [i8::MIN.into(), i8::MAX.into()],
        data_type::UINT16 => [0, u16::MAX.into()],
        data_type::UINT8 => [0, u8::MAX.into()],
        data_type::BOOL => [0, 1],
        _ => return None,
    })
}

/// More axes than any tensor of a network has.
pub const MAX_RANK: usize = 16;

/// Sides of a tensor without values multiply to no more than this: nobody pays for such sides, and they are walked through.
const MOST_OF_NOTHING: usize = 1 << 20;

/// How many values a shape has; `None` where they cannot be counted, or where it has none but sides beyond all measure.
pub fn elements(shape: &[usize]) -> Option<usize> {
    let mut sides = shape.iter().filter(|&&side| side != 0);
    let product = sides.try_fold(1_usize, |product, &side| product.checked_mul(side))?;
    if !shape.contains(&0) {
        return Some(product);
    }
    (product <= MOST_OF_NOTHING).then_some(0)
}

/// How long a value of an element type is where it is stored raw; `None` for types that are not read.
pub fn value_bytes(data_type: i32) -> Option<usize> {
    match data_type {
        data_type::INT64 | data_type::DOUBLE => Some(8),
        data_type::FLOAT | data_type::INT32 => Some(4),
        data_type::FLOAT16 | data_type::BFLOAT16 | data_type::INT16 | data_type::UINT16 => Some(2),
        data_type::BOOL | data_type::INT8 | data_type::UINT8 => Some(1),
        _ => None,
    }
}

/// A stored shape.
pub fn dimensions(dims: &[i64]) -> Result<Vec<usize>, String> {
    if dims.len() > MAX_RANK {
        return Err(format!("it has {} axes, expected up to {MAX_RANK}", dims.len()));
    }
    dims.iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| format!("its dimension {dim} is negative")))
        .collect()
}

fn float_values(tensor: &TensorProto, count: usize) -> Result<Vec<f32>, String> {
    let bits = |values: &[i32], convert: fn(u16) -> f32| {
        typed(values, count, |value| {
            u16::try_from(value).map(convert).map_err(|_| "has values beyond 16 bits".into())
        })
    };
    let raw = &tensor.raw_data;
    match (tensor.data_type, raw.is_empty()) {
        (data_type::FLOAT, true) => typed(&tensor.float_data, count, Ok),
        (data_type::FLOAT, false) => raw_values(raw, count, f32::from_le_bytes),
        (data_type::DOUBLE, true) => typed(&tensor.double_data, count, |value| Ok(value as f32)),
        (data_type::DOUBLE, false) => raw_values(raw, count, |bytes| f64::from_le_bytes(bytes) as f32),
        (data_type::FLOAT16, true) => bits(&tensor.int32_data, |value| f16::from_bits(value).to_f32()),
        (data_type::FLOAT16, false) => raw_values(raw, count, |bytes| f16::from_le_bytes(bytes).to_f32()),
        (_, true) => bits(&tensor.int32_data, |value| bf16::from_bits(value).to_f32()),
        (_, false) => raw_values(raw, count, |bytes| bf16::from_le_bytes(bytes).to_f32()),
    }
}

fn int_values(tensor: &TensorProto, count: usize) -> Result<Vec<i64>, String> {
    let raw = &tensor.raw_data;
    match (tensor.data_type, raw.is_empty()) {
        (data_type::INT64, true) => typed(&tensor.int64_data, count, Ok),
        (data_type::INT64, false) => raw_values(raw, count, i64::from_le_bytes),
        (data_type::INT32, false) => raw_values(raw, count, |bytes| i32::from_le_bytes(bytes).into()),
        (data_type::INT16, false) => raw_values(raw, count, |bytes| i16::from_le_bytes(bytes).into()),
        (data_type::UINT16, false) => raw_values(raw, count, |bytes| u16::from_le_bytes(bytes).into()),
        (data_type::INT8, false) => raw_values(raw, count, |bytes| i8::from_le_bytes(bytes).into()),
        (_, true) => typed(&tensor.int32_data, count, |value| Ok(value.into())),
        (_, false) => raw_values(raw, count, |[byte]: [u8; 1]| byte.into()),
    }
}

fn typed<S: Copy, T>(
    values: &[S],
    count: usize,
    convert: impl Fn(S) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    if values.len() != count {
        return Err(format!("its shape says {count} values, but it holds {}", values.len()));
    }
    values.iter().map(|&value| convert(value)).collect()
}

fn raw_values<const N: usize, T>(
    raw: &[u8],
    count: usize,
    convert: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, String> {
    if count.checked_mul(N) != Some(raw.len()) {
        return Err(format!("its shape says {count} values of {N} bytes, but it holds {} bytes", raw.len()));
    }
    let (chunks, _) = raw.as_chunks::<N>();
    Ok(chunks.iter().map(|&bytes| convert(bytes)).collect())
}

/// The most values that nodes fill constants with, which cost a file nothing: VGG-19 has 144 million weights.
const MAX_FILLED: usize = 150_000_000;

/// How many values may be written by computing with constants, so that a small file cannot ask for much memory.
#[derive(Debug)]
pub struct Budget {
    left: usize,
    fillable: usize,
}

impl Budget {
    /// Enough for any real file of this many bytes: each weight is written a few times at most.
    pub fn for_file(bytes: usize) -> Self {
        Self { left: bytes.saturating_mul(4).max(1 << 22), fillable: MAX_FILLED }
    }

    /// Takes as many values as a constant of this shape that is full of one value, and says how many. It may be used like
    /// one that is stored: each weight is written twice more.
    pub fn fill(&mut self, shape: &[usize]) -> Result<usize> {
        let count = elements(shape).unwrap_or(usize::MAX);
        self.fillable = self.fillable.checked_sub(count).ok_or_else(|| {
            Error::failed(format!(
                "its nodes fill constants with over {MAX_FILLED} values; store its weights"
            ))
        })?;
        self.left = self.left.saturating_add(count.saturating_mul(2));
        Ok(count)
    }

    /// Takes `values` from it.
    pub fn take(&mut self, values: usize) -> Result<()> {
        self.left = self.left.checked_sub(values).ok_or_else(|| {
            Error::failed(
                "its constants grow far beyond the file's own size; not a model that an exporter writes",
            )
        })?;
        Ok(())
    }

    /// Takes as many values as a tensor of this shape holds, and says how many.
    pub fn take_shape(&mut self, shape: &[usize]) -> Result<usize> {
        let count = elements(shape).unwrap_or(usize::MAX);
        self.take(count)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { dims: dims.to_vec(), data_type, ..TensorProto::default() }
    }

    fn floats(tensor: &TensorProto) -> Vec<f32> {
        match Constant::decode(tensor).unwrap() {
            Constant::Float(weights) => weights.data.clone(),
            Constant::Int(_) => panic!("expected floats"),
        }
    }

    #[test]
    fn every_float_type_reads_the_same_values() {
        let values = [1.5_f32, -2.0];
        let halves = values.map(f16::from_f32);
        let brains = values.map(bf16::from_f32);
        let raw = |bytes: Vec<u8>, data_type| TensorProto { raw_data: bytes, ..tensor(data_type, &[2]) };
        let bits = |bits: Vec<u16>, data_type| TensorProto {
            int32_data: bits.into_iter().map(i32::from).collect(),
            ..tensor(data_type, &[2])
        };
        let stored = [
            raw(values.iter().flat_map(|v| v.to_le_bytes()).collect(), data_type::FLOAT),
            raw(values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(), data_type::DOUBLE),
            raw(halves.iter().flat_map(|v| v.to_le_bytes()).collect(), data_type::FLOAT16),
            raw(brains.iter().flat_map(|v| v.to_le_bytes()).collect(), data_type::BFLOAT16),
            bits(halves.iter().map(|v| v.to_bits()).collect(), data_type::FLOAT16),
            bits(brains.iter().map(|v| v.to_bits()).collect(), data_type::BFLOAT16),
            TensorProto { float_data: values.to_vec(), ..tensor(data_type::FLOAT, &[2]) },
            TensorProto { double_data: vec![1.5, -2.0], ..tensor(data_type::DOUBLE, &[1, 2]) },
        ];
        for tensor in &stored {
            assert_eq!(floats(tensor), values, "{tensor:?}");
        }
    }

    #[test]
    fn every_int_type_reads_the_same_values() {
        let raw = |bytes: Vec<u8>, data_type| TensorProto { raw_data: bytes, ..tensor(data_type, &[2]) };
        let stored = [
            raw([1_i64, 0].iter().flat_map(|v| v.to_le_bytes()).collect(), data_type::INT64),
            raw([1_i32, 0].iter().flat_map(|v| v.to_le_bytes()).collect(), data_type::INT32),
            raw(vec![1, 0], data_type::BOOL),
            raw(vec![1, 0], data_type::INT8),
            raw(vec![1, 0, 0, 0], data_type::INT16),
            raw(vec![1, 0, 0, 0], data_type::UINT16),
            TensorProto { int64_data: vec![1, 0], ..tensor(data_type::INT64, &[2]) },
            TensorProto { int32_data: vec![1, 0], ..tensor(data_type::INT32, &[2]) },
        ];
        for tensor in &stored {
            match Constant::decode(tensor).unwrap() {
                Constant::Int(ints) => assert_eq!(ints.data, [1, 0]),
                Constant::Float(_) => panic!("expected integers: {tensor:?}"),
            }
        }
    }

    #[test]
    fn lying_sizes_are_errors() {
        let huge = tensor(data_type::FLOAT, &[1 << 31, 1 << 31, 1 << 31]);
        assert!(Constant::decode(&huge).unwrap_err().contains("overflow"));
        let long = TensorProto { raw_data: vec![0; 8], ..tensor(data_type::FLOAT, &[1 << 40]) };
        assert!(Constant::decode(&long).unwrap_err().contains("holds 8 bytes"));
        assert!(Constant::decode(&tensor(data_type::FLOAT, &[-1])).unwrap_err().contains("negative"));
        assert!(Constant::decode(&tensor(data_type::FLOAT, &[3])).unwrap_err().contains("holds 0"));
        let nothing = |dims: &[i64]| Constant::decode(&tensor(data_type::FLOAT, dims));
        assert!(nothing(&[1 << 62, 0]).unwrap_err().contains("overflow"));
        assert_eq!(nothing(&[1 << 10, 0, 1 << 10]).unwrap().shape(), [1 << 10, 0, 1 << 10]);
        let outside = TensorProto { data_location: 1, ..tensor(data_type::FLOAT, &[3]) };
        assert!(Constant::decode(&outside).unwrap_err().contains("separate file"));
    }

    #[test]
    fn the_budget_runs_out() {
        let mut budget = Budget::for_file(0);
        budget.take(1 << 22).unwrap();
        assert!(budget.take(1).is_err());
    }

    #[test]
    fn filled_constants_are_used_like_stored_ones_up_to_a_size() {
        let mut budget = Budget::for_file(0);
        assert_eq!(budget.fill(&[144_000_000]).unwrap(), 144_000_000);
        budget.take(288_000_000).unwrap();
        assert!(budget.fill(&[6_000_001]).is_err() && budget.fill(&[1 << 40, 1 << 40]).is_err());
        budget.fill(&[6_000_000]).unwrap();
    }
}
