//! Product files as shops have them.

use std::collections::BTreeMap;

use super::*;
use crate::domain::catalog::product::{AttributeValue, ProductPatch};

fn options(format: ProductFileFormat) -> ProductFileOptions {
    ProductFileOptions {
        format,
        currency: "USD".parse().unwrap(),
        max_line_bytes: 200,
        ignore_unknown: false,
        skip_through_line: 0,
    }
}

type Rows = Vec<(u64, Result<ImportRow, Error>)>;

fn read_with(options: ProductFileOptions, text: &[u8], chunk_size: usize) -> Result<Rows, Error> {
    let mut reader = ProductFileReader::new(options);
    let mut lines = Vec::new();
    for chunk in text.chunks(chunk_size) {
        lines.extend(reader.push_chunk(chunk)?);
    }
    lines.extend(reader.finish()?);
    Ok(lines.into_iter().map(|line| (line.number, line.row)).collect())
}

fn read_in_chunks(format: ProductFileFormat, text: &str, chunk_size: usize) -> Rows {
    read_with(options(format), text.as_bytes(), chunk_size).unwrap()
}

/// The only row of a CSV file.
fn csv_row(text: &str) -> Result<ImportRow, Error> {
    read_in_chunks(ProductFileFormat::Csv, text, 7).pop().unwrap().1
}

fn header_error(text: &str) -> String {
    let read = read_with(options(ProductFileFormat::Csv), text.as_bytes(), 100);
    let error = read.unwrap_err();
    assert_eq!(error.field_errors[0].field, "header");
    error.detail.into_owned()
}

#[test]
fn ndjson_lines_survive_any_chunking() {
    let text = "{\"name\":\"A\",\"price\":1}\n\n  \n\
                {\"name\":\"B\",\"price\":2.5,\"stock\":3}\r\nnope\n{\"cost\":1}\n\
                {\"name\":\"D\",\"price\":4}";
    for chunk_size in [1, 2, 7, 1000] {
        let lines = read_in_chunks(ProductFileFormat::Ndjson, text, chunk_size);
        assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 4, 5, 6, 7]);
        let codes: Vec<_> =
            lines.iter().map(|(_, row)| row.as_ref().err().map(|error| error.code)).collect();
        assert_eq!(
            codes,
            [None, None, Some(ErrorCode::MalformedJson), Some(ErrorCode::ValidationFailed), None]
        );
        assert_eq!(lines[1].1.as_ref().unwrap().stock, Some(3));
    }
}

#[test]
fn csv_fields_may_contain_commas_quotes_and_line_breaks() {
    let text = "\u{feff}sku,name,price,stock,tags,attributes,description\r\n\
                A-1,\"Tea, \"\"green\"\"\",4.50,7,green|loose,\
                \"{\"\"organic\"\":true}\",\"two\nlines\"\n\
                A-2,Cup,9.999,,,,\n\
                A-3,Pot,12,1,x,{},\n";
    for chunk_size in [1, 3, 1000] {
        let lines = read_in_chunks(ProductFileFormat::Csv, text, chunk_size);
        assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 4, 5]);
        let row = lines[0].1.clone().unwrap();
        let tea = row.patch.into_details().unwrap();
        assert_eq!(
            (tea.name.as_str(), tea.price.minor_units(), row.stock),
            ("Tea, \"green\"", 450, Some(7))
        );
        assert_eq!((tea.tags.len(), tea.description.as_str()), (2, "two\nlines"));
        assert!(tea.attributes.contains_key("organic"));
        assert_eq!(lines[1].1.as_ref().unwrap_err().field_errors[0].field, "price");
        assert!(lines[2].1.is_ok());
    }
}

#[test]
fn overlong_line_fails_alone() {
    let text = format!(
        "{{\"name\":\"{}\",\"price\":1}}\n{{\"name\":\"B\",\"price\":2}}\n",
        "x".repeat(1000)
    );
    for chunk_size in [10, 100_000] {
        let lines = read_in_chunks(ProductFileFormat::Ndjson, &text, chunk_size);
        assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(lines[0].1.as_ref().unwrap_err().code, ErrorCode::PayloadTooLarge);
        assert!(lines[1].1.is_ok());
    }
}

#[test]
fn unknown_columns_are_named_in_one_error() {
    let message = header_error("name,prize,sku,Colour ,price\n");
    assert!(message.starts_with("unknown columns: prize, Colour; known are name, "), "{message}");
    assert!(message.contains("ignore_unknown"), "{message}");
    let many: String = (0..1000).map(|number| format!("column{number},")).collect();
    let message = header_error(&format!("{}sku\n", many.get(..150).unwrap()));
    assert!(message.contains("column9, "), "{message}");
    let options = ProductFileOptions { max_line_bytes: 20_000, ..options(ProductFileFormat::Csv) };
    let error = read_with(options, format!("{many}sku\n").as_bytes(), 999).unwrap_err();
    assert!(error.detail.contains(" more; known are name, "), "{error}");
}

#[test]
fn unknown_columns_and_members_can_be_ignored() {
    for (format, text) in [
        (ProductFileFormat::Csv, "prize,sku,name,price,colour\nx,A,Cup,5,red\n"),
        (
            ProductFileFormat::Ndjson,
            "{\"prize\":{\"x\":1},\"sku\":\"A\",\"name\":\"Cup\",\"price\":5,\"colour\":\"red\"}",
        ),
    ] {
        let options = ProductFileOptions { ignore_unknown: true, ..options(format) };
        let row = read_with(options, text.as_bytes(), 9).unwrap().pop().unwrap().1.unwrap();
        assert_eq!(row.sku(), Some("A"));
        assert_eq!(row.patch.into_details().unwrap().name, "Cup");
    }
}

#[test]
fn header_may_have_any_order_case_and_spaces() {
    let row = csv_row("PRICE, Name ,\"Sku\"\n5,Cup,A\n").unwrap();
    assert_eq!(row.sku(), Some("A"));
    assert_eq!(row.patch.into_details().unwrap().price.minor_units(), 500);
    assert!(header_error("sku,name,NAME\n").contains("the column name occurs twice"));
    for text in ["name,stock\n", "price\n", "description,tags"] {
        assert!(header_error(text).contains("sku, or name and price"), "{text}");
    }
    let utf_16: Vec<u8> = "\u{feff}sku,name\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let error = read_with(options(ProductFileFormat::Csv), &utf_16, 3).unwrap_err();
    assert!(error.detail.contains("UTF-16"), "{error}");
}

#[test]
fn semicolons_and_tabs_separate_fields_too() {
    for (text, tag) in [
        ("\u{feff}sku;name;price;tags\r\nA;\"Tea; green, loose\";4,5;a|b\r\n", "a"),
        ("sku\tname\tprice\ttags\nA\tTea; green, loose\t4.50\ta | b |\n", "a"),
        ("sep=;\r\nsku;name;price;tags\r\nA;Tea\\, x;4,50;a\r\n", "a"),
    ] {
        for chunk_size in [1, 4, 1000] {
            let mut rows = read_in_chunks(ProductFileFormat::Csv, text, chunk_size);
            let details = rows.pop().unwrap().1.unwrap().patch.into_details().unwrap();
            assert_eq!(details.price.minor_units(), 450, "{text:?}");
            assert_eq!(details.tags[0], tag);
            assert!(details.name.starts_with("Tea") && rows.is_empty(), "{details:?}");
        }
    }
}

#[test]
fn comma_is_a_decimal_point_before_one_or_two_digits() {
    let price = |cell: &str| {
        csv_row(&format!("sku;price\nA;{cell}\n"))
            .map(|row| row.patch.price.flatten().unwrap().minor_units())
            .map_err(|error| error.field_errors[0].field.clone())
    };
    assert_eq!([price("4,50"), price("0,5"), price("1200,00")], [Ok(450), Ok(50), Ok(120_000)]);
    for cell in ["1,250", "1.250,00", ",5", "4,", "-4,50", "4,5x", "$4"] {
        assert_eq!(price(cell), Err("price".to_owned()), "{cell}");
    }
}

#[test]
fn rows_of_nothing_but_separators_are_skipped() {
    let text = ",,,\nsku,name,price,stock\n,,,\n , ,\t,\n\n   \n\"\",,,\n,,\n,,,,,,\nA,Cup,5,\n,,,";
    let rows = read_in_chunks(ProductFileFormat::Csv, text, 5);
    assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [10]);
    assert!(rows[0].1.is_ok());
}

#[test]
fn unnamed_columns_must_be_empty() {
    let rows = read_in_chunks(ProductFileFormat::Csv, "sku,,price,\nA,,5,\nB,x,5,\nC,,5\n", 99);
    assert!(rows[0].1.is_ok());
    let error = rows[1].1.as_ref().unwrap_err();
    assert!(error.detail.contains("column 2 has no name"), "{error}");
    assert!(rows[2].1.is_err(), "a cell is missing");
}

#[test]
fn attributes_are_one_json_object() {
    let attributes = |cell: &str| {
        csv_row(&format!("sku,attributes\nA,\"{}\"\n", cell.replace('"', "\"\"")))
            .map(|row| row.patch.attributes.flatten().unwrap())
            .map_err(|error| error.field_errors[0].field.clone())
    };
    let red = Some(AttributeValue::Text("red".into()));
    assert_eq!(
        attributes(r#" {"color":"red","size":null} "#),
        Ok(BTreeMap::from([("color".to_owned(), red), ("size".to_owned(), None)]))
    );
    for (cell, field) in [
        ("red", "attributes"),
        ("null", "attributes"),
        ("[1]", "attributes"),
        (r#"{}, "name": "x""#, "attributes"),
        (r#"{"a": [1]}"#, "attributes.a"),
        (r#"{"a": 1, "a": 2}"#, "attributes.a"),
    ] {
        assert_eq!(attributes(cell), Err(field.to_owned()), "{cell}");
    }
}

#[test]
fn lines_can_be_skipped() {
    for (format, text) in [
        (ProductFileFormat::Csv, "sku,price\nA,x\n\nB,2\n,\nC,3"),
        (ProductFileFormat::Ndjson, "nope\n\n\n{\"sku\":\"B\"}\n\n{\"sku\":\"C\"}"),
    ] {
        let skipping = |line| ProductFileOptions { skip_through_line: line, ..options(format) };
        for (line, numbers) in
            [(2, &[4, 6][..]), (3, &[4, 6]), (4, &[6]), (5, &[6]), (6, &[]), (99, &[])]
        {
            let rows = read_with(skipping(line), text.as_bytes(), 3).unwrap();
            assert!(rows.iter().map(|(number, _)| number).eq(numbers), "{format:?} after {line}");
        }
    }
}

#[test]
fn ends_of_lines_add_up_to_the_file() {
    for (format, text) in [
        (ProductFileFormat::Csv, "\u{feff}sku,price\r\nA,1\r\n\r\n\"B\r\n\",2\r\n"),
        (ProductFileFormat::Ndjson, "{\"sku\":\"A\"}\r\n\n{\"sku\":\"B\"}"),
    ] {
        let mut reader = ProductFileReader::new(options(format));
        let mut lines = Vec::new();
        for chunk in text.as_bytes().chunks(3) {
            lines.extend(reader.push_chunk(chunk).unwrap());
        }
        lines.extend(reader.finish().unwrap());
        let ends: Vec<_> = lines.iter().map(|line| line.end as usize).collect();
        // A carriage return ends a CSV record; the line feed after it is read with the next one.
        let last = text.trim_end_matches('\n').len();
        assert_eq!(ends.len(), 2);
        assert!(ends[0] < ends[1] && (last..=text.len()).contains(&ends[1]), "{ends:?}");
        assert!(lines[1].bytes.windows(1).any(|byte| byte == b"B"));
    }
}

#[test]
fn quote_inside_unquoted_field_is_literal() {
    let lines = read_in_chunks(
        ProductFileFormat::Csv,
        "sku,name,price\nA,Monitor 27\",100\nB,\"Cup \"\"big\"\"\",5\n",
        1,
    );
    let names: Vec<_> =
        lines.into_iter().map(|(_, row)| row.unwrap().patch.name.flatten().unwrap()).collect();
    assert_eq!(names, ["Monitor 27\"", "Cup \"big\""]);
}

#[test]
fn unreadable_record_fails_alone() {
    let unclosed = csv_row("sku,name,price\nA,\"never closed,1\nB,Cup,5\n").unwrap_err();
    assert_eq!(unclosed.field_errors[0].field, "line");
    let text = b"sku,name,price\nF,ok,1\nG,caf\xe9,100\nH,Cup,5\n";
    let rows = read_with(options(ProductFileFormat::Csv), text, 100).unwrap();
    assert_eq!(rows.iter().map(|(_, row)| row.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    let old_mac = read_in_chunks(ProductFileFormat::Csv, "sku,name,price\rD,Pot,1\rE,Cup,x", 4);
    assert_eq!(
        old_mac.iter().map(|(line, row)| (*line, row.is_ok())).collect::<Vec<_>>(),
        [(2, true), (3, false)]
    );
    let long = format!("sku,name\nA,{}\nB,Cup\n", "x".repeat(300));
    let rows = read_in_chunks(ProductFileFormat::Csv, &long, 50);
    assert_eq!(rows[0].1.as_ref().unwrap_err().code, ErrorCode::PayloadTooLarge);
    assert!(rows[1].1.is_ok());
}

#[test]
fn byte_order_mark_is_stripped() {
    assert!(
        read_in_chunks(ProductFileFormat::Ndjson, "\u{feff}{\"name\":\"A\",\"price\":1}\n", 1)[0]
            .1
            .is_ok()
    );
}

#[test]
fn empty_cells_and_missing_columns_keep_values() {
    let header = "sku,name,description,price,stock,category,tags,image_url,attributes,\
                  purchase_limit,weight_grams,tax_class";
    let row = csv_row(&format!("{header}\nA,, ,\t,,,|,,,,,\n")).unwrap();
    assert_eq!((row.sku(), row.stock), (Some("A"), None));
    assert_eq!(row.patch, ProductPatch { sku: row.patch.sku.clone(), ..ProductPatch::default() });
    for cell in ["null", "0.5", "x"] {
        for column in ["purchase_limit", "weight_grams"] {
            let error = csv_row(&format!("sku,{column}\nA,{cell}\n")).unwrap_err();
            assert_eq!(error.field_errors[0].field, column, "{cell}");
        }
    }
}

#[test]
fn outer_spaces_are_trimmed() {
    let csv =
        csv_row("sku,name,category,tags\n\" 12 Oaktree\",\"\nMint\r\ntea \", Coffee ,a | b\n");
    let json = "{\"sku\":\" 12 Oaktree\",\"name\":\"\\nMint\\r\\ntea \",\
                \"category\":\" Coffee \",\"tags\":[\"a \",\" b\"]}";
    let json = read_in_chunks(ProductFileFormat::Ndjson, json, 9).pop().unwrap().1;
    for row in [csv.unwrap(), json.unwrap()] {
        assert_eq!(row.sku(), Some("12 Oaktree"));
        assert_eq!(row.patch.name, Some(Some("Mint tea".into())));
        assert_eq!(row.patch.category, Some(Some("Coffee".into())));
        assert_eq!(row.patch.tags, Some(Some(vec!["a".into(), "b".into()])));
    }
}

#[test]
fn field_count_mismatch_is_rejected() {
    let lines = read_in_chunks(ProductFileFormat::Csv, "name,price\na,1,2\n", 100);
    assert_eq!(lines[0].1.as_ref().unwrap_err().field_errors[0].field, "line");
}

/// A price must not go to another product, nor a row be lost without a word.
#[test]
fn records_with_unclosed_quotes_fail_and_say_how_far_they_reach() {
    let errors = |text: &str| -> Vec<(u64, String)> {
        let rows = read_in_chunks(ProductFileFormat::Csv, text, 7);
        let detail = |row: Result<ImportRow, Error>| Some(row.err()?.detail.into_owned());
        rows.into_iter().filter_map(|(number, row)| Some((number, detail(row)?))).collect()
    };
    let found = errors(
        "sku,name,description,price\n1,Pan,\"24 inch,5\n2,Pot,\"a pot\",99\n3,Cup,\"a cup\",3\n",
    );
    let [(2, text)] = &found[..] else { panic!("{found:?}") };
    assert!(text.contains("text follows the closing quote of a field"), "{text}");
    assert!(text.contains("2 lines of the file were read as one record"), "{text}");
    let found = errors("sku,name,price\n1,A,1\n2,\"B,1\n3,C,1\n4,D,1\n");
    let [(3, text)] = &found[..] else { panic!("{found:?}") };
    assert!(text.contains("a quoted field is not closed; 3 lines of the file were"), "{text}");
    let found = errors(&format!("sku,name,price\n1,\"A,1\n{}", "2,B,1\n".repeat(100)));
    let [(2, text)] = &found[..] else { panic!("{found:?}") };
    assert!(text.contains("200 bytes. 101 lines of the file were read as one"), "{text}");
}

#[test]
fn array_is_named_and_a_lone_byte_order_mark_is_an_empty_file() {
    let read = |format, text: &str| read_with(options(format), text.as_bytes(), 3);
    let array = "\u{feff}[{\"sku\":\"1\",\"price\":1},\n{\"sku\":\"2\",\"price\":1}]\n";
    let rows = read(ProductFileFormat::Ndjson, array).unwrap();
    let [(1, Err(first)), (2, Err(_))] = &rows[..] else { panic!("{rows:?}") };
    assert!(first.detail.contains("write one object per line"), "{}", first.detail);
    for format in [ProductFileFormat::Ndjson, ProductFileFormat::Csv] {
        for text in ["", "\u{feff}", "\u{feff}\n"] {
            assert!(read(format, text).unwrap().is_empty(), "{format:?} {text:?}");
        }
    }
}
