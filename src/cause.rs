//! An error in one line: its own words, then those of its sources that add something.

use std::error::Error;

/// The words of an error and of what caused it, joined by colons.
pub fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !words.is_empty() && !message.contains(&words) {
            message.push_str(": ");
            message.push_str(&words);
        }
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let inner = std::io::Error::other("no space left");
        let outer = std::io::Error::other(inner);
        assert_eq!(with_causes(&outer), "no space left");
    }
}
