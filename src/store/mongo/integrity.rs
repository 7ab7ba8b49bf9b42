//! Finds damaged collections.

use mongodb::{
    Database,
    bson::{Bson, Document, doc},
};

use super::{read::ReadResult, schema::collections, transaction_error::one_line_message};

/// Validates each collection on the primary. In the background the server checks its last
/// checkpoint, and locks nobody out.
pub(super) async fn find_damage(database: Database) -> ReadResult<Vec<String>> {
    let mut problems = Vec::new();
    for collection in collections() {
        match database.run_command(doc! { "validate": collection, "background": true }).await {
            Ok(report) => problems.extend(report_problems(collection, &report)),
            // It may need the role dbAdmin, for one.
            Err(error) => problems.push(format!(
                "collection {collection} could not be checked: {}",
                one_line_message(&error)
            )),
        }
    }
    Ok(problems)
}

fn report_problems(collection: &str, report: &Document) -> Vec<String> {
    let list = |name| report.get_array(name).map(Vec::as_slice).unwrap_or_default();
    let mut problems: Vec<String> = list("errors")
        .iter()
        .map(|error| format!("collection {collection}: {}", error.as_str().unwrap_or("error")))
        .collect();
    let corrupt = list("corruptRecords").len();
    if corrupt > 0 {
        problems.push(format!("collection {collection}: {corrupt} corrupt records"));
    }
    if problems.is_empty() && report.get("valid") != Some(&Bson::Boolean(true)) {
        problems.push(format!("collection {collection} is not valid"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_sorted_into_problems() {
        for (report, expected) in [
            (doc! { "valid": true, "errors": [], "corruptRecords": [] }, &[][..]),
            (doc! { "valid": true }, &[]),
            (doc! { "valid": false }, &["collection carts is not valid"]),
            (
                doc! { "valid": false, "errors": ["index gone"], "corruptRecords": [1_i64, 2_i64] },
                &["collection carts: index gone", "collection carts: 2 corrupt records"],
            ),
        ] {
            assert_eq!(report_problems("carts", &report), expected);
        }
    }
}
