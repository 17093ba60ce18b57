//! Texts of others made fit for a report and a terminal.
//!
//! What pods, webhooks and kubelets say is chosen by whoever runs them; an escape sequence in it could rewrite
//! what a terminal shows. So it goes through here where it enters.

/// One line: line ends and tabs become spaces; other controls, and what changes the direction of writing, become
/// `\u{1b}`.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || is_directing(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

fn is_directing(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(plain("gone\x1b[2K\rfine\x07\u{9b}1m\0"), "gone\\u{1b}[2K fine\\u{7}\\u{9b}1m\\u{0}");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn text_stays_as_it_is_on_one_line() {
        assert_eq!(plain("Überlauf \"x\": C:\\d 日本\n\tat b\n"), "Überlauf \"x\": C:\\d 日本  at b");
    }
}
