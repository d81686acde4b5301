//! Text for a terminal of 80 columns: paragraphs, headings, boxes.

use std::fmt::Write as _;

/// Columns that the tour uses.
pub const WIDTH: usize = 78;

/// Text as one line that is safe to print: control characters become spaces, trailing ones go.
pub fn clean(line: &str) -> String {
    let line: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    line.trim_end().to_owned()
}

/// Cuts words into lines of at most `width` characters. A longer word is cut where it has to be.
pub fn lines(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let line = lines.last_mut().expect("there is always a line");
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used > 0 && used + gap + rest.len() > width {
                lines.push(String::new());
                continue;
            }
            let piece: String = rest.drain(..rest.len().min(width)).collect();
            let _ = write!(line, "{}{piece}", " ".repeat(gap));
        }
    }
    lines
}

/// A paragraph: wrapped, indented by two columns.
pub fn paragraph(text: &str) -> String {
    lines(text, WIDTH - 2)
        .iter()
        .fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "  {line}");
            all
        })
}

/// Lines from the kernel as they are, indented by four columns; long ones are wrapped and keep
/// their own indentation.
pub fn quoted<'a>(source: impl IntoIterator<Item = &'a str>) -> String {
    let mut all = String::new();
    for line in source {
        let line = clean(line);
        let own = (line.len() - line.trim_start().len()).min(20);
        if line.chars().count() + 4 <= WIDTH {
            let _ = writeln!(all, "{}", format!("    {line}").trim_end());
            continue;
        }
        for (number, piece) in lines(&line, WIDTH - 8 - own).iter().enumerate() {
            let hang = if number == 0 { 0 } else { 4 };
            let _ = writeln!(all, "    {}{piece}", " ".repeat(own + hang));
        }
    }
    all
}

/// A numbered heading with a rule to the right edge.
pub fn heading(number: usize, title: &str) -> String {
    let start = format!("-- {number}. {title} ");
    let rule = WIDTH.saturating_sub(start.chars().count());
    format!("\n{start}{}\n", "-".repeat(rule))
}

/// A box with a title in its upper edge.
pub fn boxed(title: &str, text: &str) -> String {
    let inner = WIDTH - 8;
    let title: String = title.chars().take(inner - 4).collect();
    let rule = "-".repeat(inner + 1 - title.chars().count() - 1);
    let mut all = format!("    +-{title}{rule}-+\n");
    for line in lines(text, inner) {
        let pad = " ".repeat(inner - line.chars().count());
        let _ = writeln!(all, "    | {line}{pad} |");
    }
    let _ = writeln!(all, "    +{}+", "-".repeat(inner + 2));
    all
}

/// The arrow from one box to the next.
pub const ARROW: &str = "        |\n        v\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn widest(text: &str) -> usize {
        text.lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn words_are_wrapped_and_none_is_lost() {
        let text = "alpha beta gamma ".repeat(40);
        let wrapped = paragraph(&text);
        assert!(widest(&wrapped) <= WIDTH);
        let back: Vec<_> = wrapped.split_whitespace().collect();
        assert_eq!(back, text.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn a_word_longer_than_the_line_is_cut() {
        let cut = lines(&"x".repeat(25), 10);
        assert_eq!(cut, ["x".repeat(10), "x".repeat(10), "x".repeat(5)]);
    }

    #[test]
    fn every_line_of_a_box_has_the_same_width() {
        for text in ["", "short", &"0x0000000040123003 table ".repeat(12)] {
            for title in ["", "L1", &"long title ".repeat(30)] {
                let drawn = boxed(title, text);
                let widths: Vec<_> = drawn.lines().map(|l| l.chars().count()).collect();
                assert!(
                    widths.iter().all(|w| *w == widths[0] && *w <= WIDTH),
                    "{drawn}"
                );
            }
        }
    }

    #[test]
    fn kernel_lines_keep_their_indentation_and_lose_control_characters() {
        let text = quoted(["top", "  below\x1b[2J", &"   deep word".repeat(20), ""]);
        assert!(text.starts_with("    top\n      below [2J\n"), "{text}");
        assert!(widest(&text) <= WIDTH && !text.contains('\x1b'));
    }

    #[test]
    fn a_heading_reaches_the_right_edge() {
        assert_eq!(widest(&heading(3, "Tables")), WIDTH);
    }
}
