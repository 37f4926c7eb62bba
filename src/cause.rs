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
    on_one_line(&message)
}

/// The message without line breaks; of an XML answer, as stores give it, the code and the message alone.
fn on_one_line(message: &str) -> String {
    let told = ["<?xml", "<Error>"]
        .iter()
        .filter_map(|start| message.find(start))
        .min()
        .map(|start| message.split_at(start));
    let words = match told {
        Some((before, xml)) => {
            let parts = ["Code", "Message"].map(|name| element(xml, name));
            let said = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
            format!("{before} {said}")
        }
        None => message.to_owned(),
    };
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text of the first element of that name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
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

    #[test]
    fn of_a_store_s_xml_the_code_and_the_message_are_told() {
        let answer = "the bucket does not exist: 404 Not Found: <?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code>\
            <Message>The specified bucket does not exist.</Message><HostId>eZXUD</HostId></Error>";
        assert_eq!(
            with_causes(&std::io::Error::other(answer)),
            "the bucket does not exist: 404 Not Found: NoSuchBucket: The specified bucket does not exist."
        );
        assert_eq!(on_one_line("<?xml cut"), "");
        assert_eq!(on_one_line("two\n lines"), "two lines");
    }
}
