//! Tests how records are split, whatever the chunks.

use super::*;

type Read = (u64, Result<Vec<String>, UnreadableRecord>);

fn split(text: &[u8], chunk_size: usize, max: usize) -> Vec<Read> {
    let mut splitter = CsvSplitter::new(b',', max);
    let mut records: Vec<_> =
        text.chunks(chunk_size).flat_map(|chunk| splitter.push_chunk(chunk)).collect();
    records.extend(splitter.finish());
    let fields = |fields: CsvFields| fields.iter().map(str::to_owned).collect();
    records.into_iter().map(|record| (record.line, record.contents.map(fields))).collect()
}

fn row(fields: &[&str]) -> Result<Vec<String>, UnreadableRecord> {
    Ok(fields.iter().map(|field| (*field).to_owned()).collect())
}

#[test]
fn records_survive_any_chunking() {
    let text = "\r\n\na, b \r\n\"c,\"\"d\"\"\r\n\r\ne\",f\r\rg 27\",h\n\"i\" ,\n\n,\nk".as_bytes();
    let wanted = [
        (3, row(&["a", "b"])),
        (4, row(&["c,\"d\"\r\n\r\ne", "f"])),
        (8, row(&["g 27\"", "h"])),
        (9, row(&["i", ""])),
        (11, row(&["", ""])),
        (12, row(&["k"])),
    ];
    for chunk_size in [1, 2, 3, 5, 1000] {
        assert_eq!(split(text, chunk_size, 100), wanted, "{chunk_size}");
    }
}

#[test]
fn long_record_fails_alone_and_is_not_kept() {
    let many = ",".repeat(5000);
    let text = format!("a\n\"{}\n\",b\n{many}\nc", "x\n".repeat(3000));
    for chunk_size in [1, 7, 100_000] {
        let records = split(text.as_bytes(), chunk_size, 100);
        let too_long = Err(UnreadableRecord::TooLong);
        let wanted =
            [(1, row(&["a"])), (2, too_long.clone()), (3004, too_long), (3005, row(&["c"]))];
        assert_eq!(records, wanted, "{chunk_size}");
    }
    let mut splitter = CsvSplitter::new(b',', 100);
    splitter.push_chunk(&[b'x'; 100_000]);
    let kept = splitter.bytes.capacity() + splitter.text.capacity();
    assert!(kept < 10_000, "{kept} bytes");
    for _ in 0..100 {
        splitter.push_chunk(&[b'x'; 100_000]);
    }
    assert_eq!(splitter.bytes.capacity() + splitter.text.capacity(), kept);
}

#[test]
fn record_with_more_fields_than_expected_is_complete() {
    let text = "x,".repeat(2000);
    let records = split(text.as_bytes(), 333, 10_000);
    assert_eq!(records[0].1.as_ref().unwrap().len(), 2001);
}

#[test]
fn unclosed_quote_and_other_encodings_are_reported() {
    assert_eq!(
        split(b"a\n\"b\nc", 2, 100),
        [(1, row(&["a"])), (2, Err(UnreadableRecord::UnclosedQuote))]
    );
    assert_eq!(split(b"\"a\"", 1, 100), [(1, row(&["a"]))]);
    let latin = [(1, Err(UnreadableRecord::NotUtf8)), (2, row(&["é"]))];
    assert_eq!(split(b"caf\xe9,1\n\xc3\xa9\n", 4, 100), latin);
    assert_eq!(split(b"\xc3,\xa9\n\xc3\xa9", 4, 100), latin);
}

#[test]
fn text_after_a_closing_quote_is_no_part_of_its_field() {
    let after_quote = || Err(UnreadableRecord::TextAfterQuote);
    // The quote before `24` is not closed, so that the one before `a pot` closes it.
    let text = b"a,b,c\n1,\"24 inch,d\n2,\"a pot\",e\n3,\"x\",f\n";
    let wanted = [(1, row(&["a", "b", "c"])), (2, after_quote()), (4, row(&["3", "x", "f"]))];
    for chunk_size in [1, 2, 3, 100] {
        assert_eq!(split(text, chunk_size, 100), wanted, "{chunk_size}");
        for record in ["\"\"A\"\",1\n", "\"B\"x,1\n", "\"C\" \"D\",1\n", "1,\"E\"x"] {
            let found = split(record.as_bytes(), chunk_size, 100);
            assert_eq!(found, [(1, after_quote())], "{record}");
        }
        let quoted = b"\"a\"\t,\"b\"\"\",\"\"\n\"c\"\r\n\"d\"";
        let wanted = [(1, row(&["a", "b\"", ""])), (2, row(&["c"])), (3, row(&["d"]))];
        assert_eq!(split(quoted, chunk_size, 100), wanted);
        // Spaces of any kind may follow.
        let spaces = "\"a\" \u{a0},\"b\"\u{3000}\n\"c\"\u{a0}".as_bytes();
        assert_eq!(split(spaces, chunk_size, 100), [(1, row(&["a", "b"])), (2, row(&["c"]))]);
        // The reader has the whole header before it splits it.
        let marked = [BYTE_ORDER_MARK, quoted].concat();
        assert_eq!(split(&marked, 100, 100), wanted);
        let unquoted = "a,\u{feff}\"b\"c\n";
        let wanted = [(1, row(&["a", "\u{feff}\"b\"c"]))];
        assert_eq!(split(unquoted.as_bytes(), chunk_size, 100), wanted);
    }
}

#[test]
fn record_knows_its_lines() {
    for (text, wanted) in [
        ("a\n\"b\nc\"\nd", vec![1, 2, 1]),
        ("\"a\r\n\r\nb\"\r\nc\r\n", vec![3, 1]),
        ("a\n\"b\nc\nd\n", vec![1, 3]),
    ] {
        let mut splitter = CsvSplitter::new(b',', 100);
        let mut records = splitter.push_chunk(text.as_bytes());
        records.extend(splitter.finish());
        let lines: Vec<u64> = records.iter().map(|record| record.lines).collect();
        assert_eq!(lines, wanted, "{text:?}");
    }
}

#[test]
fn delimiter_is_the_most_frequent_one_of_the_header() {
    for (head, delimiter) in [
        ("sku,name;x,price\n", b','),
        ("sku;name;price\r\n", b';'),
        ("sku\tname\tprice\n", b'\t'),
        ("\"a,b,c\";name\n", b';'),
        ("sku\n", b','),
        ("\r\n;;\nsku;name\n", b';'),
        ("sep=\t\nsku;name\n", b'\t'),
        ("SEP=;\r\nsku,name\r\n", b';'),
    ] {
        assert_eq!(detect_delimiter(head.as_bytes(), false), Some(delimiter), "{head:?}");
    }
    assert_eq!(detect_delimiter(b"sku;name", false), None);
    assert_eq!(detect_delimiter(b"sku;name", true), Some(b';'));
    assert_eq!(detect_delimiter(b"\n", true), Some(b','));
}
