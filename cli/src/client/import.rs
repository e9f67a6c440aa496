//! `weir client import`: many clients at once, from a table.

use std::io::Read;

use super::edit::{Draft, EditError, Fields};

const COLUMNS: [&str; 6] = ["id", "name", "tier", "key", "contacts", "timezone"];

/// Why a table can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(
        "{0}; the first line names the columns: id, and any of name, tier, key (sha256:…), contacts, timezone"
    )]
    Columns(String),
    #[error("line {line}: {source}")]
    Client { line: u64, source: EditError },
    #[error("{0}; nothing was added: write every line with as many fields as the first, in UTF-8")]
    Csv(#[from] csv::Error),
}

/// A client of the table.
pub struct Row {
    line: u64,
    id: String,
    fields: Fields,
    keys: Vec<String>,
}

/// Reads all rows. Several contacts or keys of a client stand in one field, with blanks between them.
pub fn read(from: impl Read) -> Result<Vec<Row>, ImportError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(from);
    let columns = reader.headers()?.clone();
    if let Some(unknown) = columns.iter().find(|column| !COLUMNS.contains(column)) {
        return Err(ImportError::Columns(format!("{unknown:?} is not a known column")));
    }
    let at = |name: &str| columns.iter().position(|column| column == name);
    at("id").ok_or_else(|| ImportError::Columns("there is no column \"id\"".to_owned()))?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let field = |name: &str| at(name).and_then(|at| record.get(at)).filter(|text| !text.is_empty());
        let text = |name: &str| field(name).map(str::to_owned);
        let words =
            |name: &str| field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        rows.push(Row {
            line: record.position().map_or(0, csv::Position::line),
            id: text("id").unwrap_or_default(),
            fields: Fields {
                name: text("name"),
                tier: text("tier"),
                timezone: text("timezone"),
                contacts: words("contacts"),
                ..Fields::default()
            },
            keys: words("key"),
        });
    }
    Ok(rows)
}

/// Adds them all, or none.
pub fn add(draft: &mut Draft, rows: &[Row]) -> Result<(), ImportError> {
    rows.iter().try_for_each(|row| {
        let added = draft.add(&row.id, &row.fields, &row.keys);
        added.map_err(|source| ImportError::Client { line: row.line, source })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "[tiers.t]\nlimits = [\"1 requests/hour\"]\n[clients.old]\ntier = \"t\"\n";

    fn imported(table: &str) -> Result<weir_policy::Policy, String> {
        let mut draft = Draft::of(POLICY).unwrap();
        read(table.as_bytes()).and_then(|rows| add(&mut draft, &rows)).map_err(|error| error.to_string())?;
        weir_policy::parse(&draft.text()).map_err(|problems| problems[0].to_string())
    }

    #[test]
    fn a_table_becomes_clients() {
        let table = "id,name,tier,contacts,key\n\"a, b\",\"A \"\"B\"\" Ltd\",t,x@a.example y@a.example,\n\
                     c,,t,,sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
        let policy = imported(table).unwrap();
        let client = policy.client("a, b").unwrap();
        assert_eq!((client.display_name(), client.contacts.len()), ("A \"B\" Ltd", 2));
        assert_eq!(policy.client("c").unwrap().keys.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |table| imported(table).unwrap_err();
        assert!(told("id,colour\n").contains("\"colour\" is not a known column"));
        assert!(told("name\nx\n").contains("no column \"id\""));
        assert!(told("id,tier\nnew,t\nold,t\n").starts_with("line 3: there is a client \"old\" already"));
        assert!(told("id,tier\n,t\n").starts_with("line 2: the name is empty"));
        assert!(told("id,tier\na,t,x\n").contains("line: 2"));
        assert!(told("id,tier\na,gold\n").contains("gold"));
    }
}
