//! Bars with their ranges, drawn as SVG.

use super::Summary;
use std::fmt::Write;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What stands left of it.
    pub label: String,
    /// How long it is.
    pub value: Summary,
    /// How it is coloured: a class of the page's style sheet.
    pub class: &'static str,
}

const WIDTH: f64 = 460.0;
const ROW: f64 = 26.0;
const THICKNESS: f64 = 14.0;
/// Where bars begin, and how long the longest can be; right of them stand the values.
const LEFT: f64 = 128.0;
const LONGEST: f64 = 240.0;

/// A chart of these bars, the scale from zero to the largest, with a line at `reference`.
pub fn bars(bars: &[Bar], reference: Option<f64>, title: &str) -> String {
    let largest = bars.iter().map(|bar| bar.value.max).fold(0.0, f64::max);
    let scale = |value: f64| match largest > 0.0 {
        true => value / largest * LONGEST,
        false => 0.0,
    };
    let height = ROW * bars.len() as f64 + 6.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title)
    );
    if let Some(x) = reference.map(|value| LEFT + scale(value)) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<line class=\"reference\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height}\"/>"
        );
    }
    for (i, bar) in bars.iter().enumerate() {
        let middle = ROW * (i as f64 + 0.5) + 3.0;
        draw(&mut svg, bar, middle, scale);
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, bar: &Bar, middle: f64, scale: impl Fn(f64) -> f64) {
    let Summary { median, min, max } = bar.value;
    let (label, class) = (escape(&bar.label), bar.class);
    let (top, width) = (middle - THICKNESS / 2.0, scale(median));
    let (low, high) = (LEFT + scale(min), LEFT + scale(max));
    let text = LEFT - 8.0;
    let baseline = middle + 4.0;
    let _ = writeln!(
        svg,
        "<text class=\"label\" x=\"{text}\" y=\"{baseline}\">{label}</text>\n\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" \
         height=\"{THICKNESS}\" rx=\"2\"/>"
    );
    if high - low >= 1.0 {
        let (up, down) = (middle - 4.0, middle + 4.0);
        let _ = writeln!(
            svg,
            "<path class=\"range\" d=\"M{low:.1} {up}V{down}M{low:.1} {middle}H{high:.1}\
             M{high:.1} {up}V{down}\"/>"
        );
    }
    let value = high.max(LEFT + width) + 6.0;
    let shown = Summary::of([median]).map_or(String::new(), |s| s.to_string());
    let _ = writeln!(
        svg,
        "<text class=\"value\" x=\"{value:.1}\" y=\"{baseline}\">{shown}</text>"
    );
}

/// Text as it may stand in markup and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // Control characters are not allowed in XML at all.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, values: [f64; 3]) -> Bar {
        Bar {
            label: label.to_owned(),
            value: Summary::of(values).unwrap(),
            class: "weft",
        }
    }

    #[test]
    fn the_longest_bar_fits_and_the_others_are_in_proportion() {
        let drawn = [bar("a", [10.0, 10.0, 20.0]), bar("b & <c>", [5.0; 3])];
        let svg = bars(&drawn, Some(10.0), "speeds");
        let document = roxmltree::Document::parse(&svg).unwrap();
        let rects: Vec<f64> = document
            .descendants()
            .filter(|node| node.has_tag_name("rect"))
            .map(|rect| rect.attribute("width").unwrap().parse().unwrap())
            .collect();
        assert_eq!(rects, [LONGEST / 2.0, LONGEST / 4.0]);
        let count = |name| {
            document
                .descendants()
                .filter(|n| n.has_tag_name(name))
                .count()
        };
        // Only one bar has a range worth drawing.
        assert_eq!((count("path"), count("line")), (1, 1));
        let texts = document.descendants().filter_map(|n| n.text());
        assert!(texts.into_iter().any(|text| text == "b & <c>"));
    }

    #[test]
    fn nothing_and_zero_are_drawn_too() {
        for drawn in [vec![], vec![bar("zero", [0.0; 3])]] {
            let svg = bars(&drawn, None, "nothing");
            roxmltree::Document::parse(&svg).unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
        }
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(
            escape("<a b='c'>&\"\u{7}"),
            "&lt;a b=&#39;c&#39;&gt;&amp;&quot;\u{fffd}"
        );
    }
}
