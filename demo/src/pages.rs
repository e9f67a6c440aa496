//! Looks at the pages as a reader does: over HTTP.

use std::fs;

use weir_testbed::http::Request;

use crate::act::Seen;
use crate::clients::Client;
use crate::stage::Stage;

/// Which pages are served with the right total on them.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub overview: bool,
    pub portals: usize,
    pub portals_expected: usize,
    /// The address of one client's page.
    pub example: Option<String>,
}

/// Opens the overview and every client's page.
pub fn look(stage: &Stage, seen: &Seen, clients: &[Client]) -> Shown {
    let (answered, _) = seen.answered();
    let by_client = seen.by_client(clients);
    let overview = page(stage, "/").is_some_and(|text| text.contains(&grouped(answered as i64)));
    let mut shown = Shown { overview, portals_expected: by_client.len(), ..Shown::default() };
    for folder in portal_folders(stage) {
        let path = format!("/portal/{folder}/");
        let Some(text) = page(stage, &path) else {
            continue;
        };
        let whose = clients.iter().find(|c| text.contains(c.name_start()));
        let total = whose.and_then(|c| by_client.get(&c.id));
        if total.is_some_and(|&total| text.contains(&grouped(total))) {
            shown.portals += 1;
            shown.example = Some(format!("{}{path}", stage.pages.url));
        }
    }
    shown
}

fn portal_folders(stage: &Stage) -> Vec<String> {
    let entries = fs::read_dir(stage.installation.portal()).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn page(stage: &Stage, path: &str) -> Option<String> {
    let answer = Request::get(stage.pages.port, path).send().ok()?;
    (answer.status == 200).then(|| answer.text())
}

/// As the pages write a count: `1,234,567`.
fn grouped(n: i64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_threes() {
        assert_eq!([1, 12, 123, 1234, 123_456].map(grouped), ["1", "12", "123", "1,234", "123,456"]);
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
