//! Texts that are no TOML, no text, or made to do harm: refused with their place, and nothing ends.

use weir_policy::{Problem, parse, parse_bytes};

const RIGHT: &str = "[tiers.basic]\nlimits = [\"100 requests/minute\"]\n";

fn problems(text: &str) -> Vec<Problem> {
    parse(text).err().unwrap_or_else(|| panic!("accepted:\n{text}"))
}

#[test]
fn broken_text_is_told_with_its_place() {
    for (text, line, column) in [
        ("tiers = ", 1, 9),
        ("a = 1\nb = [1, 2\n", 2, 10),
        ("[tiers.t]\nlimits = [\"1 requests/minute]\n", 2, 30),
        ("[tiers.t", 1, 9),
        ("a = 1\na = 2\n", 2, 1),
    ] {
        let first = &problems(text)[0];
        assert_eq!((first.line, first.column), (line, column), "{text:?}: {first}");
        assert_eq!(first.path, "");
    }
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_place() {
    let bytes = parse_bytes(b"# \xc3\xa9\n\xff\n").unwrap_err();
    assert_eq!(bytes[0].to_string(), "2:1: byte 0xff is not valid UTF-8; save the policy as UTF-8");
    let nul = parse_bytes(b"a = 1\nb = \"\0\"\n").unwrap_err();
    assert!(nul[0].to_string().starts_with("2:6: control character U+0000"));
    let utf_16: Vec<u8> = RIGHT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(parse_bytes(&utf_16).unwrap_err()[0].message.contains("U+0000"));
    assert!(parse_bytes(b"").is_err());
}

#[test]
fn marks_and_line_ends_of_other_editors_are_taken() {
    let windows = format!("\u{feff}{}", RIGHT.replace('\n', "\r\n"));
    assert!(parse(&windows).is_ok());
    let marked = problems(&format!("\u{feff}tier = 1\r\n{RIGHT}"));
    assert!(marked[0].to_string().starts_with("1:1: tier: "));
}

#[test]
fn hostile_texts_are_refused_and_end_nothing() {
    let deep = "[".repeat(20_000);
    let dotted = format!("{}x = 1", "a.".repeat(200_000));
    let spaced = format!("{}x = 1", "a . \"b\" . 'c' .\t".repeat(50_000));
    let header = format!("[{}x]", "a.".repeat(200_000));
    let inline = format!("a = {{ {}x = 1 }}", "a.".repeat(200_000));
    let braces = "a = ".to_owned() + &"{ a = ".repeat(20_000);
    let brackets = format!("a = {deep}");
    let both = format!("{}1{}", format!("{}x = {{", "a.".repeat(78)).repeat(78), "}".repeat(78));
    for text in [&deep, &brackets, &braces, &dotted, &spaced, &header, &inline, &both] {
        let found = problems(text);
        assert!(found.len() <= 101 && found[0].line == 1, "{}", found[0]);
    }
    assert_eq!(problems(&dotted)[0].to_string(), "1:16: a key of more than 8 parts; shorten it");
    let tables: String = (0..200_000).map(|n| format!("[t{n}]\n")).collect();
    let found = problems(&tables);
    assert_eq!(found.len(), 101);
    assert_eq!(found[100].message, "199901 more problems are not listed");
}

#[test]
fn a_text_beyond_the_stated_size_is_not_read() {
    let text = " ".repeat(weir_policy::MAX_POLICY_BYTES + 1);
    assert!(problems(&text)[0].message.contains("more than 67108864"));
}
