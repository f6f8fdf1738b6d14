//! A sitting as one HTML page that needs nothing else.

use super::Summary;
use super::sitting::{Row, Setting, Sitting};
use super::svg::{self, Bar, escape};
use crate::load::Workload;
use std::fmt::Write;
use weft_lab::{Contestant, Path};

/// The page. It is well-formed XML, too.
pub fn render(sitting: &Sitting) -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>weft bench</title>\n",
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        "<style>{}</style>\n</head>\n<body>",
        include_str!("html.css")
    );
    head(&mut page, sitting);
    overview(&mut page, sitting);
    for setting in &sitting.settings {
        section(&mut page, setting, sitting.rounds);
    }
    legend(&mut page, sitting);
    page += "</body>\n</html>\n";
    page
}

/// Facts about machine and sitting, and what is missing.
fn head(page: &mut String, sitting: &Sitting) {
    let Sitting {
        version,
        command,
        started,
        rounds,
        seconds,
        ..
    } = sitting;
    let host = &sitting.host;
    let plural = if *rounds == 1 { "" } else { "s" };
    let runs = format!("{} of {}", sitting.measured(), sitting.planned);
    let measured = format!("{rounds} interleaved round{plural} of {seconds} s; {runs} runs");
    let cores = host.cores.to_string();
    let facts = [
        ("command", command.as_str()),
        ("started", started),
        ("weft", version),
        ("kernel", &host.kernel),
        ("CPU", &host.cpu),
        ("cores", &cores),
        ("measured", &measured),
    ];
    *page += "<h1>weft bench</h1>\n<table class=\"facts\">\n";
    for (name, value) in facts {
        let value = escape(value);
        let _ = writeln!(page, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    *page += "</table>\n";
    let lines = sitting.shortcomings();
    if !lines.is_empty() {
        *page += "<div class=\"notes\"><h2>What is missing</h2>\n<ul>\n";
        for line in lines {
            let _ = writeln!(page, "<li>{}</li>", escape(&line));
        }
        *page += "</ul></div>\n";
    }
    *page += "<p>Figures are medians over the rounds, ranges run from the smallest to the \
              largest round. Ratios are taken to kernel VXLAN within each round. Nodes, pods, \
              senders and receivers share this one machine.</p>\n";
}

/// Ratios to the kernel at a glance: loads down, contestants across.
fn overview(page: &mut String, sitting: &Sitting) {
    for setting in &sitting.settings {
        let others = setting
            .contestants
            .iter()
            .filter(|c| c.path != Path::Kernel);
        let others: Vec<_> = others.collect();
        let has_any = |w: &&Workload| others.iter().any(|c| setting.ratio(**w, c).is_some());
        let workloads: Vec<_> = setting.workloads.iter().filter(has_any).collect();
        if workloads.is_empty() {
            continue;
        }
        let title = escape(&setting.title());
        let _ = writeln!(
            page,
            "<h2>Against kernel VXLAN; {title}</h2>\n<div class=\"scroll\"><table class=\"data\">\n\
             <tr><th>load</th>{}</tr>",
            cells("th", others.iter().map(|c| c.name))
        );
        for &workload in workloads {
            let _ = write!(page, "<tr><th>{}</th>", escape(workload.title()));
            for &contestant in &others {
                let ratio = setting.ratio(workload, contestant);
                *page += &ratio_cell(ratio, workload.main_figure().lower_is_better);
            }
            *page += "</tr>\n";
        }
        *page += "</table></div>\n";
    }
}

fn cells<'a>(tag: &str, texts: impl Iterator<Item = &'a str>) -> String {
    texts
        .map(|text| format!("<{tag}>{}</{tag}>", escape(text)))
        .collect()
}

/// Coloured where the whole range is on one side of the kernel's.
fn ratio_cell(ratio: Option<Summary>, lower_is_better: bool) -> String {
    let Some(Summary { median, min, max }) = ratio else {
        return "<td>-</td>".to_owned();
    };
    let class = match (min > 1.0, max < 1.0) {
        (true, _) if !lower_is_better => "better",
        (_, true) if lower_is_better => "better",
        (false, false) => "same",
        _ => "worse",
    };
    let range = match min == max {
        true => String::new(),
        false => format!("<small>{min:.2}-{max:.2}</small>"),
    };
    format!("<td class=\"{class}\">{median:.2}{range}</td>")
}

/// A chart and a table for each load of one setting.
fn section(page: &mut String, setting: &Setting, rounds: usize) {
    let _ = writeln!(page, "<h2>{}</h2>", escape(&setting.title()));
    let features = setting.features.iter();
    let features: Vec<_> = features
        .map(|(name, state)| format!("{name} {state}"))
        .collect();
    let (pod_mtu, features) = (setting.pod_mtu, escape(&features.join(", ")));
    let _ = writeln!(
        page,
        "<p class=\"small\">The pods' MTU is {pod_mtu} on all paths. ethtool -k on the nodes' \
         underlay: {features}.</p>\n<div class=\"cards\">"
    );
    for &workload in &setting.workloads {
        let rows = setting.rows(workload);
        if !rows.is_empty() {
            card(page, workload, &rows, rounds);
        }
    }
    *page += "</div>\n";
}

fn card(page: &mut String, workload: Workload, rows: &[Row], rounds: usize) {
    let main = workload.main_figure();
    let better = match main.lower_is_better {
        true => "less is better",
        false => "more is better",
    };
    let title = format!("{}, {}", workload.title(), main.unit);
    let summary = |row: &Row| row.cells.first().and_then(|cell| cell.summary);
    let bars: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            Some(Bar {
                label: row.contestant.name.to_owned(),
                value: summary(row)?,
                class: class(row.contestant),
            })
        })
        .collect();
    let kernel = rows.iter().find(|row| row.contestant.path == Path::Kernel);
    let reference = kernel.and_then(summary).map(|s| s.median);
    let (title, about) = (escape(&title), escape(workload.about()));
    let _ = writeln!(
        page,
        "<section class=\"card\">\n<h3>{title} <small>{better}</small></h3>\n\
         <p class=\"small\">{about}</p>\n{}",
        svg::bars(&bars, reference, workload.title())
    );
    table(page, workload, rows, rounds);
    *page += "</section>\n";
}

fn table(page: &mut String, workload: Workload, rows: &[Row], rounds: usize) {
    let units = workload.figures().iter().map(|figure| figure.unit);
    let _ = writeln!(
        page,
        "<div class=\"scroll\"><table class=\"data\">\n<tr><th></th>{}</tr>",
        cells("th", units)
    );
    for row in rows {
        let name = escape(row.contestant.name);
        let few = match row.rounds < rounds {
            true => format!("<small>{} of {rounds} rounds</small>", row.rounds),
            false => String::new(),
        };
        let _ = write!(page, "<tr><th>{name}{few}</th>");
        for cell in &row.cells {
            *page += &match cell.summary {
                None => "<td>-</td>".to_owned(),
                Some(summary) => figure_cell(summary),
            };
        }
        *page += "</tr>\n";
    }
    *page += "</table></div>\n";
}

/// The median, and under it the range where there is one.
fn figure_cell(summary: Summary) -> String {
    let text = summary.to_string();
    match text.split_once(" [") {
        Some((median, range)) => {
            let range = range.trim_end_matches(']');
            format!("<td>{median}<small>{range}</small></td>")
        }
        None => format!("<td>{text}</td>"),
    }
}

fn class(contestant: &Contestant) -> &'static str {
    match contestant.path {
        Path::Kernel => "kernel",
        Path::Weft | Path::WeftUdp => "weft",
        Path::Direct | Path::TunTap | Path::UdpProxy | Path::FlannelUdp | Path::Ovs => "other",
    }
}

/// Who is who.
fn legend(page: &mut String, sitting: &Sitting) {
    *page += "<h2>Contestants</h2>\n<table class=\"facts\">\n";
    let part = |c: &&Contestant| sitting.settings.iter().any(|s| s.contestants.contains(c));
    for contestant in weft_lab::CONTESTANTS.iter().filter(|&c| part(&c)) {
        let (name, about) = (escape(contestant.name), escape(contestant.about));
        let _ = writeln!(page, "<tr><th>{name}</th><td>{about}</td></tr>");
    }
    *page += "</table>\n<p class=\"small\">core-s: core-seconds of the whole machine, senders and \
              receivers included. The dashed line in a chart is kernel VXLAN; whiskers are the \
              range over the rounds. All samples: bench.json beside this page.</p>\n";
}

#[cfg(test)]
mod tests {
    use super::super::sitting::example;
    use super::*;

    fn parsed(page: &str) -> roxmltree::Document<'_> {
        let options = roxmltree::ParsingOptions {
            allow_dtd: true,
            ..roxmltree::ParsingOptions::default()
        };
        roxmltree::Document::parse_with_options(page, options).unwrap()
    }

    #[test]
    fn the_page_is_well_formed_and_escaped() {
        let page = render(&example());
        let document = parsed(&page);
        let has = |text: &str| document.descendants().any(|n| n.text() == Some(text));
        assert!(has("A <fast> CPU & more"));
        assert!(has("weft bench --rounds 2"));
        let count = |name| {
            document
                .descendants()
                .filter(|n| n.has_tag_name(name))
                .count()
        };
        assert_eq!((count("svg"), count("section")), (3, 3));
        // Nothing is fetched from anywhere.
        for word in ["http", "src=", "@import", "<script", "url("] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn fewer_rounds_and_gaps_are_said() {
        let page = render(&example());
        assert!(page.contains("weft<small>1 of 2 rounds</small>"));
        assert!(page.contains("flannel udp did not run: flanneld is not in PATH"));
        assert!(page.contains("17 of 18 runs"));
    }

    #[test]
    fn an_empty_sitting_is_a_page_too() {
        let mut sitting = example();
        sitting.settings.clear();
        sitting.broken_off = Some("interrupted".to_owned());
        let page = render(&sitting);
        parsed(&page);
        assert!(page.contains("interrupted"));
    }

    #[test]
    fn ratios_are_coloured_by_their_whole_range() {
        let cell = |values: [f64; 2], lower| ratio_cell(Summary::of(values), lower);
        assert!(cell([1.1, 1.2], false).contains("better"));
        assert!(cell([1.1, 1.2], true).contains("worse"));
        assert!(cell([0.8, 0.9], true).contains("better"));
        assert!(cell([0.8, 0.9], false).contains("worse"));
        assert!(cell([0.9, 1.2], false).contains("same"));
        assert_eq!(ratio_cell(None, false), "<td>-</td>");
    }
}
