//! What the books cost, by the examples `append_cost` of metering/ and `books_cost` of analytics/, which
//! print a name and a value a line.

use std::env;
use std::process::Command;

use crate::error::{BenchError, Result};
use crate::figures::{Bar, Figure, Figures};

/// What a figure has to reach, and of which example it is.
const BARS: [(&str, f64); 4] = [
    ("cpu_record_us", 0.4),
    ("spool_bytes_per_record", 64.0),
    ("parquet_bytes_per_record", 15.0),
    ("tick_s", 1.0),
];

pub fn measure(figures: &mut Figures) -> Result<()> {
    for name in ["append_cost", "books_cost"] {
        let example = env::current_exe()?.with_file_name("examples").join(name);
        if !example.exists() {
            let what = format!("{} is missing: run `make bench-books`", example.display());
            return Err(BenchError::wrong("the books", what));
        }
        eprintln!("books: {}", example.display());
        let output = Command::new(&example).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(BenchError::wrong(
                example.display().to_string(),
                format!("{}, {said}", output.status),
            ));
        }
        figures.0.extend(read(&text));
    }
    Ok(())
}

fn read(text: &str) -> Vec<Figure> {
    let parse = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        let bar = BARS.iter().find(|(known, _)| *known == name).map(|(_, bar)| Bar::AtMost(*bar));
        Some(Figure { name: name.to_owned(), value: value.parse().ok()?, bar })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_bar_is_measured_against_it() {
        let told = read("cpu_record_us 0.25\nbooked 5 of 5\ntick_collect_s 0.1\n");
        let figure = |name: &str, value, bar| Figure { name: name.into(), value, bar };
        let wanted =
            [figure("cpu_record_us", 0.25, Some(Bar::AtMost(0.4))), figure("tick_collect_s", 0.1, None)];
        assert_eq!(told, wanted);
    }
}
