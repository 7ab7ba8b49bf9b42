//! `[shop]`.
use super::from_env;

const NAME: &str = "SOUK__SHOP__NAME";

#[test]
fn shop_may_have_a_name() {
    let name = |value| from_env(&[(NAME, value)]).load().shop.name;
    assert_eq!(from_env(&[]).load().shop.name, None);
    assert_eq!(name(""), None);
    assert_eq!(name("Tea & Co"), Some("Tea & Co".to_owned()));
    assert_eq!(name(&"é".repeat(100)), Some("é".repeat(100)));
}

#[test]
fn name_is_one_line_of_text() {
    let error = |value| from_env(&[(NAME, value)]).load_error();
    let message = |problem: &str| format!("shop.name ({NAME}): {problem}");
    let advice = "is not a name; use one such as \"Tea & Co\"";
    assert_eq!(error("  "), message(&format!("\"  \" {advice}")));
    assert_eq!(error("Tea\nCo"), message(&format!("\"Tea\\nCo\" {advice}")));
    let long = "é".repeat(101);
    assert_eq!(error(&long), message("is too long; use at most 100 characters"));
}
