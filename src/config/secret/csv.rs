//! The API key in the CSV file that the Cloud UI offers for download. Pure.
//!
//! The names of its columns are not public, so the column of the key is found by its name among several, in any case;
//! a file with one column and one line is the key itself. A message names known columns and counts the rest: in a
//! file without a heading the first line is the key.

use std::borrow::Cow;

/// What the column of the key may be called, in small letters and without blanks, `_` and `-`.
const KEY_NAMES: [&str; 4] = ["key", "apikey", "encoded", "encodedkey"];

/// Other columns that are known to be no secret, written likewise.
const OTHER_NAMES: [&str; 11] = [
    "id",
    "keyid",
    "apikeyid",
    "name",
    "description",
    "expiration",
    "expirationdate",
    "expires",
    "created",
    "creationdate",
    "user",
];

/// The one key in the text of a CSV file; else what was found, without any of its content.
pub(super) fn key(text: &str) -> Result<String, Cow<'static, str>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows: Vec<Vec<String>> = rows(text)?;
    let Some((heading, below)) = rows.split_first() else { return Err("is empty".into()) };
    let is_key = |cell: &String| KEY_NAMES.contains(&bare(cell).as_str());
    let columns: Vec<usize> = (0..heading.len()).filter(|at| is_key(&heading[*at])).collect();
    match (columns.as_slice(), below) {
        ([_, _, ..], _) => {
            Err(format!("has {} columns that could be the key; one is wanted", columns.len())
                .into())
        }
        ([column], below) => {
            let mut keys =
                below.iter().filter_map(|row| row.get(*column)).filter(|it| !it.is_empty());
            match (keys.next(), keys.count()) {
                (Some(key), 0) => Ok(key.clone()),
                (Some(_), more) => Err(format!("holds {} keys; one is wanted", more + 1).into()),
                (None, _) => Err("has a column for the key, but no key below its heading".into()),
            }
        }
        ([], []) if heading.len() == 1 => Ok(heading[0].clone()),
        ([], below) => Err(format!(
            "has {} and {} below, and no column is called key, api_key, apikey, encoded or api key",
            columns_found(heading),
            count(below.len(), "line")
        )
        .into()),
    }
}

/// `3 columns (id, name and 1 more)`.
fn columns_found(heading: &[String]) -> String {
    let known: Vec<&str> =
        OTHER_NAMES.into_iter().filter(|name| heading.iter().any(|it| bare(it) == *name)).collect();
    let columns = count(heading.len(), "column");
    match (known.is_empty(), heading.len() - known.len().min(heading.len())) {
        (true, _) => format!("{columns} with unknown names"),
        (false, 0) => format!("{columns} ({})", known.join(", ")),
        (false, others) => format!("{columns} ({} and {others} more)", known.join(", ")),
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn bare(cell: &str) -> String {
    cell.chars().filter(|it| !" _-".contains(*it)).flat_map(char::to_lowercase).collect()
}

/// The rows that are not empty. Cells are trimmed; one in quotes may hold separators, line feeds and doubled quotes.
/// Commas separate, or what programs for tables put in their place: semicolons or tabs.
fn rows(text: &str) -> Result<Vec<Vec<String>>, Cow<'static, str>> {
    let first = text.lines().find(|it| !it.trim().is_empty()).unwrap_or_default();
    let separator = [',', ';', '\t'].into_iter().find(|it| first.contains(*it)).unwrap_or(',');
    let mut rows: Vec<Vec<String>> = Vec::new();
    let (mut row, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().chain(['\n']).peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' if quoted || cell.trim().is_empty() => quoted = !quoted,
            _ if quoted => cell.push(char),
            '\n' | '\r' => {
                row.push(std::mem::take(&mut cell).trim().to_owned());
                let full = std::mem::take(&mut row);
                if full.iter().any(|it| !it.is_empty()) {
                    rows.push(full);
                }
            }
            _ if char == separator => row.push(std::mem::take(&mut cell).trim().to_owned()),
            _ => cell.push(char),
        }
    }
    if quoted { Err("has a quote that does not end".into()) } else { Ok(rows) }
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn the_key_is_found_by_the_name_of_its_column() {
        for text in [
            "key\nK==\n",
            "\u{feff}\"Name\",\"API Key\"\r\n\"ci, nightly\",\"K==\"\r\n",
            "id,name,Encoded,Expiration\n1,\"a\"\"b\nc\",K==,2027-01-01\n\n",
            "name;api_key\nci;K==\n",
            "ID\tApiKey\n1\tK==",
            "K==",
            "\u{feff}\"K==\"\r\n",
        ] {
            assert_eq!(key(text).as_deref(), Ok("K=="), "{text}");
        }
    }

    #[test]
    fn what_holds_no_one_key_is_said_without_its_content() {
        for (text, said) in [
            ("", "is empty"),
            ("key,id\n", "has a column for the key, but no key below its heading"),
            ("key\nCANARY\nCANARY2\n", "holds 2 keys; one is wanted"),
            ("key,api key\nCANARY,CANARY\n", "has 2 columns that could be the key; one is wanted"),
            (
                "id,name,CANARY\n1,2,CANARY\n",
                "has 3 columns (id, name and 1 more) and 1 line below, and no column is called key, api_key, apikey, encoded or api key",
            ),
            (
                "CANARY\nCANARY\n",
                "has 1 column with unknown names and 1 line below, and no column is called key, api_key, apikey, encoded or api key",
            ),
            ("key\n\"CANARY\n", "has a quote that does not end"),
        ] {
            assert_eq!(key(text).unwrap_err(), said, "{text}");
        }
    }
}
