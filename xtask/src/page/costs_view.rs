//! The costs of faults drawn: a histogram for each kind, all to one scale of instructions.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::costs::Costs;
use super::html::{Html, Px};

const STEP: f64 = 34.0;
const HEIGHT: f64 = 60.0;

/// Draws the histograms, with the figures beside them.
pub fn draw(html: &mut Html, costs: &BTreeMap<&str, Costs>) {
    let bins = || costs.values().flat_map(|costs| costs.bins().into_keys());
    let (Some(first), Some(last)) = (bins().min(), bins().max()) else {
        return html.leaf("p", &[], "No cost was measured.");
    };
    html.leaf(
        "p",
        &[("class", &"note")],
        "Instructions from the entry of the fault to its end, under a machine that counts them; \
         each bar is a power of two.",
    );
    for (kind, costs) in costs {
        let Some([least, middle, most]) = costs.spread() else {
            continue;
        };
        html.element("figure", &[], |html| {
            html.element("figcaption", &[], |html| {
                let class = format!("key {kind}");
                html.element("span", &[("class", &class)], |_| {});
                html.text(format!(
                    "{kind}: {} faults, {least} to {most} instructions, middle {middle}, mean {}",
                    costs.count(),
                    costs.mean()
                ));
            });
            histogram(html, kind, &costs.bins(), first, last);
        });
    }
}

fn histogram(html: &mut Html, kind: &str, bins: &BTreeMap<u32, u64>, first: u32, last: u32) {
    let highest = bins.values().max().copied().unwrap_or(1).max(1);
    let (width, height) = (f64::from(last - first + 1) * STEP + 40.0, HEIGHT + 30.0);
    let view = format!("0 0 {width} {height}");
    let size: [(&str, &dyn Display); 3] =
        [("viewBox", &view), ("width", &width), ("height", &height)];
    html.element("svg", &size, |html| {
        for bin in first..=last {
            let x = f64::from(bin - first) * STEP;
            let count = bins.get(&bin).copied().unwrap_or(0);
            let part = count as f64 / highest as f64 * HEIGHT;
            let (left, y) = (Px(x + 2.0), Px(12.0 + HEIGHT - part));
            let (width, height) = (Px(STEP - 4.0), Px(part));
            let place: [(&str, &dyn Display); 5] = [
                ("class", &kind),
                ("x", &left),
                ("y", &y),
                ("width", &width),
                ("height", &height),
            ];
            let range = format!("{count} from {} to {}", 1u64 << bin, (2u128 << bin) - 1);
            html.element("rect", &place, |html| html.leaf("title", &[], range));
            words(html, x + 2.0, HEIGHT + 26.0, &short(1 << bin));
            if count > 0 {
                words(html, x + 2.0, 10.0 + HEIGHT - part, &count.to_string());
            }
        }
    });
}

fn words(html: &mut Html, x: f64, y: f64, text: &str) {
    html.leaf("text", &[("x", &Px(x)), ("y", &Px(y))], text);
}

/// A power of two in few letters.
fn short(number: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "k")];
    let fits = units.iter().find(|(shift, _)| number >= 1 << shift);
    fits.map_or_else(
        || number.to_string(),
        |(shift, unit)| format!("{}{unit}", number >> shift),
    )
}

#[cfg(test)]
mod tests {
    use super::super::html::tests::assert_well_formed;
    use super::*;
    use crate::control::Line;
    use crate::trace::Trace;

    fn drawn(trace: &Trace) -> String {
        let mut html = Html::new();
        draw(&mut html, &super::super::costs::of(trace));
        let text = html.finish();
        assert_well_formed(&text);
        text
    }

    #[test]
    fn each_kind_has_its_histogram_and_its_figures() {
        let text = "trace cpu=0 text=1,fault_anon,0,0,0,0,100 2,fault_anon,0,0,0,0,180 \
                    3,fault_cow,0,0,0,0,ffffffffffffffff";
        let lines = [Line::parse(text), Line::parse("traced cpu=0 kept=3 lost=0")];
        let text = drawn(&Trace::of(&lines).unwrap());
        assert_eq!(text.matches("<svg").count(), 2);
        assert!(text.contains("anon: 2 faults, 256 to 384 instructions, middle 384, mean 320"));
        assert!(text.contains("<title>2 from 256 to 511</title>"), "{text}");
    }

    #[test]
    fn nothing_measured_is_said() {
        assert!(drawn(&Trace::default()).contains("No cost was measured."));
    }

    #[test]
    fn powers_of_two_are_short() {
        assert_eq!([1, 512, 1024, 1 << 21].map(short), ["1", "512", "1k", "2M"]);
    }
}
