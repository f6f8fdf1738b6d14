//! Findings for people.

use weft_control::doctor::{CheckVerdict, Finding, Remedy};
use weft_control::text::line;

/// The findings that want somebody's eye, or `all`, worst last so that it stands above the prompt,
/// and a line that counts them.
pub(super) fn told(findings: &[Finding], all: bool) -> String {
    let mut shown: Vec<&Finding> = findings
        .iter()
        .filter(|finding| all || finding.verdict >= CheckVerdict::Warning)
        .collect();
    // Checks of one verdict stay in their order.
    shown.sort_by_key(|finding| finding.verdict);
    let mut text: String = shown.into_iter().map(one).collect();
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    text += &format!(
        "checks: {} ok, {} not known, {} warnings, {} failures\n",
        count(CheckVerdict::Ok),
        count(CheckVerdict::Unknown),
        count(CheckVerdict::Warning),
        count(CheckVerdict::Failure)
    );
    text
}

fn one(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        CheckVerdict::Ok => "ok",
        CheckVerdict::Unknown => "not known",
        CheckVerdict::Warning => "warning",
        CheckVerdict::Failure => "FAILURE",
    };
    let Finding { id, why, .. } = finding;
    // Names of devices and rules are what others have written.
    let mut text = format!("{verdict:<9} {id:<16} {}\n", line(why));
    for remedy in &finding.remedies {
        text += &match remedy {
            Remedy::Run(command) => format!("{:>26} $ {}\n", "", line(command)),
            Remedy::Do(what) => format!("{:>26} - {}\n", "", line(what)),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &str, verdict: CheckVerdict, remedies: Vec<Remedy>) -> Finding {
        Finding {
            id: id.to_owned(),
            title: String::new(),
            verdict,
            why: format!("because\nof {id}"),
            remedies,
        }
    }

    #[test]
    fn the_worst_stands_last_with_what_mends_it() {
        let findings = [
            finding(
                "a",
                CheckVerdict::Failure,
                vec![Remedy::Run("mend a".to_owned())],
            ),
            finding("b", CheckVerdict::Ok, Vec::new()),
            finding(
                "c",
                CheckVerdict::Warning,
                vec![Remedy::Do("think".to_owned())],
            ),
        ];
        let text = told(&findings, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[0].starts_with("warning   c  "), "{text}");
        assert!(lines[1].ends_with(" - think"), "{text}");
        assert!(lines[2].starts_with("FAILURE   a  "), "{text}");
        assert!(lines[2].ends_with(r"because\nof a"), "{text}");
        assert!(lines[3].ends_with(" $ mend a"), "{text}");
        assert_eq!(
            lines[4],
            "checks: 1 ok, 0 not known, 1 warnings, 1 failures"
        );
        assert!(told(&findings, true).contains("\nwarning"));
        assert!(told(&findings, true).starts_with("ok        b  "));
    }
}
