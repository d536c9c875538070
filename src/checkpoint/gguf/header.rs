//! The header of a GGUF file: metadata, then what is known of each tensor.
//!
//! A function of bytes alone that takes nothing on trust, so that property tests and a fuzzer can drive it. Nothing is
//! reserved by a count that the file claims: memory grows with what was really read.

use crate::checkpoint::ggml::BlockType;
use crate::checkpoint::tensor::{Change, Dtype, Encoding, TensorInfo};
use crate::checkpoint::{QUOTE, clip};
use std::collections::BTreeMap;

/// More keys, tensors, bytes of a name or numbers of a list than any model has.
const MAX_KEYS: u64 = 1 << 16;
pub(super) const MAX_TENSORS: u64 = 1 << 20;
const MAX_NAME: u64 = 1 << 16;
const MAX_LIST: u64 = 1 << 22;
const MAX_TEXT: u64 = 1 << 26;
const MAX_DIMENSIONS: u32 = 4;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any integer type, and true as 1.
    Integer(i128),
    /// Either floating point type.
    Float(f64),
    /// True or false.
    Flag(bool),
    /// Bytes that ought to be UTF-8; what is not is replaced.
    Text(String),
    /// A list of numbers of any type.
    Numbers(Vec<f64>),
    /// A list of texts.
    Texts(Vec<String>),
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Values by their key.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors, by the names and in the order of the file; shapes with the slowest dimension first.
    pub tensors: Vec<TensorInfo>,
}

/// Reads and checks the header of a GGUF file of `file_len` bytes that starts with `bytes`, which hold the header at
/// least. The error is what was found and what was expected.
pub fn parse(bytes: &[u8], file_len: u64) -> Result<Header, String> {
    let mut reader = Reader { bytes, at: 0 };
    let magic = reader.take(4)?;
    if magic != b"GGUF" {
        return Err(format!("starts with {:?}, expected \"GGUF\"", clip(&String::from_utf8_lossy(magic), 8)));
    }
    let version = reader.u32()?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 2 | 3) => {
            return Err("is a GGUF file for big-endian machines, expected a little-endian one".to_owned());
        }
        _ => return Err(format!("is of GGUF version {version}, expected 2 or 3")),
    }
    let tensors = reader.count("tensors", MAX_TENSORS)?;
    let keys = reader.count("keys", MAX_KEYS)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..keys {
        let key = reader.text("a key", MAX_NAME)?;
        let kind = reader.u32()?;
        let value = reader.value(kind, &key)?;
        if metadata.contains_key(&key) {
            return Err(format!("has the key {:?} twice", clip(&key, QUOTE)));
        }
        metadata.insert(key, value);
    }
    let mut infos = Vec::new();
    for _ in 0..tensors {
        infos.push(reader.tensor()?);
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Integer(n)) if (8..=1 << 20).contains(n) && n & (n - 1) == 0 => *n as u64,
        Some(other) => return Err(format!("general.alignment is {other:?}, expected a power of 2 from 8")),
    };
    let start = (reader.at as u64).next_multiple_of(alignment);
    lay_out(&mut infos, start, alignment, file_len)?;
    Ok(Header { version, metadata, tensors: infos })
}

/// Moves the tensors' bytes from the start of the data to the start of the file, and checks that they lie in it and apart.
fn lay_out(infos: &mut [TensorInfo], start: u64, alignment: u64, file_len: u64) -> Result<(), String> {
    let start = usize::try_from(start).map_err(|_| "is larger than this machine can address".to_owned())?;
    let mut order: Vec<usize> = (0..infos.len()).collect();
    order.sort_by_key(|&i| (infos[i].bytes.start, infos[i].bytes.end));
    let mut next = 0;
    for i in order {
        let info = &mut infos[i];
        let name = || format!("its tensor {:?}", clip(&info.name, QUOTE));
        if !info.bytes.start.is_multiple_of(alignment as usize) {
            return Err(format!(
                "{} starts at {}, expected a multiple of {alignment}",
                name(),
                info.bytes.start
            ));
        }
        if info.bytes.start < next {
            return Err(format!(
                "{} starts at {} of the data, inside of the tensor before it",
                name(),
                info.bytes.start
            ));
        }
        next = info.bytes.end;
        let end = start.checked_add(info.bytes.end).filter(|&end| end as u64 <= file_len);
        let Some(end) = end else {
            let found = format!("{} ends {} bytes after the header", name(), info.bytes.end);
            return Err(format!("{found}, and the file at {file_len}: is it cut short?"));
        };
        info.bytes = start + info.bytes.start..end;
    }
    let mut names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("has the tensor {:?} twice", clip(pair[0], QUOTE))),
        None => Ok(()),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            let left = self.bytes.len() - self.at;
            return Err(format!(
                "its header wants {n} more bytes at {}, and {left} follow: is it cut short?",
                self.at
            ));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn count(&mut self, what: &str, most: u64) -> Result<u64, String> {
        match self.u64()? {
            n if n <= most => Ok(n),
            n => Err(format!("claims {n} {what}, expected at most {most}")),
        }
    }

    fn text(&mut self, what: &str, most: u64) -> Result<String, String> {
        let length = self.u64()?;
        if length > most {
            return Err(format!("{what} claims {length} bytes, expected at most {most}"));
        }
        Ok(String::from_utf8_lossy(self.take(length as usize)?).into_owned())
    }

    /// A number of the type `kind`.
    fn number(&mut self, kind: u32) -> Result<Option<Value>, String> {
        Ok(Some(match kind {
            0 => Value::Integer(self.array::<1>()?[0].into()),
            1 => Value::Integer(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Flag(self.array::<1>()?[0] != 0),
            10 => Value::Integer(self.u64()?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.array()?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Ok(None),
        }))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, String> {
        let problem = |what: String| format!("its key {:?} {what}", clip(key, QUOTE));
        match kind {
            8 => self.text("a text of the metadata", MAX_TEXT).map(Value::Text),
            9 => {
                let kind = self.u32()?;
                let count = self.count("elements of a list", MAX_LIST).map_err(problem)?;
                if kind == 8 {
                    let texts = (0..count).map(|_| self.text("a text of a list", MAX_NAME));
                    return texts.collect::<Result<_, _>>().map(Value::Texts);
                }
                let mut numbers = Vec::new();
                for _ in 0..count {
                    numbers.push(match self.number(kind)? {
                        Some(Value::Integer(n)) => n as f64,
                        Some(Value::Float(x)) => x,
                        Some(Value::Flag(b)) => f64::from(u8::from(b)),
                        _ => {
                            return Err(problem(format!(
                                "is a list of type {kind}, expected numbers or texts"
                            )));
                        }
                    });
                }
                Ok(Value::Numbers(numbers))
            }
            _ => self.number(kind)?.ok_or_else(|| problem(format!("has type {kind}, expected 0 to 12"))),
        }
    }

    /// What is known of one tensor; its bytes are counted from the start of the data.
    fn tensor(&mut self) -> Result<TensorInfo, String> {
        let name = self.text("a tensor's name", MAX_NAME)?;
        let problem = |what: String| format!("its tensor {:?} {what}", clip(&name, QUOTE));
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(problem(format!("has {dimensions} dimensions, expected at most {MAX_DIMENSIONS}")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let n = self.u64()?;
            shape.push(usize::try_from(n).map_err(|_| problem(format!("has a dimension of {n}")))?);
        }
        shape.reverse();
        let kind = self.u32()?;
        let encoding = match kind {
            0 => Encoding::Plain(Dtype::F32),
            1 => Encoding::Plain(Dtype::F16),
            24 => Encoding::Plain(Dtype::I8),
            25 => Encoding::Plain(Dtype::I16),
            26 => Encoding::Plain(Dtype::I32),
            27 => Encoding::Plain(Dtype::I64),
            28 => Encoding::Plain(Dtype::F64),
            30 => Encoding::Plain(Dtype::BF16),
            _ => match BlockType::numbered(kind) {
                Some(t) => Encoding::Blocks(t),
                None => {
                    let known: Vec<_> = crate::checkpoint::ggml::BLOCK_TYPES.iter().map(|t| t.name).collect();
                    let expected = format!("expected F32, F16, BF16, {}", known.join(", "));
                    return Err(problem(format!("is of ggml type {kind}, which cannot be read; {expected}")));
                }
            },
        };
        let offset = self.u64()?;
        let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let bytes = elements.and_then(|n| encoding.bytes(n, shape.last().copied().unwrap_or(1)));
        let (Some(elements), Some(bytes)) = (elements, bytes) else {
            return Err(problem(format!("has shape {shape:?}, which {encoding} cannot have")));
        };
        let start = usize::try_from(offset).ok();
        let Some((start, end)) = start.and_then(|start| Some((start, start.checked_add(bytes)?))) else {
            return Err(problem(format!("starts at {offset}, beyond any file")));
        };
        Ok(TensorInfo { name, encoding, shape, elements, bytes: start..end, change: Change::None })
    }
}
