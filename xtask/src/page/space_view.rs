//! The address space drawn: one bar for each area, to the scale of that area.

use super::html::{Html, Px};
use super::space::{Area, Range, Size, bytes, pages};

/// Most areas that are drawn; the fullest are.
const AREAS: usize = 200;
/// Most ranges that a bar shows one by one; more are shown as columns.
const RANGES: usize = 400;
/// Columns of such a bar.
const COLUMNS: usize = 400;
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 18.0;

/// Draws the space.
pub fn draw(html: &mut Html, areas: &[Area]) {
    if areas.is_empty() {
        return html.leaf(
            "p",
            &[],
            "The kernel described no space: no program came to its end.",
        );
    }
    legend(html, areas);
    let left_out = areas.len().saturating_sub(AREAS);
    for area in fullest(areas) {
        draw_area(html, area);
    }
    if left_out > 0 {
        let text = format!("{left_out} areas with less in them are not drawn.");
        html.leaf("p", &[("class", &"note")], text);
    }
}

/// The areas with most in them, in the order of their addresses.
fn fullest(areas: &[Area]) -> Vec<&Area> {
    let mut all: Vec<_> = areas.iter().collect();
    let full = |area: &Area| Size::ALL.iter().map(|size| area.mapped(*size)).sum::<u64>();
    all.sort_by_key(|area| std::cmp::Reverse(full(area)));
    all.truncate(AREAS);
    all.sort_by_key(|area| area.start);
    all
}

fn legend(html: &mut Html, areas: &[Area]) {
    html.element("p", &[], |html| {
        let span: u64 = areas.iter().map(Area::span).sum();
        html.text(format!(
            "{} areas span {}. Mapped are",
            areas.len(),
            bytes(span)
        ));
        for size in Size::ALL {
            let class = format!("key {}", size.class());
            html.element("span", &[("class", &class)], |_| {});
            html.text(format!("{} as {size}", bytes(pages(areas, size) << 12)));
        }
        html.text(". Each bar is one area, to its own scale; point at a piece to read it.");
    });
}

fn draw_area(html: &mut Html, area: &Area) {
    html.element("div", &[("class", &"area")], |html| {
        html.element("div", &[("class", &"mono")], |html| {
            let (start, end, rights) = (area.start, area.end, &area.rights);
            html.text(format!("{start:012x}-{end:012x} {rights} "));
            html.text(format!("{} {}", bytes(area.span()), area.name));
        });
        let view = format!("0 0 {WIDTH} {HEIGHT}");
        let size: [(&str, &dyn std::fmt::Display); 3] =
            [("viewBox", &view), ("width", &WIDTH), ("height", &HEIGHT)];
        html.element("svg", &size, |html| {
            bar(html, "empty", 0.0, WIDTH, 1.0, "nothing is mapped here");
            match area.ranges.len() {
                0..=RANGES => area.ranges.iter().for_each(|range| one(html, area, range)),
                _ => columns(html, area),
            }
        });
    });
}

/// A piece of a bar: from `x` on, as high as `part` says, standing on the ground.
fn bar(html: &mut Html, class: &str, x: f64, width: f64, part: f64, title: &str) {
    let (x, width) = (Px(x), Px(width.max(0.6)));
    let (y, height) = (Px(HEIGHT * (1.0 - part)), Px(HEIGHT * part));
    let place: [(&str, &dyn std::fmt::Display); 5] = [
        ("class", &class),
        ("x", &x),
        ("y", &y),
        ("width", &width),
        ("height", &height),
    ];
    html.element("rect", &place, |html| html.leaf("title", &[], title));
}

fn one(html: &mut Html, area: &Area, range: &Range) {
    let scale = WIDTH / area.span() as f64;
    let x = (range.start - area.start) as f64 * scale;
    let width = (range.end - range.start) as f64 * scale;
    let title = format!("{:x}-{:x} {}", range.start, range.end, range.words);
    bar(html, range.size.class(), x, width, 1.0, &title);
}

/// Too many ranges to tell apart: how full each part of the area is.
fn columns(html: &mut Html, area: &Area) {
    let full = fill(area);
    let width = WIDTH / COLUMNS as f64;
    let room = area.span() as f64 / COLUMNS as f64;
    for (column, bytes) in full.iter().enumerate() {
        let mut below = 0.0;
        for (size, bytes) in Size::ALL.iter().zip(bytes).rev() {
            below += bytes / room;
            if *bytes > 0.0 {
                let percent = (bytes / room * 100.0).round();
                let title = format!("{percent} % as {size}");
                // The ones drawn later stand before the higher ones.
                let part = (1.0f64).min(below);
                bar(
                    html,
                    size.class(),
                    column as f64 * width,
                    width,
                    part,
                    &title,
                );
            }
        }
    }
}

/// Bytes mapped in each column, by size.
fn fill(area: &Area) -> Vec<[f64; 3]> {
    let mut full = vec![[0.0; 3]; COLUMNS];
    let room = area.span() as f64 / COLUMNS as f64;
    for range in &area.ranges {
        let start = (range.start - area.start) as f64 / room;
        let end = (range.end - area.start) as f64 / room;
        let index = Size::ALL.iter().position(|size| *size == range.size);
        let touched = full.iter_mut().enumerate();
        let count = end.ceil() as usize - start as usize;
        for (column, sizes) in touched.skip(start as usize).take(count) {
            let from = start.max(column as f64);
            let to = end.min(column as f64 + 1.0);
            sizes[index.unwrap_or(0)] += (to - from).max(0.0) * room;
        }
    }
    full
}

#[cfg(test)]
mod tests {
    use super::super::html::tests::assert_well_formed;
    use super::*;

    fn area(pieces: u64, name: &str) -> Area {
        let ranges = (0..pieces).map(|n| Range {
            start: n * 0x2000,
            end: n * 0x2000 + 0x1000,
            size: Size::ALL[n as usize % 3],
            words: "rw-u <normal>".into(),
        });
        Area {
            start: 0,
            end: pieces.max(1) * 0x2000,
            rights: "rw-p".into(),
            name: name.into(),
            ranges: ranges.collect(),
        }
    }

    fn drawn(areas: &[Area]) -> String {
        let mut html = Html::new();
        draw(&mut html, areas);
        let text = html.finish();
        assert_well_formed(&text);
        text
    }

    #[test]
    fn every_range_is_a_piece_to_scale() {
        let text = drawn(&[area(4, "[heap]")]);
        // Four pieces and the ground.
        assert_eq!(text.matches("<rect").count(), 5);
        assert!(text.contains("x=\"250\" y=\"0\" width=\"125\""), "{text}");
        assert!(text.contains("[heap]") && text.contains("&lt;normal&gt;"));
    }

    #[test]
    fn many_ranges_become_columns_that_hold_the_same_bytes() {
        let area = area(10_000, "");
        let full: f64 = fill(&area).iter().flatten().sum();
        assert!((full - 10_000.0 * 4096.0).abs() < 1.0, "{full}");
        let pieces = drawn(&[area]).matches("<rect").count();
        assert!((COLUMNS..=3 * COLUMNS + 1).contains(&pieces), "{pieces}");
    }

    #[test]
    fn a_space_of_many_areas_is_cut_and_says_so() {
        let mut areas: Vec<_> = (0..300).map(|n| area(n % 3, "x")).collect();
        for (n, area) in areas.iter_mut().enumerate() {
            let by = n as u64 * 0x10_0000;
            (area.start, area.end) = (area.start + by, area.end + by);
            area.ranges.iter_mut().for_each(|range| {
                (range.start, range.end) = (range.start + by, range.end + by);
            });
        }
        let text = drawn(&areas);
        assert_eq!(text.matches("<svg").count(), AREAS);
        assert!(text.contains("100 areas with less"), "{text}");
    }

    #[test]
    fn no_space_is_said() {
        assert!(drawn(&[]).contains("described no space"));
    }
}
