//! JSON without what says nothing; shared by the tests beside the code and the integration tests.

use serde_json::{Value, json};

/// Without nulls and empty objects.
pub fn dense(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (name, dense(value)))
                .filter(|(_, value)| !value.is_null() && *value != json!({}))
                .collect(),
        ),
        Value::Array(values) => values.into_iter().map(dense).collect(),
        other => other,
    }
}
