//! Changes to a policy's text that leave everything else in it as it is, comments included.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};
use weir_policy::{Policy, check_client_id, parse_limit, spell_limit};

/// A limit that lets nothing through.
const BLOCKED: &str = "0 requests/second";

/// Why a change can't be made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("there is no client {0:?}; see `weir client list`")]
    NoClient(String),
    #[error("there is a client {0:?} already; see `weir client set`")]
    IsThere(String),
    #[error("{0}")]
    Word(#[from] weir_policy::Fault),
    #[error("client {0}: {1} is not written as a list there; change it by hand")]
    NoList(String, &'static str),
    #[error("no key of a client begins with {0:?}; see `weir client show`")]
    NoKey(String),
    #[error("several keys begin with {0:?}; give more of the hash")]
    ManyKeys(String),
}

/// A policy's text, open for changes.
pub struct Draft(DocumentMut);

/// What a client is given; what is none stays as it is.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Fields {
    /// What people call the client
    #[arg(long)]
    pub name: Option<String>,
    #[arg(long)]
    pub tier: Option<String>,
    /// A mail address; may be repeated, and replaces all there are
    #[arg(long = "contact", value_name = "ADDRESS")]
    pub contacts: Vec<String>,
    /// Such as America/Chicago
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// A limit of its own, such as "100 requests/minute"; may be repeated, and replaces all there are
    #[arg(long = "limit", value_name = "LIMIT")]
    pub limits: Vec<String>,
    /// Decide and tell, but refuse nothing
    #[arg(long, value_name = "true|false")]
    pub dry_run: Option<bool>,
    /// No limits at all
    #[arg(long, value_name = "true|false")]
    pub exempt: Option<bool>,
}

/// More of a limit for a while.
pub struct NewGrant {
    pub limit: String,
    pub until_s: i64,
    pub reason: String,
}

impl Draft {
    /// The text of a policy that was found right.
    pub fn of(text: &str) -> Result<Draft, weir_policy::Fault> {
        let text = text.trim_start_matches('\u{feff}');
        let document = text.parse().map_err(|error: toml_edit::TomlError| {
            weir_policy::Fault::new(
                format!("the policy can't be edited: {}", error.message()),
                "edit it by hand",
            )
        })?;
        Ok(Draft(document))
    }

    pub fn text(&self) -> String {
        self.0.to_string()
    }

    fn clients(&mut self) -> Option<&mut dyn TableLike> {
        self.0.get_mut("clients")?.as_table_like_mut()
    }

    fn client(&mut self, id: &str) -> Result<&mut dyn TableLike, EditError> {
        let client = self.clients().and_then(|clients| clients.get_mut(id)?.as_table_like_mut());
        client.ok_or_else(|| EditError::NoClient(id.to_owned()))
    }

    pub fn add(&mut self, id: &str, fields: &Fields, keys: &[String]) -> Result<(), EditError> {
        check_client_id(id)?;
        if self.client(id).is_ok() {
            return Err(EditError::IsThere(id.to_owned()));
        }
        if self.0.get("clients").is_none() {
            let mut clients = Table::new();
            clients.set_implicit(true);
            self.0.insert("clients", Item::Table(clients));
        }
        let is_inline = self.0["clients"].is_inline_table();
        let new = if is_inline { Item::Value(InlineTable::new().into()) } else { Item::Table(Table::new()) };
        if let Some(clients) = self.clients() {
            clients.insert(id, new);
        }
        self.set(id, fields)?;
        keys.iter().try_for_each(|key| self.add_key(id, key))
    }

    pub fn set(&mut self, id: &str, fields: &Fields) -> Result<(), EditError> {
        let client = self.client(id)?;
        for (key, text) in [("name", &fields.name), ("tier", &fields.tier), ("timezone", &fields.timezone)] {
            if let Some(text) = text {
                put(client, key, text.as_str().into());
            }
        }
        for (key, list) in [("contacts", &fields.contacts), ("limits", &fields.limits)] {
            if !list.is_empty() {
                put(client, key, list.iter().map(String::as_str).collect::<Array>().into());
            }
        }
        for (key, flag) in [("dry_run", fields.dry_run), ("exempt", fields.exempt)] {
            if let Some(flag) = flag {
                put(client, key, flag.into());
            }
        }
        Ok(())
    }

    /// Refuses everything from the client, or no longer.
    pub fn block(&mut self, id: &str, is_blocked: bool) -> Result<(), EditError> {
        let limits = list(self.client(id)?, id, "limits")?;
        let at = limits.iter().position(|item| item.as_str().is_some_and(is_block));
        match (at, is_blocked) {
            (None, true) => limits.push(BLOCKED),
            (Some(at), false) => drop(limits.remove(at)),
            _ => {}
        }
        if is_blocked {
            // Neither may let through what is blocked.
            let client = self.client(id)?;
            put(client, "exempt", false.into());
            put(client, "dry_run", false.into());
        }
        Ok(())
    }

    pub fn add_key(&mut self, id: &str, hash: &str) -> Result<(), EditError> {
        list(self.client(id)?, id, "keys")?.push(hash);
        Ok(())
    }

    /// Takes a key away that begins with `start`, or lets it end at a time. Returns whose it was.
    pub fn revoke(&mut self, policy: &Policy, start: &str, at_s: Option<i64>) -> Result<String, EditError> {
        let spelt = |key: &weir_policy::Key| weir_policy::spell_hash(&key.hash);
        let digits = start.trim_start_matches("sha256:");
        let fits = |hash: &str| !digits.is_empty() && hash["sha256:".len()..].starts_with(digits);
        let all = policy.clients.iter().flat_map(|client| client.keys.iter().map(|k| (&client.id, spelt(k))));
        let found: Vec<_> = all.filter(|(_, hash)| fits(hash)).collect();
        let (id, hash) = match found.as_slice() {
            [] => return Err(EditError::NoKey(start.to_owned())),
            [(id, hash)] => (id.to_string(), hash.clone()),
            _ => return Err(EditError::ManyKeys(start.to_owned())),
        };
        let keys = list(self.client(&id)?, &id, "keys")?;
        let is_it = |item: &Value| hash_of(item).is_some_and(|text| text.eq_ignore_ascii_case(&hash));
        let at = keys.iter().position(is_it).ok_or_else(|| EditError::NoKey(start.to_owned()))?;
        match at_s {
            None => drop(keys.remove(at)),
            Some(at_s) => {
                let mut ending = match keys.get(at).and_then(Value::as_inline_table) {
                    Some(table) => table.clone(),
                    None => InlineTable::from_iter([("hash", Value::from(hash))]),
                };
                ending.insert("not_after", instant(at_s));
                keys.replace(at, ending);
            }
        }
        Ok(id)
    }

    pub fn grant(&mut self, id: &str, grant: &NewGrant) -> Result<(), EditError> {
        let entries = [
            ("limit", grant.limit.as_str().into()),
            ("until", instant(grant.until_s)),
            ("reason", grant.reason.as_str().into()),
        ];
        let is_inline = self.clients().and_then(|clients| clients.get(id)).is_some_and(Item::is_inline_table);
        let none = || match is_inline {
            true => Item::Value(Array::new().into()),
            false => Item::ArrayOfTables(ArrayOfTables::new()),
        };
        let grants = self.client(id)?.entry("grants").or_insert_with(none);
        if let Some(tables) = grants.as_array_of_tables_mut() {
            tables.push(entries.into_iter().map(|(key, value)| (key, Item::Value(value))).collect());
            return Ok(());
        }
        let grants = grants.as_array_mut().ok_or_else(|| EditError::NoList(id.to_owned(), "grants"))?;
        grants.push(InlineTable::from_iter(entries));
        Ok(())
    }
}

/// Sets a value; what stands around the old one, such as a comment behind it, stays.
fn put(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => drop(table.insert(key, Item::Value(value))),
    }
}

fn list<'a>(client: &'a mut dyn TableLike, id: &str, key: &'static str) -> Result<&'a mut Array, EditError> {
    let item = client.entry(key).or_insert_with(|| Item::Value(Array::new().into()));
    item.as_array_mut().ok_or_else(|| EditError::NoList(id.to_owned(), key))
}

fn is_block(limit: &str) -> bool {
    parse_limit(limit).is_ok_and(|limit| spell_limit(&limit) == BLOCKED)
}

fn hash_of(key: &Value) -> Option<&str> {
    key.as_str().or_else(|| key.as_inline_table()?.get("hash")?.as_str())
}

/// A time as TOML writes it.
fn instant(second: i64) -> Value {
    let text = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX).to_string();
    match text.parse::<toml_edit::Datetime>() {
        Ok(time) => time.into(),
        // It can't be, and the check that follows would say so.
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests;
