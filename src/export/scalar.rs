//! The values of Kubernetes whose JSON is not that of their message: times, durations, quantities, numbers or words.

use jiff::Timestamp;
use serde_json::Value;

use crate::snapshot::mvcc::proto::{Field, Fields};

/// A field of a small message by its number.
fn field(message: &[u8], wanted: u64) -> Result<Option<Field<'_>>, &'static str> {
    for field in Fields::of(message) {
        match field? {
            (number, field) if number == wanted => return Ok(Some(field)),
            _ => {}
        }
    }
    Ok(None)
}

fn number(message: &[u8], wanted: u64) -> Result<i64, &'static str> {
    Ok(field(message, wanted)?.map_or(0, Field::int64))
}

/// Text of a field.
pub fn text(bytes: &[u8]) -> Result<Value, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")?;
    Ok(Value::from(text))
}

/// `metav1.Time` to the second, `metav1.MicroTime` to the microsecond; null for the zero time.
pub fn time(message: &[u8], micro: bool) -> Result<Value, &'static str> {
    let (seconds, nanoseconds) = (number(message, 1)?, number(message, 2)?);
    if (seconds, nanoseconds) == (0, 0) {
        return Ok(Value::Null);
    }
    let nanoseconds = i32::try_from(nanoseconds).map_err(|_| "a time is out of range")?;
    let time = Timestamp::new(seconds, nanoseconds).map_err(|_| "a time is out of range")?;
    let format = if micro {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Ok(Value::from(time.strftime(format).to_string()))
}

/// `metav1.Duration` in Go's words, as `1h30m0s`.
pub fn duration(message: &[u8]) -> Result<Value, &'static str> {
    Ok(Value::from(go_duration(number(message, 1)?)))
}

/// `resource.Quantity`.
pub fn quantity(message: &[u8]) -> Result<Value, &'static str> {
    field(message, 1)?.map_or_else(|| Ok(Value::from("0")), |field| text(field.bytes()))
}

/// `intstr.IntOrString`.
pub fn int_or_string(message: &[u8]) -> Result<Value, &'static str> {
    if number(message, 1)? == 0 {
        return Ok(Value::from(number(message, 2)?));
    }
    field(message, 3)?.map_or_else(|| Ok(Value::from("")), |field| text(field.bytes()))
}

/// The bytes of `RawExtension` or `FieldsV1`.
pub fn raw(message: &[u8]) -> Result<&[u8], &'static str> {
    Ok(field(message, 1)?.map_or(&[][..], Field::bytes))
}

/// A length of time in nanoseconds as Go writes it.
fn go_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    // A number of units with what is left behind the point, without zeros at its end.
    let decimal = |unit: u64, digits: usize| {
        let text = format!("{}.{:0digits$}", all / unit, all % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let words = match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{all}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(1_000_000, 6)),
        _ => {
            let minutes = all / 60_000_000_000;
            let rest = all % 60_000_000_000;
            let seconds = format!("{}.{:09}", rest / 1_000_000_000, rest % 1_000_000_000);
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanoseconds, words) in [
            (0, "0s"),
            (-1_500_000_000, "-1.5s"),
            (5_400_000_000_000, "1h30m0s"),
            (60_000_000_000, "1m0s"),
            (1_500_000, "1.5ms"),
            (1_000, "1µs"),
            (7, "7ns"),
            (3_661_000_000_001, "1h1m1.000000001s"),
        ] {
            assert_eq!(go_duration(nanoseconds), words);
        }
    }

    #[test]
    fn broken_messages_are_errors() {
        assert!(time(&[0x08], false).is_err());
        assert!(text(&[0xff]).is_err());
        // Seconds beyond what a calendar holds.
        let mut late = vec![0x08];
        crate::snapshot::mvcc::proto::put_varint(&mut late, i64::MAX.cast_unsigned());
        assert!(time(&late, false).is_err());
    }
}
