//! Tensors as slices of values: places one after another, the channels of each side by side.

use std::slice;

use tch::{Device, Kind, TchError, Tensor};

/// Constants. libtorch's memory begins with a cache line, so that no vector lies across two of them.
pub struct Constants {
    tensor: Tensor,
    length: usize,
}

impl Constants {
    pub fn zeros(length: usize) -> Result<Self, TchError> {
        Ok(Self { tensor: Tensor::f_zeros([length as i64], (Kind::Float, Device::Cpu))?, length })
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: the tensor was made with so many values on the processor, and nobody else holds it.
        unsafe { values_mut(&mut self.tensor, self.length) }
    }

    pub fn values(&self) -> &[f32] {
        // SAFETY: the tensor was made of so many values on the processor, and nobody else holds it.
        unsafe { values(&self.tensor, self.length) }
    }
}

/// # Safety
///
/// From its first value on, the tensor must have `length` of them in a row, in single precision and in the processor's memory,
/// and nobody may write them meanwhile.
unsafe fn values(tensor: &Tensor, length: usize) -> &[f32] {
    match length {
        // Where there is nothing, libtorch's pointer may be null.
        0 => &[],
        // SAFETY: the caller's promise.
        _ => unsafe { slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), length) },
    }
}

/// # Safety
///
/// As of [`values`]; nobody may read them meanwhile, either.
unsafe fn values_mut(tensor: &mut Tensor, length: usize) -> &mut [f32] {
    match length {
        0 => &mut [],
        // SAFETY: the caller's promise.
        _ => unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), length) },
    }
}

/// What a layer reads. There may be gaps between places.
pub struct Plane {
    /// Holds the values.
    tensor: Tensor,
    pub places: usize,
    pub channels: usize,
    /// How far apart the first channels of neighbours are.
    pub pitch: usize,
}

impl Plane {
    /// `[1, channels, height, width]`; it is copied unless it lies channels-last.
    pub fn of(tensor: &Tensor) -> Result<Self, TchError> {
        let (batch, channels, height, width) = tensor.size4()?;
        if batch != 1 {
            return Err(TchError::Shape(format!("one sample at a time, found {batch}")));
        }
        let (_, channel, row, column) = tensor.stride4()?;
        let pitch = if width > 1 { column } else { row };
        let steps = (channel == 1 || channels == 1) && (height == 1 || width == 1 || row == width * column);
        let places = (height * width) as usize;
        if steps && (places == 1 || pitch >= channels) {
            let pitch = if places == 1 { channels } else { pitch };
            return Self::checked(tensor.shallow_clone(), places, channels, pitch);
        }
        let copy = tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?;
        Self::checked(copy, places, channels, channels)
    }

    /// As many rows of the values, read row-major.
    pub fn of_rows(tensor: &Tensor, rows: usize) -> Result<Self, TchError> {
        let table = tensor.f_reshape([rows as i64, -1])?.f_contiguous()?;
        let columns = table.size2()?.1;
        Self::checked(table, rows, columns, columns)
    }

    fn checked(tensor: Tensor, places: usize, channels: i64, pitch: i64) -> Result<Self, TchError> {
        if tensor.f_kind()? != Kind::Float || tensor.device() != Device::Cpu {
            return Err(TchError::Kind("single precision on the processor is expected".into()));
        }
        Ok(Self { tensor, places, channels: channels as usize, pitch: pitch as usize })
    }

    pub fn rows(&self) -> Rows<'_> {
        let length = match self.places {
            0 => 0,
            places => (places - 1) * self.pitch + self.channels,
        };
        // SAFETY: `places` and `pitch` were read off the tensor, which has single precision, lies in the processor's memory
        // and lives as long as this.
        let values = unsafe { values(&self.tensor, length) };
        Rows { values, pitch: self.pitch }
    }
}

/// The values of a plane, place by place.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    values: &'a [f32],
    pitch: usize,
}

impl<'a> Rows<'a> {
    /// Some channels of a place.
    #[inline(always)]
    pub fn row(self, place: u32, first: usize, channels: usize) -> &'a [f32] {
        &self.values[place as usize * self.pitch + first..][..channels]
    }
}

/// What a layer writes, without gaps.
pub struct Target {
    tensor: Tensor,
    length: usize,
}

impl Target {
    pub fn new(places: usize, channels: usize) -> Result<Self, TchError> {
        let tensor = Tensor::f_empty([places as i64, channels as i64], (Kind::Float, Device::Cpu))?;
        Ok(Self { tensor, length: places * channels })
    }

    pub fn values(&mut self) -> &mut [f32] {
        // SAFETY: the tensor was made with so many values and nobody else holds it. What libtorch's allocator left in them
        // are numbers of some sort: it is foreign code, which may have written them.
        unsafe { values_mut(&mut self.tensor, self.length) }
    }

    /// `[1, channels, height, width]`, channels-last.
    pub fn into_plane(self, [height, width]: [usize; 2]) -> Result<Tensor, TchError> {
        self.tensor.f_view([1, height as i64, width as i64, -1])?.f_permute([0, 3, 1, 2])
    }

    /// `[rows, values]`
    pub fn into_rows(self) -> Result<Tensor, TchError> {
        Ok(self.tensor)
    }
}
