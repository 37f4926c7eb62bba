//! `kubernetes.schema`: the messages of the built-in kinds and the JSON that they are. tools/kubernetes-schema writes it.

use std::collections::HashMap;
use std::sync::LazyLock;

static TEXT: &str = include_str!("kubernetes.schema");

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::read(TEXT));

/// All kinds and messages.
#[derive(Debug, Default)]
pub struct Schema {
    /// API version and kind → name of the message.
    pub kinds: HashMap<(&'static str, &'static str), &'static str>,
    /// Name → fields.
    pub messages: HashMap<&'static str, Vec<FieldRule>>,
}

/// How one field of a message is shown.
#[derive(Debug, Clone, Copy)]
pub struct FieldRule {
    /// Its number on the wire.
    pub number: u64,
    /// Its name in JSON.
    pub name: &'static str,
    /// One, many, or a map.
    pub shape: Shape,
    /// What it holds.
    pub holds: Holds,
    /// Shown even when it is zero or empty.
    pub keep_zero: bool,
    /// Its fields are those of the parent.
    pub inline: bool,
}

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// At most once.
    One,
    /// Any number of times: a list.
    List,
    /// Entries of a text key and a value.
    Map,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Text.
    Text,
    /// true or false.
    Bool,
    /// A signed number.
    Int,
    /// A number from zero on.
    Uint,
    /// Bytes, in base64.
    Bytes,
    /// `metav1.Time`.
    Time,
    /// `metav1.MicroTime`.
    MicroTime,
    /// `metav1.Duration`.
    Duration,
    /// Raw JSON in a message.
    Json,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `resource.Quantity`.
    Quantity,
    /// A message of the schema.
    Message(&'static str),
}

/// The schema that is built in.
pub fn schema() -> &'static Schema {
    &SCHEMA
}

impl Schema {
    fn read(text: &'static str) -> Self {
        let mut schema = Self::default();
        let mut current = "";
        for line in text.lines() {
            let words: Vec<&'static str> = line.split(' ').collect();
            match words.as_slice() {
                ["kind", version, kind, message] => {
                    schema.kinds.insert((version, kind), message);
                }
                ["message", name] => {
                    current = name;
                    schema.messages.insert(name, Vec::new());
                }
                [number, name, what, flags @ ..] => {
                    let (Ok(number), Some(fields)) =
                        (number.parse(), schema.messages.get_mut(current))
                    else {
                        continue;
                    };
                    let (shape, what) = match (what.strip_prefix("[]"), what.strip_prefix("{}")) {
                        (Some(what), _) => (Shape::List, what),
                        (_, Some(what)) => (Shape::Map, what),
                        _ => (Shape::One, *what),
                    };
                    fields.push(FieldRule {
                        number,
                        name,
                        shape,
                        holds: Holds::of(what),
                        keep_zero: flags.contains(&"p") || flags.contains(&"k"),
                        inline: flags.contains(&"i"),
                    });
                }
                _ => {}
            }
        }
        schema
    }
}

impl Holds {
    fn of(word: &'static str) -> Self {
        match word {
            "string" => Self::Text,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "bytes" => Self::Bytes,
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "duration" => Self::Duration,
            "json" => Self::Json,
            "intorstring" => Self::IntOrString,
            "quantity" => Self::Quantity,
            message => Self::Message(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_that_is_named_is_described() {
        let schema = schema();
        assert!(schema.kinds.len() > 120, "{}", schema.kinds.len());
        for message in schema.kinds.values() {
            assert!(schema.messages.contains_key(message), "{message}");
        }
        for (name, fields) in &schema.messages {
            for field in fields {
                if let Holds::Message(of) = field.holds {
                    assert!(
                        schema.messages.contains_key(of),
                        "{name}.{}: {of}",
                        field.name
                    );
                }
            }
        }
    }
}
