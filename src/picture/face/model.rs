//! Reads the convolutions of the model from its TensorFlow Lite file, which is a FlatBuffer. Every offset is checked.
//!
//! Field numbers are those of `schema.fbs` in TensorFlow Lite, version 3.

/// The model as published; see `NOTICE` beside it.
pub(super) const BYTES: &[u8] = include_bytes!("blazeface.tflite");

/// `BuiltinOperator` numbers.
const CONV_2D: u8 = 3;
const DEPTHWISE_CONV_2D: u8 = 4;
const DEQUANTIZE: u8 = 6;

/// A convolution as stored.
#[derive(Debug)]
pub(super) struct Convolution {
    /// Outputs, height, width and inputs; of a depthwise one 1, height, width and channels.
    pub(super) shape: Vec<usize>,
    /// Weights in the order of `shape`.
    pub(super) weights: Vec<f32>,
    /// Bias of each output.
    pub(super) bias: Vec<f32>,
}

/// All convolutions, in the order in which they are executed. `None` if the file is not such a model.
pub(super) fn convolutions(bytes: &[u8]) -> Option<Vec<Convolution>> {
    let model = Table { bytes, at: read_u32(bytes, 0)? };
    let codes: Vec<u8> = model.tables(1)?.iter().map(|code| code.byte(0)).collect::<Option<_>>()?;
    let buffers = model.tables(4)?;
    let graph = *model.tables(2)?.first()?;
    let tensors = graph.tables(0)?;
    let mut convolutions = Vec::new();
    // Tensor that a Dequantize operator expands to f32, and the one that it reads.
    let mut stored_as = vec![None; tensors.len()];
    for operator in graph.tables(3)? {
        let (inputs, outputs) = (operator.numbers(1)?, operator.numbers(2)?);
        match *codes.get(operator.number(0)?)? {
            DEQUANTIZE => *stored_as.get_mut(*outputs.first()?)? = Some(*inputs.first()?),
            CONV_2D | DEPTHWISE_CONV_2D => {
                let &[_, weights, bias] = inputs.as_slice() else { return None };
                let constant = |tensor: usize| {
                    let stored = tensors.get((*stored_as.get(tensor)?)?)?;
                    let halves = buffers.get(stored.number(2)?)?.vector(0, 1)?.as_chunks::<2>().0;
                    Some(halves.iter().map(|&half| f16_to_f32(u16::from_le_bytes(half))).collect())
                };
                let (shape, weights, bias): (_, Vec<f32>, Vec<f32>) =
                    (tensors.get(weights)?.numbers(0)?, constant(weights)?, constant(bias)?);
                if shape.iter().try_fold(1, |product: usize, &side| product.checked_mul(side)) != Some(weights.len()) {
                    return None;
                }
                convolutions.push(Convolution { shape, weights, bias });
            }
            _ => {}
        }
    }
    Some(convolutions)
}

/// A table of a FlatBuffer: its fields are found through its vtable.
#[derive(Debug, Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    /// Offset of a field in the file; `None` if the field is absent.
    fn field(&self, number: usize) -> Option<usize> {
        let back = read_u32(self.bytes, self.at)? as u32 as i32;
        let vtable = usize::try_from(i64::try_from(self.at).ok()? - i64::from(back)).ok()?;
        let entry = 4 + 2 * number;
        if entry + 2 > read_u16(self.bytes, vtable)? {
            return None;
        }
        let offset = read_u16(self.bytes, vtable + entry)?;
        (offset > 0).then_some(self.at + offset)
    }

    /// A field of one byte; absent fields are 0.
    fn byte(&self, number: usize) -> Option<u8> {
        self.field(number).map_or(Some(0), |at| self.bytes.get(at).copied())
    }

    /// An unsigned field of four bytes; absent fields are 0.
    fn number(&self, number: usize) -> Option<usize> {
        self.field(number).map_or(Some(0), |at| read_u32(self.bytes, at))
    }

    /// Bytes of a vector whose elements have `size` bytes.
    fn vector(&self, number: usize, size: usize) -> Option<&'a [u8]> {
        let at = self.field(number)?;
        let start = at.checked_add(read_u32(self.bytes, at)?)?;
        let length = read_u32(self.bytes, start)?.checked_mul(size)?;
        self.bytes.get(start.checked_add(4)?..)?.get(..length)
    }

    /// A vector of indices.
    fn numbers(&self, number: usize) -> Option<Vec<usize>> {
        let numbers = self.vector(number, 4)?.as_chunks::<4>().0;
        Some(numbers.iter().map(|&number| u32::from_le_bytes(number) as usize).collect())
    }

    /// A vector of tables.
    fn tables(&self, number: usize) -> Option<Vec<Self>> {
        let elements = self.vector(number, 4)?;
        let first = elements.as_ptr().addr() - self.bytes.as_ptr().addr();
        let table = |(n, &offset): (usize, &[u8; 4])| {
            let at = (first + 4 * n).checked_add(u32::from_le_bytes(offset) as usize)?;
            Some(Self { bytes: self.bytes, at })
        };
        elements.as_chunks::<4>().0.iter().enumerate().map(table).collect()
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

fn read_u16(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

/// Converts an IEEE 754 half-precision number, which is exact.
fn f16_to_f32(bits: u16) -> f32 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (u32::from(bits >> 10 & 31), u32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction as f32 / f32::from_bits((127 + 24) << 23),
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    sign * magnitude
}
