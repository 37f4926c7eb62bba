//! Objects that kube-apiserver stored as CBOR: its strings are byte strings, and its bytes are tagged to become base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value as Cbor;
use serde_json::{Map, Number, Value};

use super::stored::CBOR;

/// Kubernetes' own limit is lower than this; ciborium's is higher.
const DEEPEST: usize = 128;
/// "This is to become base64": RFC 8949, 3.4.5.2.
const TO_BASE64: u64 = 22;

/// Decodes a value that begins with the mark of CBOR.
pub(super) fn decode(value: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let body = value
        .strip_prefix(CBOR)
        .ok_or("it does not begin as CBOR")?;
    let read: Cbor = ciborium::from_reader(body).map_err(|_| "its CBOR is broken")?;
    match json(read, 0)? {
        Value::Object(object) => Ok(object),
        _ => Err("its CBOR is no object"),
    }
}

fn json(value: Cbor, depth: usize) -> Result<Value, &'static str> {
    if depth > DEEPEST {
        return Err("its CBOR is nested too deeply");
    }
    Ok(match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(flag) => Value::Bool(flag),
        Cbor::Text(text) => Value::String(text),
        Cbor::Bytes(_) => Value::String(text(value)?),
        Cbor::Tag(TO_BASE64, inner) => match *inner {
            Cbor::Bytes(bytes) => Value::String(STANDARD.encode(bytes)),
            _ => return Err("its CBOR tags what are no bytes"),
        },
        Cbor::Integer(number) => match (i64::try_from(number), u64::try_from(number)) {
            (Ok(number), _) => Value::from(number),
            (_, Ok(number)) => Value::from(number),
            _ => return Err("its CBOR has a number that JSON has not"),
        },
        Cbor::Float(number) => Value::Number(
            Number::from_f64(number).ok_or("its CBOR has a number that JSON has not")?,
        ),
        Cbor::Array(values) => {
            let values = values.into_iter().map(|value| json(value, depth + 1));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Cbor::Map(entries) => {
            let mut fields = Map::new();
            for (name, value) in entries {
                fields.insert(text(name)?, json(value, depth + 1)?);
            }
            Value::Object(fields)
        }
        _ => return Err("its CBOR has what JSON has not"),
    })
}

fn text(value: Cbor) -> Result<String, &'static str> {
    match value {
        Cbor::Text(text) => Ok(text),
        Cbor::Bytes(bytes) => {
            String::from_utf8(bytes).map_err(|_| "its CBOR has a text that is not UTF-8")
        }
        _ => Err("its CBOR has a name that is no text"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn strings_are_byte_strings_and_bytes_become_base64() {
        // {h'6b': h'76', h'64': 22(h'0102'), h'6e': [1, -2, null, true]} behind the mark.
        let value = b"\xd9\xd9\xf7\xa3\x41k\x41v\x41d\xd6\x42\x01\x02\x41n\x84\x01\x21\xf6\xf5";
        let expected = serde_json::json!({"k": "v", "d": "AQI=", "n": [1, -2, null, true]});
        assert_eq!(Value::Object(decode(value).unwrap()), expected);
        for cut in 0..value.len() {
            assert!(decode(&value[..cut]).is_err(), "{cut}");
        }
        let deep = [CBOR, &[0x81; 4000], &[0x01]].concat();
        assert!(decode(&deep).is_err());
    }
}
