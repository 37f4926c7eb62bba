//! A stored value → the object's JSON, as the API server would answer it.

use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use super::ExportError;
use super::scalar;
use super::schema::{FieldRule, Holds, Shape, schema};
use super::stored::{Envelope, Stored};
use crate::snapshot::mvcc::proto::{Field, Fields, varint};

/// Messages within messages; Kubernetes has no twenty.
const DEEPEST: usize = 64;

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Its JSON.
    pub object: Map<String, Value>,
    /// Fields that this version does not know, as `spec.99`: they are not in the JSON.
    pub unknown: Vec<String>,
}

/// Decodes the value of a key.
///
/// # Errors
/// When it is encrypted, broken, no object, or of a built-in kind that is not known.
pub fn decode(key: &str, stored: &Stored<'_>) -> Result<Decoded, ExportError> {
    let no_object = |problem: String| ExportError::NoObject {
        key: key.to_owned(),
        problem,
    };
    match stored {
        Stored::Json(json) => Ok(Decoded {
            object: serde_json::from_slice(json).map_err(|error| no_object(error.to_string()))?,
            unknown: Vec::new(),
        }),
        Stored::Cbor(cbor) => Ok(Decoded {
            object: super::cbor::decode(cbor).map_err(|problem| no_object(problem.to_owned()))?,
            unknown: Vec::new(),
        }),
        Stored::Protobuf(envelope) => {
            let Some(decoded) = protobuf(envelope) else {
                return Err(ExportError::UnknownKind {
                    key: key.to_owned(),
                    api_version: envelope.api_version.to_owned(),
                    kind: envelope.kind.to_owned(),
                });
            };
            decoded.map_err(|problem| no_object(problem.to_owned()))
        }
        Stored::Encrypted {
            provider,
            key: name,
        } => Err(ExportError::Encrypted {
            key: key.to_owned(),
            provider: provider.clone(),
            name: name.clone(),
        }),
        Stored::Other(problem) => Err(no_object((*problem).to_owned())),
    }
}

/// Nothing when the kind is not known.
fn protobuf(envelope: &Envelope<'_>) -> Option<Result<Decoded, &'static str>> {
    let message = schema()
        .kinds
        .get(&(envelope.api_version, envelope.kind))
        .copied()?;
    let mut reader = Reader {
        path: Vec::new(),
        unknown: Vec::new(),
    };
    let mut object = Map::new();
    object.insert("apiVersion".into(), envelope.api_version.into());
    object.insert("kind".into(), envelope.kind.into());
    let read = reader.message(message, envelope.raw, &mut object);
    Some(read.map(|()| Decoded {
        object,
        unknown: reader.unknown,
    }))
}

struct Reader {
    path: Vec<&'static str>,
    unknown: Vec<String>,
}

impl Reader {
    fn message(
        &mut self,
        name: &'static str,
        bytes: &[u8],
        out: &mut Map<String, Value>,
    ) -> Result<(), &'static str> {
        let rules = schema()
            .messages
            .get(name)
            .ok_or("its message is not described")?;
        if self.path.len() > DEEPEST {
            return Err("it is nested too deeply");
        }
        for field in Fields::of(bytes) {
            let (number, field) = field?;
            let Some(rule) = rules.iter().find(|rule| rule.number == number) else {
                let mut place = self.path.join(".");
                if !place.is_empty() {
                    place.push('.');
                }
                self.unknown.push(format!("{place}{number}"));
                continue;
            };
            self.path.push(rule.name);
            self.field(rule, field, out)?;
            self.path.pop();
        }
        Ok(())
    }

    fn field(
        &mut self,
        rule: &FieldRule,
        field: Field<'_>,
        out: &mut Map<String, Value>,
    ) -> Result<(), &'static str> {
        if let (true, Holds::Message(name)) = (rule.inline, rule.holds) {
            return self.message(name, field.bytes(), out);
        }
        match rule.shape {
            Shape::One => {
                let value = self.value(rule.holds, field)?;
                if !value.is_null() && (rule.keep_zero || !is_zero(&value)) {
                    out.insert(rule.name.to_owned(), value);
                }
            }
            Shape::List => {
                let values = out
                    .entry(rule.name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(values) = values else {
                    return Err("a list is no list");
                };
                match (rule.holds, field) {
                    // Numbers may lie side by side in one field.
                    (Holds::Int | Holds::Uint | Holds::Bool, Field::Bytes(mut packed)) => {
                        while !packed.is_empty() {
                            let number = varint(&mut packed).ok_or("a number is broken")?;
                            values.push(self.value(rule.holds, Field::Number(number))?);
                        }
                    }
                    (holds, field) => values.push(self.value(holds, field)?),
                }
            }
            Shape::Map => {
                let (mut key, mut value) = (String::new(), None);
                for part in Fields::of(field.bytes()) {
                    match part? {
                        (1, part) => {
                            key = std::str::from_utf8(part.bytes())
                                .map_err(|_| "a key is not UTF-8")?
                                .to_owned();
                        }
                        (2, part) => value = Some(self.value(rule.holds, part)?),
                        _ => {}
                    }
                }
                let value = match value {
                    Some(value) => value,
                    None => self.value(rule.holds, Field::Bytes(&[]))?,
                };
                let entries = out
                    .entry(rule.name)
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = entries {
                    entries.insert(key, value);
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, holds: Holds, field: Field<'_>) -> Result<Value, &'static str> {
        let bytes = field.bytes();
        Ok(match holds {
            Holds::Text => scalar::text(bytes)?,
            Holds::Bool => Value::from(field != Field::Number(0) && bytes.is_empty()),
            Holds::Int => Value::from(field.int64()),
            Holds::Uint => Value::from(field.int64().cast_unsigned()),
            Holds::Bytes => serde_json::to_value(ByteString(bytes.to_owned()))
                .map_err(|_| "bytes cannot be written")?,
            Holds::Time => scalar::time(bytes, false)?,
            Holds::MicroTime => scalar::time(bytes, true)?,
            Holds::Duration => scalar::duration(bytes)?,
            Holds::IntOrString => scalar::int_or_string(bytes)?,
            Holds::Quantity => scalar::quantity(bytes)?,
            Holds::Json => self.embedded(scalar::raw(bytes)?)?,
            Holds::Message(name) => {
                let mut inner = Map::new();
                self.message(name, bytes, &mut inner)?;
                // A named list, as metav1.Verbs, is a message of its items.
                match is_list(name) {
                    true => inner
                        .remove("items")
                        .unwrap_or_else(|| Value::Array(vec![])),
                    false => Value::Object(inner),
                }
            }
        })
    }

    /// A whole object within an object, as in a ControllerRevision.
    fn embedded(&mut self, raw: &[u8]) -> Result<Value, &'static str> {
        if raw.is_empty() {
            return Ok(Value::Null);
        }
        if let Stored::Protobuf(envelope) = Stored::of(raw) {
            let decoded = protobuf(&envelope).ok_or("it holds an object that is not known")??;
            self.unknown.extend(decoded.unknown);
            return Ok(Value::Object(decoded.object));
        }
        serde_json::from_slice(raw).map_err(|_| "it holds JSON that is broken")
    }
}

fn is_list(name: &str) -> bool {
    schema()
        .messages
        .get(name)
        .and_then(|rules| rules.first())
        .is_some_and(|rule| rule.inline && rule.shape == Shape::List)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}
