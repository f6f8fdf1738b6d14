//! `weft explain`: what the codes of the log mean, and the page that lists them.

use crate::words::{self, Refusal, print};
use clap::Parser;
use std::ffi::OsString;
use std::fmt::Write;
use std::process::ExitCode;
use weft_control::codes::{self, Code, TOPICS};
use weft_control::text::{nearest, shown};

/// Tell what codes of the log mean, and what to do; without one, list them all
#[derive(Clone, Debug, Parser)]
#[command(name = "weft explain", disable_version_flag = true)]
struct Args {
    /// Such as W0201
    codes: Vec<String>,
    /// Write docs/codes.md
    #[arg(long, conflicts_with = "codes")]
    markdown: bool,
}

/// Act on the words after `weft explain`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args: Result<Args, Refusal> = words::parse("weft explain", words.iter().cloned());
    let text = args.and_then(|args| match args.markdown {
        true => Ok(page()),
        false if args.codes.is_empty() => Ok(list()),
        false => told(&args.codes).map_err(Refusal::Bad),
    });
    match text {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(refusal) => refusal.tell("weft explain"),
    }
}

/// Each of these codes, or which of them is none.
fn told(ids: &[String]) -> Result<String, String> {
    let found = ids
        .iter()
        .map(|id| codes::find(id).ok_or_else(|| unknown(id)));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<String> = found.into_iter().map(entry).collect();
    Ok(texts.join("\n"))
}

fn unknown(id: &str) -> String {
    let near = nearest(id, codes::all().map(|code| code.id));
    let near = near.map_or(String::new(), |near| format!("did you mean {near}? "));
    format!(
        "there is no code {:?}; {near}weft explain lists all",
        shown(id)
    )
}

fn entry(code: &Code) -> String {
    let Code {
        id,
        lines,
        cause,
        remedy,
    } = code;
    let lines = lines.join("\n        ");
    let retired = match codes::all().any(|said| said.id == *id) {
        true => "",
        false => " (no longer said)",
    };
    format!(
        "{id}{retired}\nlog:    {lines}\ncause:  {}\nremedy: {}\n",
        plain(cause),
        plain(remedy)
    )
}

/// All codes, a line each.
fn list() -> String {
    let mut text = String::new();
    for code in codes::all() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}  {}", code.id, code.lines[0]);
    }
    text
}

/// Markdown for a terminal: links as the page that they lead to.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        text.push_str(before);
        match link
            .split_once("](")
            .and_then(|(words, link)| Some((words, link.split_once(')')?)))
        {
            Some((words, (target, behind))) => {
                let target = match target.strip_prefix("../") {
                    Some(target) => target.to_owned(),
                    None => format!("docs/{target}"),
                };
                let _ = write!(text, "{words} ({target})");
                rest = behind;
            }
            None => {
                text.push('[');
                rest = link;
            }
        }
    }
    text.push_str(rest);
    text.replace('`', "")
}

/// docs/codes.md.
fn page() -> String {
    let mut page = String::from(HEAD);
    for topic in &TOPICS {
        let _ = write!(
            page,
            "\n## {}\n\n| code | line | cause | remedy |\n|---|---|---|---|\n",
            topic.title
        );
        for code in topic.codes {
            page.push_str(&row(code, ""));
        }
        for code in topic.retired {
            page.push_str(&row(code, " (no longer said)"));
        }
    }
    page
}

fn row(code: &Code, note: &str) -> String {
    let lines: Vec<String> = code.lines.iter().map(|line| format!("`{line}`")).collect();
    format!(
        "| {}{note} | {} | {} | {} |\n",
        code.id,
        lines.join("<br>"),
        code.cause,
        code.remedy
    )
}

const HEAD: &str = "# Codes

Each line of the [log](log.md) that a person can act on has a code, which stays the same in all versions: `W0201` is
etcd that does not answer, whatever the words are. `weft explain W0201` prints what is here.

This page is written by `weft explain --markdown` from `control/src/codes`, and a test holds it to that.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        told(&words)
    }

    #[test]
    fn a_code_is_told_with_its_lines_cause_and_remedy() {
        let text = of(&["w0201"]).unwrap();
        assert!(
            text.starts_with("W0201\nlog:    etcd unreachable: <server>"),
            "{text}"
        );
        assert!(text.contains("\n        etcd still unreachable"), "{text}");
        assert!(
            text.contains("\ncause:  ") && text.contains("\nremedy: "),
            "{text}"
        );
        let both = of(&["W0201", "W0601"]).unwrap();
        assert!(
            both.starts_with(&text) && both.contains("\n\nW0601\n"),
            "{both}"
        );
    }

    #[test]
    fn a_code_that_is_none_is_refused_with_the_nearest() {
        let refused = of(&["W0201", "W201"]).unwrap_err();
        assert_eq!(
            refused,
            "there is no code \"W201\"; did you mean W0201? weft explain lists all"
        );
        let refused = of(&["bogus\n"]).unwrap_err();
        assert_eq!(
            refused,
            "there is no code \"bogus\\\\n\"; weft explain lists all"
        );
    }

    #[test]
    fn links_lead_to_pages_of_the_repository() {
        let shown = plain("See [a `b`](leases.md#x) and [c](../README.md); [not] this");
        assert_eq!(
            shown,
            "See a b (docs/leases.md#x) and c (README.md); [not] this"
        );
    }

    #[test]
    fn the_list_has_a_line_for_each_code() {
        assert_eq!(list().lines().count(), codes::all().count());
    }
}
