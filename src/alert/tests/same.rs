//! A mail's two parts say the same, whatever the matter is.

use super::words::digest;
use super::*;

/// The words of a text without the layout around them.
fn words(text: &str) -> Vec<String> {
    let parts = text.split_whitespace();
    let bare = parts.map(|word| word.trim_end_matches(':').to_owned());
    let mut words: Vec<String> = bare.filter(|word| !word.is_empty()).collect();
    words.sort();
    words
}

/// What a mail client shows of HTML.
fn shown(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        let (_, after) = part.split_once('>').unwrap_or(("", part));
        text.push_str(after);
        text.push(' ');
    }
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

#[test]
fn the_text_and_the_html_of_a_mail_say_the_same() {
    let of_a_week = Facts {
        what: "84 backups were taken, none failed.".to_owned(),
        details: BTreeMap::from([("etcd/main".to_owned(), "84 backups".to_owned())]),
        ..Facts::default()
    };
    let mut messages = vec![digest(of_a_week)];
    for stage in [Stage::New, Stage::Repeat, Stage::Recovered, Stage::Test] {
        messages.push(failed_message(stage));
    }
    for outgoing in messages {
        let message = Message::new(&outgoing, at(30));
        let (text, html) = (message.text(), email::html(&message));
        assert_eq!(
            words(&text),
            words(&shown(&html)),
            "{:?}\n{text}\n{html}",
            message.stage
        );
        assert!(words(&text).len() > 10, "{text}");
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "it fits a terminal: {text}");
    }
}
