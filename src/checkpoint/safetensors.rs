//! Reading safetensors files: a length, a JSON header, and the tensors' bytes to the end of the file.
//!
//! [`parse_header`] takes nothing on trust, and it is a function of bytes alone, so that property tests
//! and a fuzzer can drive it.

use super::{Change, Encoding, MAX_JSON, MESSAGE, QUOTE, TensorInfo, Unique, clip};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::BTreeSet;

/// Bytes of the header's length.
const PREFIX: usize = 8;

/// Reads and checks the header of a safetensors file of `file_len` bytes that starts with `bytes`, which
/// hold the header at least. The tensors come in the order of their bytes, which they fill without gap,
/// overlap or rest. The error is what was found and what was expected.
pub fn parse_header(bytes: &[u8], file_len: u64) -> Result<Vec<TensorInfo>, String> {
    let (data_start, header) = split_header(bytes, file_len)?;
    let header: Header = serde_json::from_slice(header)
        .map_err(|e| clip(&format!("its header is not that of a safetensors file: {e}"), MESSAGE))?;
    lay_out(header, data_start, file_len).map_err(|problem| clip(&problem, MESSAGE))
}

/// Where the tensors start, and the header's text.
fn split_header(bytes: &[u8], file_len: u64) -> Result<(usize, &[u8]), String> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>().filter(|_| file_len >= PREFIX as u64)
    else {
        return Err(format!("is {file_len} bytes long, expected at least the {PREFIX} of a header's length"));
    };
    let length = u64::from_le_bytes(*prefix);
    if length > MAX_JSON {
        return Err(format!(
            "its header claims {length} bytes, expected at most {MAX_JSON}: not safetensors?"
        ));
    }
    let after = file_len - PREFIX as u64;
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(header) = header.filter(|_| length <= after) else {
        return Err(format!(
            "its header claims {length} bytes, but only {after} follow: is the file cut short?"
        ));
    };
    match header.first() {
        Some(b'{') => Ok((PREFIX + header.len(), header)),
        Some(byte) => Err(format!("its header starts with byte {byte:#04x}, expected '{{'")),
        None => Err("its header is empty, expected a JSON object".to_owned()),
    }
}

/// Checks that the tensors are what their shapes say and fill the file from `data_start` to its end.
fn lay_out(Header(mut raw): Header, data_start: usize, file_len: u64) -> Result<Vec<TensorInfo>, String> {
    let file_len = usize::try_from(file_len)
        .map_err(|_| format!("is {file_len} bytes long, more than this machine can address"))?;
    let data_len = file_len.saturating_sub(data_start);
    raw.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut next = 0;
    let mut tensors = Vec::with_capacity(raw.len());
    for (name, tensor) in raw {
        let (begin, end) = tensor.data_offsets;
        let problem = |what: String| Err(format!("its tensor {:?} {what}", clip(&name, QUOTE)));
        if end < begin {
            return problem(format!("has offsets [{begin}, {end}], expected the lower one first"));
        }
        let elements = tensor.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let bits = elements.and_then(|n| n.checked_mul(tensor.dtype.bitsize()));
        let (Some(elements), Some(bits)) = (elements, bits) else {
            return problem(format!("has shape {:?}, too large for any file", tensor.shape));
        };
        if !bits.is_multiple_of(8) || bits / 8 != end - begin {
            let (dtype, shape) = (tensor.dtype, tensor.shape);
            let found = format!("has {} bytes of data", end - begin);
            return problem(format!("{found}, expected {bits} bits for {dtype} of shape {shape:?}"));
        }
        if begin != next {
            let what = if begin < next { "overlaps the tensor before it" } else { "leaves a gap before it" };
            return problem(format!("{what}: it starts at {begin}, expected {next}"));
        }
        if end > data_len {
            return problem(format!("ends at {end} of {data_len} bytes of data: is the file cut short?"));
        }
        next = end;
        let bytes = data_start + begin..data_start + end;
        let encoding = Encoding::Plain(tensor.dtype);
        tensors.push(TensorInfo {
            name,
            encoding,
            shape: tensor.shape,
            elements,
            bytes,
            change: Change::None,
        });
    }
    if next != data_len {
        return Err(format!(
            "its tensors end after {next} bytes of data, expected all {data_len} to be used"
        ));
    }
    Ok(tensors)
}

/// A header's tensors in the order of the text, no name twice.
struct Header(Vec<(String, ::safetensors::tensor::TensorInfo)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut tensors, mut names) = (Vec::new(), BTreeSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("{name:?} is there twice")));
                    } else if name == "__metadata__" {
                        // Nothing in it is used, but the format says what it is.
                        map.next_value::<Unique<String>>()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
