//! Writing HTML and SVG that is well formed by construction: elements close themselves, and text
//! and attributes are escaped. What a guest says can therefore never become markup.

use std::fmt::{self, Display, Write};

/// A document, or a part of one.
#[derive(Debug, Default)]
pub struct Html(String);

/// Attributes of an element.
pub type Attributes<'a> = &'a [(&'static str, &'a dyn Display)];

impl Html {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What has been written.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    /// An element with contents.
    pub fn element(
        &mut self,
        tag: &'static str,
        attributes: Attributes<'_>,
        contents: impl FnOnce(&mut Self),
    ) {
        self.tag(tag, attributes, ">");
        contents(self);
        self.0.push_str("</");
        self.0.push_str(tag);
        self.0.push_str(">\n");
    }

    /// An element with text in it.
    pub fn leaf(&mut self, tag: &'static str, attributes: Attributes<'_>, text: impl Display) {
        self.element(tag, attributes, |html| html.text(text));
    }

    /// An element without contents.
    pub fn empty(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.tag(tag, attributes, "/>\n");
    }

    fn tag(&mut self, tag: &'static str, attributes: Attributes<'_>, end: &str) {
        self.0.push('<');
        self.0.push_str(tag);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.text(value);
            self.0.push('"');
        }
        self.0.push_str(end);
    }

    /// Text.
    pub fn text(&mut self, text: impl Display) {
        // Writing to a string does not fail.
        let _ = write!(Escape(&mut self.0), "{text}");
    }

    /// Text of our own that is markup already.
    pub fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// A row of a table: its first cell is a heading, the rest are numbers.
    pub fn row(&mut self, cells: &[&dyn Display]) {
        self.element("tr", &[], |html| {
            for (index, cell) in cells.iter().enumerate() {
                html.leaf(if index == 0 { "th" } else { "td" }, &[], cell);
            }
        });
    }

    /// A table with a row of headings.
    pub fn table(&mut self, headings: &[&str], rows: impl FnOnce(&mut Self)) {
        self.element("table", &[], |html| {
            html.element("tr", &[], |html| {
                headings
                    .iter()
                    .for_each(|heading| html.leaf("th", &[], heading));
            });
            rows(html);
        });
    }
}

/// Passes text on with what would be markup spelt out, and without what XML has no place for.
struct Escape<'a>(&'a mut String);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(character),
                control if control.is_control() => self.0.push('\u{fffd}'),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

/// A length on paper: two digits behind the point are enough.
pub struct Px(pub f64);

impl Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Fails unless every element is closed in order, every attribute quoted, and every `&` the
    /// beginning of an entity.
    pub fn assert_well_formed(text: &str) {
        let mut open = Vec::new();
        let mut rest = text.strip_prefix("<!doctype html>").unwrap_or(text);
        while let Some(at) = rest.find('<') {
            let (before, from) = rest.split_at(at);
            assert_text(before);
            let end = from.find('>').expect("an end of the tag");
            let tag = &from[1..end];
            rest = &from[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(
                    open.pop(),
                    Some(name),
                    "before {}",
                    &rest[..rest.len().min(80)]
                );
                continue;
            }
            let name = tag.split([' ', '/']).next().unwrap_or_default();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{tag}");
            let attributes = tag[name.len()..].trim_end_matches('/');
            assert_text(attributes);
            assert_eq!(attributes.matches('"').count() % 2, 0, "{tag}");
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_text(rest);
        assert!(open.is_empty(), "{open:?}");
    }

    fn assert_text(text: &str) {
        assert!(!text.contains('>'), "{text}");
        for entity in text.split('&').skip(1) {
            assert!(entity[..entity.len().min(8)].contains(';'), "&{entity}");
        }
    }

    #[test]
    fn text_and_attributes_are_escaped() {
        let mut html = Html::new();
        let evil = "</p><script>alert('1 & \"2\"')</script>\u{1b}[31m";
        html.element("p", &[("title", &evil)], |html| html.text(evil));
        let text = html.finish();
        assert_well_formed(&text);
        assert!(
            !text.contains("<script") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert_eq!(text.matches("&lt;script&gt;").count(), 2, "{text}");
        assert_eq!(text.matches("&quot;2&quot;").count(), 2, "{text}");
    }

    #[test]
    fn elements_close_themselves() {
        let mut html = Html::new();
        html.table(&["a", "b"], |html| html.row(&[&"x", &1]));
        html.empty("br", &[]);
        let text = html.finish();
        assert_well_formed(&text);
        assert_eq!(text.matches("<td>").count(), 1);
    }

    #[test]
    #[should_panic = "an end of the tag"]
    fn the_check_sees_a_tag_that_does_not_end() {
        assert_well_formed("<p");
    }

    #[test]
    fn the_check_sees_what_is_wrong() {
        for wrong in ["<p>", "<p></b>", "a & b", "<p x=\"></p>", "</p>"] {
            let seen = std::panic::catch_unwind(|| assert_well_formed(wrong));
            assert!(seen.is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_are_short() {
        assert_eq!(
            [1.0, 0.5, 1.0 / 3.0, 100.0].map(|x| Px(x).to_string()),
            ["1", "0.5", "0.33", "100"]
        );
    }
}
